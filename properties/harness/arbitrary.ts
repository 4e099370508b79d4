// The one arbitrary of traces. It draws two seeds; the trace comes into being while the lockstep run is driven by them
// (generate.ts) and is recorded on the value. Shrinking works on recorded traces, and as well on bare ones from a store.

import { isAct, type Trace } from '#abi/trace.ts';
import * as fc from 'fast-check';
import type { Fixed, Source } from './generate.ts';
import { candidates, type Position } from './shrink.ts';

/** Bounds of the number of completed operations in a run. */
export interface Lengths {
  readonly min: number;
  readonly max: number;
}

const SEED_MAX = 0x7fff_ffff;

const isTrace = (value: unknown): value is Trace =>
  typeof value === 'object' &&
  value !== null &&
  'header' in value &&
  'steps' in value &&
  Array.isArray(value.steps) &&
  value.steps.every(
    (step: unknown) => typeof step === 'object' && step !== null && ('resume' in step || isAct(step as never)),
  );

const isPosition = (context: unknown): context is Position =>
  typeof context === 'object' && context !== null && 'stage' in context;

/** Values are sources; run them with `drive`, which leaves on them what shrinking needs. */
export class TraceArbitrary extends fc.Arbitrary<Source> {
  readonly #lengths: Lengths;

  constructor(lengths: Lengths = { min: 50, max: 100 }) {
    super();
    this.#lengths = lengths;
  }

  generate(mrng: fc.Random): fc.Value<Source> {
    const source: Source = {
      kind: 'seeds',
      header: mrng.nextInt(-SEED_MAX, SEED_MAX),
      steps: mrng.nextInt(-SEED_MAX, SEED_MAX),
      length: mrng.nextInt(this.#lengths.min, this.#lengths.max),
    };
    return new fc.Value<Source>(source, undefined);
  }

  /** A stored trace can be shrunk again. */
  canShrinkWithoutContext(value: unknown): value is Source {
    return typeof value === 'object' && value !== null && 'trace' in value && isTrace(value.trace);
  }

  /** Smaller traces, best first; nothing for seeds that have not been run. */
  shrink(value: Source, context: unknown): fc.Stream<fc.Value<Source>> {
    const trace = value.kind === 'trace' ? value.trace : value.recorded;
    if (trace === undefined) return fc.Stream.nil();
    const from = isPosition(context) ? context : undefined;
    return new fc.Stream(shrunk(trace, { failedAt: value.failedAt, from }));
  }
}

function* shrunk(
  trace: Trace,
  at: { readonly failedAt: number | undefined; readonly from: Position | undefined },
): Generator<fc.Value<Source>, void, undefined> {
  for (const { trace: smaller, position } of candidates(trace, at)) {
    const fixed: Fixed = { kind: 'trace', trace: smaller };
    yield new fc.Value<Source>(fixed, position);
  }
}
