// Memory: who owns which frame, what a gfn means, how domains come and go. This file routes by kind.
// Sources: Xen common/memory.c, common/domctl.c; see README.md.

import type { MemoryOp } from '#abi/memory.ts';
import { cutAt, peek, refuse, type Cut } from '../cut.ts';
import { scrub } from '../frames.ts';
import {
  end,
  go,
  performing,
  type Handler,
  type Handlers,
  type OpOf,
  type Perform,
  type Task,
  type Turn,
} from '../progress.ts';
import { frameOf } from '../state.ts';
import { memAccess, monitor, setAccessRequired, setMemAccess } from './access.ts';
import { claimPages } from './claims.ts';
import { exchange } from './exchange.ts';
import { createDomain, killDomain, pauseDomain, setMaxPages, setPool, unpauseDomain } from './life.ts';
import { disableLogDirty, enableLogDirty, logDirty, modifiedMemory } from './log-dirty.ts';
import { iomemPermission, mapMmio } from './mmio.ts';
import { addBatch, addRange } from './physmap-lists.ts';
import { addToPhysmap, removeFromPhysmap } from './physmap.ts';
import { podTarget, setPodTarget } from './pod.ts';
import { reservation, reservationStep } from './reservation.ts';
import { setMemType } from './types.ts';

const handlers: Handlers<MemoryOp<'concrete'>> = {
  'memory.populate': reservationStep,
  'memory.populateOnDemand': reservationStep,
  'memory.decrease': reservationStep,
  'memory.increase': reservationStep,
  'memory.addToPhysmap': addToPhysmap,
  'memory.addRange': addRange,
  'memory.addBatch': addBatch,
  'memory.removeFromPhysmap': removeFromPhysmap,
  'memory.exchange': exchange,
  'memory.reservation': reservation,
  'memory.createDomain': createDomain,
  'memory.pauseDomain': pauseDomain,
  'memory.unpauseDomain': unpauseDomain,
  'memory.killDomain': killDomain,
  'memory.setMaxPages': setMaxPages,
  'memory.setPool': setPool,
  'memory.enableLogDirty': enableLogDirty,
  'memory.disableLogDirty': disableLogDirty,
  'memory.logDirty': logDirty,
  'memory.modifiedMemory': modifiedMemory,
  'memory.setMemType': setMemType,
  'memory.setMemAccess': setMemAccess,
  'memory.memAccess': memAccess,
  'memory.monitor': monitor,
  'memory.setAccessRequired': setAccessRequired,
  'memory.iomemPermission': iomemPermission,
  'memory.mapMmio': mapMmio,
  'memory.setPodTarget': setPodTarget,
  'memory.podTarget': podTarget,
  'memory.claimPages': claimPages,
  'memory.scrub': scrubSome,
};

/** How a memory operation goes on. */
export const memoryStep = (op: MemoryOp<'concrete'>): Perform =>
  performing(handlers[op.kind] as Handler<typeof op>, op);

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
  const scrubbed = cutAt(cut, scrub(cut.state, choice.mfn), cut.cursor + 1);
  return go(scrubbed, task, { at: 'next', part: part + 1 });
}
