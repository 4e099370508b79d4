// Memory: who owns which frame, what a gfn means, how domains come and go. This file routes by kind.
// A first reader may skip it. Sources: Xen common/memory.c, common/domctl.c; see README.md.

import type { MemoryOp } from '#abi/memory.ts';
import type { Reply } from '#abi/reply.ts';
import { unreachable } from '#lib/invariant.ts';
import type { Call } from '../execution.ts';
import type { Machine } from '../machine.ts';
import type { Step } from '../port.ts';
import { memAccess, monitor, setAccessRequired, setMemAccess } from './access.ts';
import { claimPages } from './claims.ts';
import { exchange } from './exchange.ts';
import { killDomain } from './kill.ts';
import { createDomain, pauseDomain, setMaxPages, setPool, unpauseDomain } from './life.ts';
import { disableLogDirty, enableLogDirty, logDirty, modifiedMemory } from './log-dirty.ts';
import { iomemPermission, mapMmio } from './mmio.ts';
import { podTarget, setPodTarget } from './pod.ts';
import { addBatch, addRange } from './physmap-lists.ts';
import { addToPhysmap, removeFromPhysmap } from './physmap.ts';
import { reservation, reservationStep } from './reservation.ts';
import { scrubSome } from './scrub.ts';
import { setMemType } from './types.ts';

/** The body of a memory operation. */
export function* memoryStep(m: Machine, call: Call, op: MemoryOp<'concrete'>): Step<Reply> {
  switch (op.kind) {
    case 'memory.populate':
    case 'memory.populateOnDemand':
    case 'memory.increase':
    case 'memory.decrease':
      return yield* reservationStep(m, call, op);
    case 'memory.exchange':
      return yield* exchange(m, call, op);
    case 'memory.addToPhysmap':
      return yield* addToPhysmap(m, call, op);
    case 'memory.addRange':
      return yield* addRange(m, call, op);
    case 'memory.addBatch':
      return yield* addBatch(m, call, op);
    case 'memory.removeFromPhysmap':
      return yield* removeFromPhysmap(m, call, op);
    case 'memory.reservation':
      return reservation(m, call, op);
    case 'memory.createDomain':
      return yield* createDomain(m, call, op);
    case 'memory.pauseDomain':
      return yield* pauseDomain(m, call, op);
    case 'memory.unpauseDomain':
      return yield* unpauseDomain(m, call, op);
    case 'memory.killDomain':
      return yield* killDomain(m, call, op);
    case 'memory.setMaxPages':
      return yield* setMaxPages(m, call, op);
    case 'memory.setPool':
      return yield* setPool(m, call, op);
    case 'memory.enableLogDirty':
      return yield* enableLogDirty(m, call, op);
    case 'memory.disableLogDirty':
      return yield* disableLogDirty(m, call, op);
    case 'memory.logDirty':
      return yield* logDirty(m, call, op);
    case 'memory.modifiedMemory':
      return yield* modifiedMemory(m, call, op);
    case 'memory.setMemType':
      return yield* setMemType(m, call, op);
    case 'memory.setMemAccess':
      return yield* setMemAccess(m, call, op);
    case 'memory.memAccess':
      return memAccess(m, call, op);
    case 'memory.monitor':
      return yield* monitor(m, call, op);
    case 'memory.setAccessRequired':
      return yield* setAccessRequired(m, call, op);
    case 'memory.iomemPermission':
      return yield* iomemPermission(m, call, op);
    case 'memory.mapMmio':
      return yield* mapMmio(m, call, op);
    case 'memory.setPodTarget':
      return yield* setPodTarget(m, call, op);
    case 'memory.podTarget':
      return yield* podTarget(m, call, op);
    case 'memory.claimPages':
      return yield* claimPages(m, call, op);
    case 'memory.scrub':
      return yield* scrubSome(m, call, op);
    default:
      return unreachable(op);
  }
}
