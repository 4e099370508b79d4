// Is there a shorter trace with the same failure? Breadth-first search from the booted machine over everything that can be
// said with the words of the trace: its kinds of operations, its agents, and per field the values that occur in it; with the
// pauses that occur in it, at most two at a time. States are told apart by digest. While nothing is in flight a state is a
// checkpoint; with operations paused it is the last checkpoint and the steps since, which are replayed.
// The answer is a certificate, a shorter trace, or the bound that was reached. A first reader may skip the alphabet.

import { geometries } from '#abi/geometry.ts';
import type { Pause } from '#abi/points.ts';
import { isAct, type Step, type Trace } from '#abi/trace.ts';
import { fold, hashText } from '#lib/hash.ts';
import { alphabetOf, keyOf, withRawNumbers, type Letter } from './alphabet.ts';
import { fingerprint, type Failure } from './law.ts';
import { Lockstep, type Checkpoint } from './lockstep.ts';
import type { Subject } from './subject.ts';

export interface Limits {
  /** Steps applied at most, replayed ones included. */
  readonly steps: number;
  /** States kept at most. */
  readonly states: number;
  /** Different steps tried in every state at most. */
  readonly alphabet: number;
}

export const DEFAULT_LIMITS: Limits = { steps: 60_000, states: 10_000, alphabet: 400 };

/**
 * certified: no shorter trace of the steps that were tried, `letters` of them, fails alike. They are made from the words of the
 * trace itself: of steps in other words nothing is said. Otherwise how far the search came.
 */
export type Certificate =
  | { readonly certified: true; readonly states: number; readonly letters: number }
  | { readonly certified: false; readonly bound: string; readonly shorter?: Trace };

interface Node {
  readonly checkpoint: Checkpoint;
  /** Digest at the checkpoint. */
  readonly digest: number;
  /** Steps from boot to the checkpoint, and since. */
  readonly path: readonly Step[];
  readonly tail: readonly Step[];
}

const PAUSED_MAX = 2;

class Search {
  readonly #subject: Subject;
  readonly #trace: Trace;
  readonly #failure: Failure;
  readonly #limits: Limits;
  readonly #letters: readonly Letter[];
  /** How many different steps are tried. */
  readonly letters: number;
  /** Pauses of resumed operations that occur, and none. */
  readonly #furtherPauses: readonly (Pause | undefined)[];
  readonly #seen = new Set<number>();
  #run: Lockstep;
  /** The checkpoint at whose state the run stands, if it stands at one. */
  #standing: Checkpoint | undefined = undefined;
  #applied = 0;
  shorter: Trace | undefined = undefined;
  /** Why the search is not whole; undefined so far. */
  bound: string | undefined;

  constructor(subject: Subject, trace: Trace, of: { failure: Failure; limits: Limits }) {
    this.#subject = subject;
    this.#trace = trace;
    this.#failure = of.failure;
    this.#limits = of.limits;
    const { letters, isWhole } = alphabetOf(withRawNumbers(subject, trace), of.limits.alphabet);
    this.#letters = letters;
    this.letters = letters.length;
    this.bound = isWhole ? undefined : `${letters.length} different steps tried, more are possible`;
    const pauses = trace.steps.filter((step) => !isAct(step)).map((step) => step.pause);
    this.#furtherPauses = [...new Map([undefined, ...pauses].map((pause) => [keyOf(pause ?? null), pause])).values()];
    this.#run = this.#fresh();
  }

  get states(): number {
    return this.#seen.size;
  }

  /** Looks for a trace of fewer steps than `length`. */
  below(length: number): void {
    // Nothing is shorter than a header that fails by itself.
    if (length === 0 || this.#isFailed([])) return;
    const digest = this.#run.digest();
    this.#seen.add(fold(digest, 0));
    let nodes: Node[] = [{ checkpoint: this.#run.checkpoint(), digest, path: [], tail: [] }];
    for (let depth = 1; depth < length && nodes.length > 0; depth += 1) {
      const next: Node[] = [];
      for (const node of nodes) {
        for (const step of this.#stepsFrom(node, depth - 1)) {
          if (this.#isOver()) return;
          const reached = this.#try(node, step);
          if (this.shorter !== undefined) return;
          if (reached !== undefined && depth + 1 < length) next.push(reached);
        }
      }
      nodes = next;
    }
  }

  #fresh(): Lockstep {
    return new Lockstep({ subject: this.#subject, header: this.#trace.header, settings: { auditEvery: 1 } });
  }

  #isOver(): boolean {
    if (this.#applied >= this.#limits.steps) this.bound = `${this.#applied} steps applied in ${this.states} states`;
    else if (this.states >= this.#limits.states) this.bound = `${this.states} states`;
    else return false;
    return true;
  }

  *#stepsFrom({ tail }: Node, label: number): Generator<Step, void, undefined> {
    const resumed = new Set(tail.filter(isAct).flatMap((act) => (act.pause === undefined ? [] : [act.label])));
    const pauses = tail.filter(({ pause }) => pause !== undefined).length;
    for (const letter of this.#letters)
      if (letter.pause === undefined || pauses < PAUSED_MAX) yield { label, ...letter };
    for (const resume of resumed)
      for (const pause of this.#furtherPauses)
        if (pause === undefined) yield { label, resume };
        else if (pauses < PAUSED_MAX) yield { label, resume, pause };
  }

  /** The state after `step`; undefined: seen before, or a failure (perhaps the wanted one). */
  #try(node: Node, step: Step): Node | undefined {
    const run = this.#at(node);
    const { kind } = run.apply(step);
    this.#applied += 1 + node.tail.length;
    const path = [...node.path, ...node.tail, step];
    if (run.abandoned) this.bound = 'some orders of operations in flight were too many to follow';
    if (this.#isFailed(path) || kind === 'skipped') return undefined;
    const tail = [...node.tail, step];
    const isQuiet = run.flights.length === 0;
    const digest = run.digest();
    if (isQuiet && digest === node.digest) this.#standing = node.checkpoint;
    const key = fold(digest, isQuiet ? 0 : hashText(this.#paused(tail)));
    const isKnown = this.#seen.has(key);
    this.#seen.add(key);
    if (!isQuiet && this.#failure.step >= this.#trace.steps.length) this.#finish(path);
    if (isKnown) return undefined;
    if (!isQuiet) return { ...node, tail };
    return { checkpoint: run.checkpoint(), digest, path, tail: [] };
  }

  /** The run put into the state of a node. A step that changed nothing has left it there. */
  #at({ checkpoint, tail }: Node): Lockstep {
    if (this.#standing !== checkpoint) this.#run.restore(checkpoint);
    this.#standing = undefined;
    for (const earlier of tail) this.#run.apply(earlier);
    return this.#run;
  }

  /** What is in flight and how it came to stand where it stands. */
  #paused(tail: readonly Step[]): string {
    const labels = new Set(this.#run.flights.map(({ label }) => label));
    return keyOf(tail.filter((step) => labels.has(isAct(step) ? step.label : step.resume)));
  }

  /** Runs paused operations to their end, for failures that are found only then. */
  #finish(path: readonly Step[]): void {
    this.#run.finish();
    if (this.#run.abandoned) this.bound = 'some orders of operations in flight were too many to follow';
    this.#isFailed(path);
  }

  /** Whether a law is broken; if it is the wanted one, `path` is the shorter trace. The run is made anew then. */
  #isFailed(path: readonly Step[]): boolean {
    const { failure } = this.#run;
    if (failure === undefined) return false;
    if (fingerprint(failure) === fingerprint(this.#failure)) this.shorter = { ...this.#trace, steps: path };
    this.#run = this.#fresh();
    return true;
  }
}

/** Searches for a trace shorter than `trace` that fails as it does. Deterministic; bounded by `limits`. */
export function certify(
  subject: Subject,
  trace: Trace,
  of: { readonly failure: Failure; readonly limits?: Partial<Limits> },
): Certificate {
  const limits = { ...DEFAULT_LIMITS, ...of.limits };
  if (geometries[trace.header.geometry].frameCount > 256)
    return { certified: false, bound: 'no state was searched: the machine is too large for checkpoints' };
  const search = new Search(subject, trace, { failure: of.failure, limits });
  search.below(trace.steps.length);
  if (search.shorter !== undefined)
    return {
      certified: false,
      bound: `a trace of ${search.shorter.steps.length} steps fails alike`,
      shorter: search.shorter,
    };
  return search.bound === undefined
    ? { certified: true, states: search.states, letters: search.letters }
    : { certified: false, bound: search.bound };
}
