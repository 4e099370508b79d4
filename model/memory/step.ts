// Memory: who owns which frame, what a gfn means, how domains come and go. This file routes by kind.
// Sources: Xen common/memory.c, common/domctl.c; see README.md.

import type { MemoryOp } from '#abi/memory.ts';
import { match } from 'ts-pattern';
import { peek, refuse, type Cut } from '../cut.ts';
import { scrub } from '../frames.ts';
import { end, go, performing, type OpOf, type Perform, type Task, type Turn } from '../progress.ts';
import { frameOf } from '../state.ts';
import { createDomain, killDomain, pauseDomain, setMaxPages, setPool, unpauseDomain } from './life.ts';
import { addToPhysmap, removeFromPhysmap } from './physmap.ts';
import { exchange, reservation, reservationStep } from './reservation.ts';

/** How a memory operation goes on. */
export const memoryStep = (op: MemoryOp<'concrete'>): Perform =>
  match<MemoryOp<'concrete'>, Perform>(op)
    .with({ kind: 'memory.populate' }, (op) => performing(reservationStep, op))
    .with({ kind: 'memory.decrease' }, (op) => performing(reservationStep, op))
    .with({ kind: 'memory.increase' }, (op) => performing(reservationStep, op))
    .with({ kind: 'memory.addToPhysmap' }, (op) => performing(addToPhysmap, op))
    .with({ kind: 'memory.removeFromPhysmap' }, (op) => performing(removeFromPhysmap, op))
    .with({ kind: 'memory.exchange' }, (op) => performing(exchange, op))
    .with({ kind: 'memory.reservation' }, (op) => performing(reservation, op))
    .with({ kind: 'memory.createDomain' }, (op) => performing(createDomain, op))
    .with({ kind: 'memory.pauseDomain' }, (op) => performing(pauseDomain, op))
    .with({ kind: 'memory.unpauseDomain' }, (op) => performing(unpauseDomain, op))
    .with({ kind: 'memory.killDomain' }, (op) => performing(killDomain, op))
    .with({ kind: 'memory.setMaxPages' }, (op) => performing(setMaxPages, op))
    .with({ kind: 'memory.setPool' }, (op) => performing(setPool, op))
    .with({ kind: 'memory.scrub' }, (op) => performing(scrubSome, op))
    .exhaustive();

/** The background scrubber: up to `frames` free frames of its choice, each logged; `done` counts them. */
function scrubSome(cut: Cut, task: Task<OpOf<'memory.scrub'>>): Turn {
  const { part } = task.work;
  if (task.agent.kind !== 'background') return end(cut, 'EPERM');
  const choice = part === task.op.frames ? undefined : peek(cut);
  if (choice === undefined) return end(cut, 'ok', { done: part });
  if (choice.kind !== 'scrub') return refuse(`${choice.kind} was logged where scrub is due`, 'refines');
  if (choice.mfn >= cut.state.geometry.frameCount) return refuse(`frame ${choice.mfn} does not exist`, 'XEN');
  if (frameOf(cut.state, choice.mfn).role !== 'free')
    return refuse(`frame ${choice.mfn} is erased while it is in use`, 'FREE');
  const scrubbed = { ...cut, cursor: cut.cursor + 1, state: scrub(cut.state, choice.mfn) };
  return go(scrubbed, task, { at: 'next', part: part + 1 });
}
