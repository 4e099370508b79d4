// Simulated hardware: accessed and dirty flags that a walk wants set, in one memory. They are set at once, so that every later read
// of the same access sees them: tables of two dimensions may share words. A walk that may be started over by other rules is first
// tried (`tries`): that sets nothing, and whoever tried it learns whether it wanted anything.
// A first reader may skip it. Source: Intel SDM vol. 3A, "Accessed and Dirty Flags".

import { or } from '#lib/bits.ts';

/** Flags to be set in one memory. */
export class Marks {
  readonly memory: Int32Array;
  #isTrial = false;
  #wanted = false;

  constructor(memory: Int32Array) {
    this.memory = memory;
  }

  /** Wants `flags` set in a cell of memory. Negative: there is no such cell. What is already set may be given. */
  add(cell: number, flags: number): void {
    if (cell < 0) return;
    if (this.#isTrial) this.#wanted = true;
    else this.memory[cell] = or(this.memory[cell] as number, flags);
  }

  /** Begins to try. */
  tries(): void {
    this.#isTrial = true;
    this.#wanted = false;
  }

  /** Ends it; whether flags were wanted, so that what was read since may not be what a walk reads that sets them. */
  wanted(): boolean {
    this.#isTrial = false;
    return this.#wanted;
  }
}
