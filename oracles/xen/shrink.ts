// From a sequence on which Xen and the model differ to a short one on which they differ in the same way: the stream of smaller
// traces is that of the project's shrinker; every one of them is played from the fresh machine.

import type { Trace } from '#abi/trace.ts';
import { candidates } from '#properties/harness/shrink.ts';
import type { Difference } from './compare.ts';
import { play } from './play.ts';
import { replaySequence } from './sequences.ts';
import type { World } from './world.ts';

/** A sequence that shows a difference. */
export interface Shown {
  readonly trace: Trace;
  readonly at: number;
  readonly difference: Difference;
}

/** Plays a trace; the difference that it shows, if any. Traces that boot into nothing comparable show none. */
export async function shows(world: World, trace: Trace, without?: string): Promise<Shown | undefined> {
  const sequence = replaySequence(trace, { without });
  const { disagreement } = await play(world, sequence, without);
  return disagreement === undefined ? undefined : { trace: sequence.trace, ...disagreement };
}

/** At most so many traces are played for one difference. */
const TRIES = 150;

/** How a shrink is bounded, and a rule that does not count. */
export interface Bounds {
  readonly stop: () => boolean;
  readonly without?: string | undefined;
}

/** The shortest sequence found with the same difference (by its field), within a number of tries. */
export async function shrink(world: World, shown: Shown, { stop, without }: Bounds): Promise<Shown> {
  const tried = new Set<string>();
  let best = shown;
  let tries = 0;
  for (;;) {
    let accepted: Shown | undefined;
    for (const { trace } of candidates(best.trace, { failedAt: best.at < 0 ? undefined : best.at, from: undefined })) {
      const key = JSON.stringify(trace);
      if (tried.has(key) || !isSuitable(trace)) continue;
      if (tries === TRIES || stop()) return best;
      tried.add(key);
      tries += 1;
      const found = await shows(world, trace, without);
      if (found?.difference.field !== best.difference.field) continue;
      accepted = found;
      break;
    }
    if (accepted === undefined) return best;
    best = accepted;
  }
}

/** Whether Xen here can be the machine of a trace: what headerOf draws, or less of it. */
const isSuitable = ({ header }: Trace): boolean =>
  header.geometry === 'x86' &&
  header.vendor === 'amd' &&
  header.scrub === 'always' &&
  header.domains.some(({ id }) => id === 0) &&
  header.domains.every(({ grantFrames }) => grantFrames > 0);
