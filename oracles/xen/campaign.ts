// Random sequences played live, one after the other; what differs is played again alone, made small, and told.
// A first reader may skip the tally.

import { describeReply, describeTrace } from '#abi/describe.ts';
import type { Prng } from '#lib/prng.ts';
import type { Recorded } from './corpus.ts';
import { play } from './play.ts';
import { drawSequence, replaySequence, type Sequence } from './sequences.ts';
import { type Shown, shows, shrink } from './shrink.ts';
import type { World } from './world.ts';

/** How often each thing happened, by name. */
export type Counts = Record<string, number>;

/** What a campaign came to. */
export interface Tally {
  sequences: number;
  /** Operations after which everything was equal. */
  operations: number;
  different: number;
  /** Steps left out, by reason. */
  readonly skipped: Counts;
  /** Operations by kind and what the caller heard. */
  readonly outcomes: Counts;
  milliseconds: number;
}

export const emptyTally = (): Tally => ({
  sequences: 0,
  operations: 0,
  different: 0,
  skipped: {},
  outcomes: {},
  milliseconds: 0,
});

const count = (counts: Counts, name: string, n = 1): void => {
  counts[name] = (counts[name] ?? 0) + n;
};

/** A sequence on which Xen and the model differ. */
export interface Disagreement {
  readonly seed: number;
  readonly shown: Shown;
  /** Whether it also differs when it is played again. */
  readonly isRepeatable: boolean;
}

/** What a campaign tells while it runs. */
export interface Listener {
  readonly progress: (tally: Tally) => void;
  readonly disagreement: (found: Disagreement) => void;
  readonly agreed?: ((record: Recorded) => void) | undefined;
  /** Whether a sequence has been played before, by its seed; and what one came to. */
  readonly isKnown: (seed: number) => boolean;
  readonly played: (seed: number, operations: number, field: string | undefined) => void;
  readonly stop: () => boolean;
}

/** At most so many disagreements are made small; the others are counted. */
const SHRUNK = 5;

function note(tally: Tally, sequence: Sequence, steps: number): void {
  tally.sequences += 1;
  tally.operations += steps;
  for (const [reason, n] of Object.entries(sequence.skipped)) count(tally.skipped, reason, n);
  for (const { op, reply } of sequence.moments.slice(0, steps)) {
    if (reply.elements.length === 0) count(tally.outcomes, `${op.kind} ${reply.status}`);
    for (const { status } of reply.elements) count(tally.outcomes, `${op.kind} ${status}`);
  }
}

async function examine(world: World, sequence: Sequence, of: { seed: number; listener: Listener }): Promise<void> {
  const again = await shows(world, sequence.trace);
  const first = { trace: sequence.trace, at: -1, difference: { field: '', sentence: '', expected: '', actual: '' } };
  const shown = again === undefined ? first : await shrink(world, again, { stop: of.listener.stop });
  of.listener.disagreement({ seed: of.seed, shown, isRepeatable: again !== undefined });
}

/** Operations of one sequence. */
const LENGTH = 40;

/** Plays `sequences` random sequences. */
export async function run(
  world: World,
  of: { readonly sequences: number; readonly prng: Prng; readonly tally: Tally; readonly listener: Listener },
): Promise<Tally> {
  const { sequences, prng, tally, listener } = of;
  const start = performance.now();
  while (tally.sequences < sequences && !listener.stop()) {
    const seed = prng.next();
    if (listener.isKnown(seed)) {
      tally.sequences += 1;
      continue;
    }
    const sequence = drawSequence(seed, LENGTH);
    const { boot, observed, memory, disagreement } = await play(world, sequence);
    const steps = disagreement === undefined ? observed.length : Math.max(0, disagreement.at);
    note(tally, sequence, steps);
    listener.played(seed, steps, disagreement?.difference.field);
    tally.milliseconds = performance.now() - start;
    if (disagreement === undefined) listener.agreed?.({ trace: sequence.trace, boot, observed, memory });
    else {
      tally.different += 1;
      if (tally.different <= SHRUNK) await examine(world, sequence, { seed, listener });
    }
    listener.progress(tally);
  }
  tally.milliseconds = performance.now() - start;
  return tally;
}

/** A disagreement in words. */
export function describeDisagreement({ seed, shown, isRepeatable }: Disagreement): string[] {
  const { trace, at, difference } = shown;
  if (!isRepeatable) return [`A difference that a second run does not show (seed ${seed})`, ...describeTrace(trace)];
  const reply = replaySequence(trace).moments[at]?.reply;
  return [
    `${difference.field}: ${difference.sentence} (seed ${seed})`,
    ...describeTrace(trace),
    ...(reply === undefined ? [] : [`the model answers: ${describeReply(reply)}`]),
    `the model has: ${difference.expected}`,
    `Xen has:       ${difference.actual}`,
  ];
}
