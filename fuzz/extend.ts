// Guidance: traces that reached a semantic state never seen before are kept, and in a share of the runs a prefix of one of
// them is run first and then extended by fresh steps. Labels in a trace are unique, so the generator, which counts its own
// from 0, sees the run through a pane that shifts them. A first reader may skip `Shifted`.

import type { Label } from '#abi/operand.ts';
import { isAct, type Step, type Trace } from '#abi/trace.ts';
import type { Prng } from '#lib/prng.ts';
import type { Feed } from '#museum/attempt.ts';
import { Through } from '#museum/through.ts';
import { drive, type Driven, type Seeded } from '#properties/harness/generate.ts';

/** `value` with every label that an operand names moved by `by`. */
function moved<T>(value: T, by: number): T {
  if (Array.isArray(value)) return value.map((part: unknown) => moved(part, by)) as T;
  if (typeof value !== 'object' || value === null) return value;
  const entries = Object.entries(value).map(([name, part]: [string, unknown]) => [
    name,
    name === 'step' && typeof part === 'number' ? part + by : moved(part, by),
  ]);
  return Object.fromEntries(entries) as T;
}

const movedStep = (step: Step, by: number): Step =>
  isAct(step)
    ? { ...step, label: step.label + by, op: moved(step.op, by) }
    : { ...step, label: step.label + by, resume: step.resume + by };

/** A run whose labels look as if they began at -`by`. */
class Shifted extends Through {
  readonly #by: number;

  constructor(run: Driven, by: number) {
    super(run);
    this.#by = by;
  }

  override get flights() {
    return super.flights.map((flight) => ({ ...flight, label: flight.label - this.#by }));
  }

  override apply(step: Step) {
    return super.apply(movedStep(step, this.#by));
  }

  override handedOut(label: Label, index: number): number | undefined {
    return super.handedOut(label + this.#by, index);
  }
}

/** A feed that runs `prefix` and then what `source` generates, up to the source's length in all. */
export const extended = (prefix: Trace, source: Seeded): Feed => ({
  header: prefix.header,
  drive: (run) => {
    for (const step of prefix.steps) if (run.failure === undefined) run.apply(step);
    const by = Math.max(-1, ...prefix.steps.map(({ label }) => label)) + 1;
    drive(new Shifted(run, by), source);
  },
});

/** Traces kept at most; the oldest go first. */
const CORPUS_MAX = 256;

/** Traces that reached something new, for one campaign. Mutable, owned by it. */
export class Corpus {
  readonly semantic = new Set<number>();
  readonly #traces: Trace[] = [];

  /** Takes in what a run reached; keeps its trace if that was new. Answers how many states were. */
  take(trace: Trace, semantic: ReadonlySet<number>): number {
    const before = this.semantic.size;
    for (const state of semantic) this.semantic.add(state);
    const fresh = this.semantic.size - before;
    if (fresh > 0 && trace.steps.length > 0) {
      this.#traces.push(trace);
      if (this.#traces.length > CORPUS_MAX) this.#traces.shift();
    }
    return fresh;
  }

  /** A prefix of a kept trace, at least half of it; undefined while there is none. */
  prefix(prng: Prng): Trace | undefined {
    if (this.#traces.length === 0) return undefined;
    const { header, steps } = prng.pick(this.#traces);
    const half = Math.floor(steps.length / 2);
    return { header, steps: steps.slice(0, half + prng.below(half + 1)) };
  }
}
