// Recorded sequences against the model as it is now, and the implementation beside it, without any emulator.
// A first reader may begin at `replay`.

import { alwaysLaws } from '#properties/harness/laws.ts';
import { type Difference, Pairing, type Words } from './compare.ts';
import type { Recorded } from './corpus.ts';
import { differenceOf, expectedOf } from './heard.ts';
import { replaySequence } from './sequences.ts';

/** The first difference, and after which step (-1: at the start; undefined: none). */
export interface Replayed {
  readonly at: number;
  readonly difference: Difference;
}

const ours = (expected: string, actual: string): Difference => ({
  field: 'sequence',
  sentence: 'the sequence is no longer what was asked',
  expected,
  actual,
});

/** A frame that was not compared then, as something that no frame holds. */
const UNREAD: Words = [[0, 0xdead, 0xdead]];

/** Replays one recorded sequence, without the rule that it is for: every step is still asked, no law breaks, and what was seen is as the model says. */
export function replay({ rule: without, trace, boot, observed, memory }: Recorded): Replayed | undefined {
  const sequence = replaySequence(trace, { laws: alwaysLaws, without });
  const { moments, failure } = sequence;
  if (failure !== undefined)
    return { at: failure.step, difference: ours('all laws hold', `${failure.law}: ${failure.sentence}`) };
  if (moments.length !== observed.length)
    return { at: moments.length, difference: ours(`${observed.length} steps`, `${moments.length} steps`) };
  const pairing = new Pairing(without);
  const start = pairing.difference(sequence.boot, boot);
  if (start !== undefined) return { at: -1, difference: start };
  for (const [at, { heard, look }] of observed.entries()) {
    const moment = moments[at];
    if (moment === undefined) break;
    const answer = differenceOf(expectedOf(moment.op, moment.reply), heard);
    const difference =
      answer === undefined
        ? pairing.difference(moment.state, look)
        : { ...answer, sentence: 'Xen answered something else' };
    if (difference !== undefined) return { at, difference };
  }
  const difference = pairing.contents(moments.at(-1)?.state ?? sequence.boot, (mfn) => memory.get(mfn) ?? UNREAD);
  return difference && { at: moments.length - 1, difference };
}
