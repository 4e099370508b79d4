// What driving the two sides brings up, told as problems: a reply that no candidate explains, a state that differs, machine
// code that throws. Which invariant each breaks is decided here and nowhere else.

import type { Invariant } from '#abi/invariants.ts';
import { describeReply } from '#abi/describe.ts';
import { mechanismOf, type Op } from '#abi/operation.ts';
import { isOrdered } from '#model/failures.ts';
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

const NO_PROBLEMS: readonly Problem[] = [];

/** A compare-exchange that nobody ordered to be lost is lost to somebody: an operation that ran alone loses none. */
export function lostToNobody({ op, log, failures, alone }: Returned): readonly Problem[] {
  if (!alone) return NO_PROBLEMS;
  const isLost = log.some(
    ({ choice }, at) =>
      choice.kind === 'failed' && choice.class === 'compareExchange' && !isOrdered({ log, at, ordered: failures }),
  );
  if (!isLost) return NO_PROBLEMS;
  const sentence = `${op.kind}: a compare-exchange was lost although nobody else did anything`;
  return [{ invariant: 'refines', mechanism: mechanismOf(op.kind), field: 'choice', sentence }];
}

/** A difference in state after a refusal is an effect that a refused operation must not have. */
export const attributed = (problem: Problem, returned: Returned | undefined): Problem =>
  returned !== undefined && problem.invariant === 'refines' && isError(returned.reply)
    ? { ...problem, invariant: 'ERR', mechanism: mechanismOf(returned.op.kind) }
    : problem;

/** The invariant that an error of machine code breaks: a wild access, work without end, waiting for oneself, a failed assertion. */
function brokenBy({ name, message }: Error): Invariant | undefined {
  if (name === 'ArenaFault') return 'XEN';
  if (name === 'EndlessWork') return 'WORK';
  if (name !== 'BrokenInvariant') return undefined;
  return message.includes('awaited by its own') ? 'LOCK' : 'CRASH';
}

/** What machine code threw. Errors that are none of its own pass on. */
export function thrown(error: unknown, op: Op<'concrete'>): Problem {
  const invariant = error instanceof Error ? brokenBy(error) : undefined;
  if (!(error instanceof Error) || invariant === undefined) throw error;
  const field = error.message.replaceAll(/[0-9]+/gu, 'n');
  return { invariant, mechanism: mechanismOf(op.kind), field, sentence: error.message };
}
