// Whether the model really checks the choices that it follows: a log with one choice corrupted must be refused, or lead to
// another reply or another state than the implementation's.

import type { Mfn } from '#abi/address.ts';
import type { Choice, Logged } from '#abi/choices.ts';
import type { Reply } from '#abi/reply.ts';
import type { Prng } from '#lib/prng.ts';
import type { State } from '#model/state.ts';
import { isOrdered } from '#model/failures.ts';
import { begin, runAlone } from '#model/step.ts';
import { digestState } from './digest.ts';
import { lostToNobody } from './problems.ts';
import { sameReply } from './replies.ts';
import { numbersIn } from './resolve.ts';
import type { Returned } from './view.ts';

/** The choice with one of its numbers changed; undefined: it has none that matters. */
function twisted(choice: Choice, reply: Reply, prng: Prng): Choice | undefined {
  switch (choice.kind) {
    case 'frame':
    case 'tableTaken':
    case 'tableGiven':
    case 'bitmapTaken':
    case 'bitmapGiven':
    case 'poolGiven':
    case 'scrub':
    case 'cached':
    case 'combined':
    case 'podTaken':
    case 'podStolen':
      return { ...choice, mfn: (choice.mfn + 1 + prng.below(7)) as Mfn };
    case 'handle':
      // One that was given back before the operation ended is nowhere to be seen, and any other would have done.
      return !numbersIn(reply).includes(choice.handle)
        ? undefined
        : { ...choice, handle: (choice.handle + 1) as typeof choice.handle };
    case 'failed':
      return { ...choice, class: 'iommuTable' };
    case 'preempted':
      return choice.within === undefined
        ? { kind: 'preempted', done: (choice.done ?? 0) + 1 }
        : { kind: 'preempted', within: { ...choice.within, index: choice.within.index + 1 } };
    case 'podSplit':
    case 'podExhausted':
      return { ...choice, gfn: (choice.gfn + 1024) as typeof choice.gfn };
    case 'walked':
    case 'forgotten':
    case 'retried':
    case 'flush':
      return undefined;
  }
}

/** The log of an operation with one choice twisted or dropped; undefined: nothing in it can be corrupted. */
export function corrupted({ log, reply }: Pick<Returned, 'log' | 'reply'>, prng: Prng): readonly Logged[] | undefined {
  const at = log.findIndex((_, i) => i >= prng.below(log.length + 1));
  const victim = log[at];
  if (victim === undefined) return undefined;
  const choice = twisted(victim.choice, reply, prng);
  if (choice === undefined) return undefined;
  if (prng.chance(1, 3)) return log.filter((_, i) => i !== at);
  return log.map((one, i) => (i === at ? { ...one, choice } : one));
}

/** `returned` without the order of its first failure; undefined: it has suffered none that was ordered. */
export function disowned(returned: Returned): Returned | undefined {
  const { log, failures } = returned;
  const refused = log.findIndex((_, at) => isOrdered({ log, at, ordered: failures }));
  const choice = log[refused]?.choice;
  if (choice?.kind !== 'failed') return undefined;
  return { ...returned, failures: failures.filter((one) => one.class !== choice.class) };
}

/** Whether following `log` instead of the true one shows. */
export function isNoticed(returned: Returned, after: State, log: readonly Logged[]): boolean {
  const outcome = runAlone(returned.before, begin(returned.agent, returned.op, returned.failures), log);
  if (lostToNobody({ ...returned, log }).length > 0) return true;
  if (outcome.kind === 'refused' || !sameReply(outcome.expected, returned.reply)) return true;
  return digestState(outcome.state) !== digestState(after);
}
