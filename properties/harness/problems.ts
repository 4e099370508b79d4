// What driving the two sides brings up, told as problems: a reply that no candidate explains, a state that differs, machine
// code that throws. Which invariant each breaks is decided here and nowhere else.

import type { Invariant } from '#abi/invariants.ts';
import { describeReply } from '#abi/describe.ts';
import { mechanismOf, type Op } from '#abi/operation.ts';
import type { Reply } from '#abi/reply.ts';
import { linearContext } from '#model/paging/context.ts';
import type { Refusal } from './closure.ts';
import type { Problem } from './law.ts';
import { isError, replyDifference } from './replies.ts';
import type { Returned } from './view.ts';

/** Replies by which a vCPU hears that a linear address leads nowhere, or where the nested tables ended its walk. */
const faults: ReadonlySet<string> = new Set(['pageFault', 'generalProtection', 'violation', 'EFAULT', 'badVirtAddr']);

/** Whether two replies to a vCPU with paging on differ in what became of its linear addresses. */
const isWalk = ({ agent, op, before, reply }: Returned, expected: Reply): boolean =>
  linearContext(before, agent) !== undefined &&
  ('via' in op || faults.has(expected.status) !== faults.has(reply.status));

/** A reply or a choice that no candidate explains, as a problem. */
export function refused(answer: Refusal, returned: Returned): Problem {
  const { op, reply } = returned;
  const mechanism = mechanismOf(op.kind);
  const { expected } = answer;
  if (expected?.kind !== 'exact')
    return { invariant: answer.invariant, mechanism, field: 'choice', sentence: `${op.kind}: ${answer.reason}` };
  const part = replyDifference(expected.reply, reply) ?? 'status';
  const wasForbidden = expected.reply.status === 'EPERM' || expected.reply.status === 'permissionDenied';
  return {
    invariant: wasForbidden && !isError(reply) ? 'PRIV' : isWalk(returned, expected.reply) ? 'WALK' : 'refines',
    mechanism,
    field: `reply.${part}`,
    sentence: `${op.kind} answers otherwise than the model (${part})`,
    expected: describeReply(expected.reply),
    actual: describeReply(reply),
  };
}

/** A difference in state after a refusal is an effect that a refused operation must not have. */
export const attributed = (problem: Problem, returned: Returned | undefined): Problem =>
  returned !== undefined && problem.invariant === 'refines' && isError(returned.reply)
    ? { ...problem, invariant: 'ERR', mechanism: mechanismOf(returned.op.kind) }
    : problem;

/** What machine code threw: a wild access (XEN), waiting for oneself (LOCK) or a failed assertion (CRASH). Others pass on. */
export function thrown(error: unknown, op: Op<'concrete'>): Problem {
  if (!(error instanceof Error) || (error.name !== 'ArenaFault' && error.name !== 'BrokenInvariant')) throw error;
  const isWild = error.name === 'ArenaFault';
  const invariant: Invariant = isWild ? 'XEN' : error.message.includes('awaited by its own') ? 'LOCK' : 'CRASH';
  const field = error.message.replaceAll(/[0-9]+/gu, 'n');
  return { invariant, mechanism: mechanismOf(op.kind), field, sentence: error.message };
}
