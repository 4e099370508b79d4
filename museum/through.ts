// A run as somebody sees it who does not drive it alone: everything is passed on, and whoever extends this changes what they
// must. A first reader may skip it.

import type { Label } from '#abi/operand.ts';
import type { Step } from '#abi/trace.ts';
import type { Driven } from '#properties/harness/generate.ts';

/** Passes everything on to `run`. */
export class Through implements Driven {
  protected readonly run: Driven;

  constructor(run: Driven) {
    this.run = run;
  }

  get header(): Driven['header'] {
    return this.run.header;
  }

  get state(): Driven['state'] {
    return this.run.state;
  }

  get operations(): number {
    return this.run.operations;
  }

  get failure(): Driven['failure'] {
    return this.run.failure;
  }

  get flights(): Driven['flights'] {
    return this.run.flights;
  }

  apply(step: Step): ReturnType<Driven['apply']> {
    return this.run.apply(step);
  }

  finish(): void {
    this.run.finish();
  }

  handedOut(label: Label, index: number): number | undefined {
    return this.run.handedOut(label, index);
  }
}
