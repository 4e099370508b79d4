// From a failing trace to a small one that fails in the same way. `candidates` is the stream of smaller traces, in stages:
// cut at the failing step, remove chunks of halving size (resuming where the last success stopped), remove pairs, drop whole
// objects, simplify the machine, drop the schedule, merge names, simplify arguments; and all of them once
// more after the last success. `shrinkTrace` walks the stream and accepts only the same failure; the arbitrary hands the same
// stream to fast-check, with the position as context.
// Sources: Zeller and Hildebrandt, "Simplifying and Isolating Failure-Inducing Input" (ddmin).

import { machineProblem } from '#abi/machine.ts';
import type { Step, Trace } from '#abi/trace.ts';
import { fingerprint, type Failure } from './law.ts';
import { isSmaller, mergedNames, simplerHeaders, simplerOps, simplerSteps, withoutObjects } from './simplify.ts';

/** Where in the stream a trace was found; its own stream goes on from there. */
export interface Position {
  /** Index into `stages`. */
  readonly stage: number;
  /** Stage-dependent place; see each stage. */
  readonly at: Place;
}

interface Place {
  readonly size: number;
  readonly index: number;
}

export interface Candidate {
  readonly trace: Trace;
  readonly position: Position;
}

/** A smaller trace, and where its own stream goes on if it is accepted. */
interface Smaller {
  readonly trace: Trace;
  readonly next: Place;
}

interface Stage {
  readonly name: string;
  readonly candidates: (trace: Trace, from: Place | undefined) => Iterable<Smaller>;
}

const cutOut = (trace: Trace, from: number, to: number): Trace => ({
  ...trace,
  steps: [...trace.steps.slice(0, from), ...trace.steps.slice(to)],
});

/** Chunks of halving size from the end to the front. `index` is the end of the next chunk. */
function* chunks(trace: Trace, from: Place | undefined): Iterable<Smaller> {
  const count = trace.steps.length;
  let size = from?.size ?? Math.ceil(count / 2);
  let end = Math.min(from?.index ?? count, count);
  while (size >= 1) {
    for (; end > 0; end -= size) {
      const start = Math.max(0, end - size);
      yield { trace: cutOut(trace, start, end), next: { size, index: start } };
    }
    size = Math.floor(size / 2);
    end = count;
  }
}

/** Pairs of steps that are useless only together. `index` is the first step of the pair, counted from the end. */
function* pairs(trace: Trace, from: Place | undefined): Iterable<Smaller> {
  const { steps } = trace;
  for (let back = from?.index ?? 0; back < steps.length; back += 1) {
    const first = steps.length - 1 - back;
    for (let second = first + 1; second < steps.length; second += 1) {
      const left = steps.filter((_: Step, i) => i !== first && i !== second);
      yield { trace: { ...trace, steps: left }, next: { size: 0, index: Math.max(0, back - 1) } };
    }
  }
}

/** Candidates in a list; an accepted one disappears from the next list, so its place is where to go on. */
const listed = (list: (trace: Trace) => Iterable<Trace>): Stage['candidates'] =>
  function* (trace, from) {
    let index = 0;
    for (const smaller of list(trace)) {
      if (index >= (from?.index ?? 0)) yield { trace: smaller, next: { size: 0, index } };
      index += 1;
    }
  };

/** Candidates per step, from the last step to the first. `index` counts steps from the end. */
const perStep = (list: (trace: Trace, at: number) => Iterable<Trace>): Stage['candidates'] =>
  function* (trace, from) {
    for (let index = from?.index ?? 0; index < trace.steps.length; index += 1)
      for (const smaller of list(trace, trace.steps.length - 1 - index))
        yield { trace: smaller, next: { size: 0, index } };
  };

const stages: readonly Stage[] = [
  { name: 'chunks', candidates: chunks },
  { name: 'objects', candidates: listed(withoutObjects) },
  { name: 'pairs', candidates: pairs },
  { name: 'header', candidates: listed(simplerHeaders) },
  { name: 'schedule', candidates: perStep(simplerSteps) },
  { name: 'names', candidates: listed(mergedNames) },
  { name: 'arguments', candidates: perStep(simplerOps) },
];

/** Traces smaller than `trace`, best first, from a position on. Finite; every one is smaller by `isSmaller`. */
export function* candidates(
  trace: Trace,
  at: { readonly failedAt: number | undefined; readonly from: Position | undefined },
): Generator<Candidate, void, undefined> {
  const { failedAt, from } = at;
  if (failedAt !== undefined && failedAt + 1 < trace.steps.length) {
    const cut = cutOut(trace, failedAt + 1, trace.steps.length);
    yield { trace: cut, position: { stage: 0, at: { size: Math.ceil(cut.steps.length / 2), index: failedAt + 1 } } };
  }
  if (from !== undefined) yield* stagesFrom(trace, from);
  yield* stagesFrom(trace, undefined);
}

/** The stages from a position on, or all of them. */
function* stagesFrom(trace: Trace, from: Position | undefined): Generator<Candidate, void, undefined> {
  for (let stage = from?.stage ?? 0; stage < stages.length; stage += 1) {
    const place = stage === from?.stage ? from.at : undefined;
    for (const { trace: smaller, next } of stages[stage]?.candidates(trace, place) ?? [])
      if (isSmaller(smaller, trace) && machineProblem(smaller.header) === undefined)
        yield { trace: smaller, position: { stage, at: next } };
  }
}

/** How a shrink is bounded: by the number of traces executed. */
export interface Limits {
  readonly executions: number;
}

export interface Shrunk {
  readonly trace: Trace;
  readonly failure: Failure;
  readonly executions: number;
  /** Whether the stream was walked to its end, within the limit. */
  readonly isExhausted: boolean;
}

/** The smallest trace found that `fails` as `original` did: same law, mechanism and field. Deterministic. */
export function shrinkTrace(
  trace: Trace,
  of: { readonly fails: (t: Trace) => Failure | undefined; readonly original: Failure; readonly limits: Limits },
): Shrunk {
  const wanted = fingerprint(of.original);
  const tried = new Set<string>();
  let executions = 0;
  let best = { trace, failure: of.original };
  let from: Position | undefined;
  for (;;) {
    let accepted: Candidate | undefined;
    for (const candidate of candidates(best.trace, { failedAt: best.failure.step, from })) {
      const key = JSON.stringify(candidate.trace);
      if (tried.has(key)) continue;
      if (executions === of.limits.executions) return { ...best, executions, isExhausted: false };
      tried.add(key);
      executions += 1;
      const failure = of.fails(candidate.trace);
      if (failure === undefined || fingerprint(failure) !== wanted) continue;
      best = { trace: candidate.trace, failure };
      accepted = candidate;
      break;
    }
    if (accepted === undefined) return { ...best, executions, isExhausted: true };
    from = accepted.position;
  }
}
