// Hunting an exhibit from scratch: generated runs on the edited copy, one after another, until a law that may catch the bug
// breaks or the budget of steps is used up. Nothing here knows what the bug is; the generators are the general ones. A trace
// on which the implementation as it stands fails too has not caught the exhibit.
// Yields after every run, so that whoever drives it can show progress and stop.

import type { Exhibit } from './exhibit.ts';
import { clean, type Subject } from '#properties/harness/subject.ts';
import type { Settings } from '#properties/harness/settings.ts';
import { attempt, replay, sourceOf, type Attempt } from './attempt.ts';

/** What to hunt: where, from which seed, within how many completed operations. */
export interface Hunt {
  readonly exhibit: Pick<Exhibit, 'killedBy'>;
  readonly subject: Subject;
  readonly seed: number;
  readonly steps: number;
  readonly settings?: Partial<Settings>;
}

/** How far a hunt has come. */
export interface HuntProgress {
  readonly steps: number;
  readonly runs: number;
  /** What did not count, and how often: laws outside `killedBy`, failures of the clean implementation, errors. */
  readonly strays: ReadonlyMap<string, number>;
}

/** The bug, caught. */
export interface Caught extends HuntProgress {
  readonly attempt: Attempt;
  readonly failure: NonNullable<Attempt['failure']>;
}

/** Completed operations that a run which broke at once still counts for, so that every hunt ends. */
const LEAST = 1;

export function* hunt(of: Hunt): Generator<HuntProgress, Caught | HuntProgress> {
  const strays = new Map<string, number>();
  let steps = 0;
  for (let runs = 1; steps < of.steps; runs += 1) {
    const one = attempt(of.subject, sourceOf(of.seed, runs), of.settings);
    steps += Math.max(LEAST, one.operations);
    const { failure, error } = one;
    let stray = failure?.law ?? (error === undefined ? undefined : `error: ${error.message}`);
    if (failure !== undefined && error === undefined && of.exhibit.killedBy.includes(failure.law)) {
      const held = replay(clean, one.trace, of.settings);
      if (held.failure === undefined && held.error === undefined) return { steps, runs, strays, attempt: one, failure };
      stray = `${failure.law}, on the clean implementation too`;
    }
    if (stray !== undefined) strays.set(stray, (strays.get(stray) ?? 0) + 1);
    yield { steps, runs, strays };
  }
  return { steps, runs: 0, strays };
}

/** Whether a hunt came home with something. */
export const isCaught = (end: Caught | HuntProgress): end is Caught => 'attempt' in end;
