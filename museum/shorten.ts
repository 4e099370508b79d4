// Making a failing trace short, in slices: whoever drives this can serve signals and show progress in between. Each slice is
// one bounded call of the shrinker, starting from the best trace so far; slices that bring nothing grow, so that in the end one
// of them walks the whole stream. A first reader may skip it.

import type { Trace } from '#abi/trace.ts';
import type { Failure } from '#properties/harness/law.ts';
import type { Settings } from '#properties/harness/settings.ts';
import { shrinkTrace } from '#properties/harness/shrink.ts';
import type { Subject } from '#properties/harness/subject.ts';
import { replay } from './attempt.ts';

/** Runs a trace: the law that breaks, if any. */
export type Fails = (trace: Trace) => Failure | undefined;

/** What to shorten. */
export interface Long {
  readonly fails: Fails;
  readonly trace: Trace;
  readonly failure: Failure;
  /** Traces executed at most. */
  readonly executions: number;
  /** Whether time is up: then nothing more is executed. */
  readonly isOver?: () => boolean;
}

export interface Short {
  readonly trace: Trace;
  readonly failure: Failure;
  readonly executions: number;
  /** Whether nothing smaller was left to try. */
  readonly isExhausted: boolean;
}

/** Executions of the first slice. */
const SLICE = 60;

export function* shorten(of: Long): Generator<Short, Short> {
  // Once time is up every candidate is taken to hold, so that a slice ends at once.
  const isOver = of.isOver ?? (() => false);
  const fails: Fails = (trace) => (isOver() ? undefined : of.fails(trace));
  let best: Short = { trace: of.trace, failure: of.failure, executions: 0, isExhausted: false };
  let slice = SLICE;
  while (!best.isExhausted && best.executions < of.executions) {
    const limits = { executions: Math.min(slice, of.executions - best.executions) };
    const next = shrinkTrace(best.trace, { fails, original: best.failure, limits });
    const isIdle = next.trace.steps.length === best.trace.steps.length;
    const isExhausted = next.isExhausted && !isOver();
    best = { ...next, isExhausted, executions: best.executions + next.executions };
    slice = isIdle ? 2 * slice : SLICE;
    if (isOver()) return best;
    yield best;
  }
  return best;
}

/** What running a trace on `subject` comes to; a run in which the harness breaks does not fail. */
export const failsOn =
  (subject: Subject, settings: Partial<Settings> = {}): Fails =>
  (trace) => {
    const { failure, error } = replay(subject, trace, settings);
    return error === undefined ? failure : undefined;
  };
