// Putting hypervisor pages, own frames and foreign frames at a gfn, and taking what is there away.
// Order: the previous page is unhooked and let go of, then the frame leaves its old gfn, then it appears at the new one; all
// of it under the P2M lock, and processors forget before the frame appears. The tables for all three changes are reserved
// before the first, so that a refusal of the pool changes nothing (stricter than Xen).
// A first reader may skip `planFor`. Sources: Xen common/memory.c (xenmem_add_to_physmap_one), arch/x86/mm.c,
// arch/x86/mm/p2m.c (p2m_add_foreign).

import { DOMID_SELF, type DomId } from '#abi/address.ts';
import { gfnCount } from '#abi/geometry.ts';
import type { MemoryOp } from '#abi/memory.ts';
import { reply, type Errno, type Reply } from '#abi/reply.ts';
import { low32 } from '#lib/bits.ts';
import { unreachable } from '#lib/invariant.ts';
import type { Call } from '../execution.ts';
import { growGrants } from '../grants/table.ts';
import { reserve } from '../hap/pages.ts';
import { lockP2m, lookup, tablesFor, unlockP2m, type Change } from '../hap/table.ts';
import type { Machine } from '../machine.ts';
import type { Step } from '../port.ts';
import { markGfn } from './dirty-log.ts';
import { getReference, putReference } from './frames.ts';
import { isRamType, isSpecialType, ownGfn, setP2m, settleP2m } from './p2m.ts';
import { demand, isOnDemand } from './pod-demand.ts';
import { giveTable } from './pool.ts';
import { letGo } from './reservation.ts';
import { callerIn, exists, isAlive, isParavirtual, targetOf } from './target.ts';

type Add = Extract<MemoryOp<'concrete'>, { kind: 'memory.addToPhysmap' }>;
type Remove = Extract<MemoryOp<'concrete'>, { kind: 'memory.removeFromPhysmap' }>;

const CONTROL = 0;

/** Whether the target has places of its own, and this space is for it: devices are for the control domain itself. */
function hasSpace(m: Machine, call: Call, of: { readonly target: DomId; readonly space: string }): boolean {
  if (isParavirtual(m, of.target)) return false;
  return of.space !== 'devMmio' || (m.f.domKind.get(of.target) === CONTROL && callerIn(call) === of.target);
}

/** The domain at whose gfns something is to be put; whether there is room for such things comes before whether the caller may. */
export function placesOf(
  m: Machine,
  call: Call,
  { target, space }: { readonly target: DomId; readonly space: string },
): DomId | 'ESRCH' | 'EACCES' | 'EPERM' {
  const dom = target === DOMID_SELF ? callerIn(call) : target;
  if (!exists(m, dom)) return 'ESRCH';
  return hasSpace(m, call, { target: dom, space }) ? targetOf(m, call, target) : 'EACCES';
}

/** Puts one frame at one gfn. `done`: elements complete by then, of a call that puts several. */
export function* addToPhysmap(m: Machine, call: Call, op: Add, done?: number): Step<Reply> {
  const target = placesOf(m, call, op);
  if (typeof target === 'string') return reply(target);
  // Of the number of a grant frame 32 bits count.
  if (op.space === 'grantTable' && low32(op.index) < m.f.grantLimit.get(target)) {
    const isGrown = yield* growGrants(m, target, low32(op.index) + 1);
    if (!isGrown) return reply(exists(m, target) ? 'EINVAL' : 'ESRCH');
  }
  yield* lockP2m(m, target);
  const errno = yield* place(m, call, { op, done });
  yield* unlockP2m(m, target);
  return reply(errno ?? 'ok');
}

/** The frame of its own, RAM or a hypervisor page, that the target has at a gfn. */
function* ownFrame(m: Machine, target: DomId, gfn: number): Step<number | Errno> {
  if (isOnDemand(m, target, gfn)) yield* demand(m, target, gfn);
  const found = lookup(m, target, gfn);
  return found !== undefined && isRamType(found.type) ? found.mfn : 'EINVAL';
}

/** The frame of another domain that the control domain may map: RAM of some kind, not itself borrowed. */
function* foreignFrame(m: Machine, target: DomId, op: Add): Step<number | Errno> {
  if (m.f.domKind.get(target) !== CONTROL) return 'EPERM';
  if (!exists(m, op.foreign)) return 'ESRCH';
  return op.foreign === target ? 'EINVAL' : yield* ownFrame(m, op.foreign, op.index);
}

/** The frame that is to appear, or why not. */
function* frameFor(m: Machine, target: DomId, op: Add): Step<number | Errno> {
  switch (op.space) {
    case 'sharedInfo':
      return op.index === 0 ? m.f.domSharedInfo.get(target) : 'EINVAL';
    case 'grantTable':
      if (low32(op.index) >= m.f.grantFrameCount.get(target)) return 'EINVAL';
      return m.f.grantFrame.get(target * m.geometry.capacity.grantFrames + low32(op.index));
    case 'gmfn':
      return yield* ownFrame(m, target, op.index);
    case 'gmfnForeign':
      return yield* foreignFrame(m, target, op);
    case 'devMmio':
      return 'EINVAL';
    default:
      return unreachable(op.space);
  }
}

/** Checks, reserves the tables, holds a foreign frame, and makes the changes. The P2M lock is held. */
function* place(
  m: Machine,
  call: Call,
  { op, done }: { readonly op: Add; readonly done: number | undefined },
): Step<Errno | undefined> {
  const target = targetOf(m, call, op.target);
  if (typeof target === 'string') return target;
  const mfn = yield* frameFor(m, target, op);
  if (typeof mfn === 'string') return mfn;
  if (!isAlive(m, target) || op.gfn >= gfnCount(m.geometry)) return 'EINVAL';
  if (isOnDemand(m, target, op.gfn) && !(yield* populateBeside(m, target, { gfn: op.gfn, mfn }))) return 'EINVAL';
  const previous = lookup(m, target, op.gfn);
  if (previous?.type === 'mmioDirect') return 'EPERM';
  if (previous !== undefined && isSpecialType(previous.type)) return 'ENXIO';
  if (previous?.mfn === mfn) return undefined;
  const count = tablesOf(m, target, planFor(m, target, { op, mfn }));
  const pages = yield* reserve(m, target, { count, done });
  if (pages === undefined) return 'ENOMEM';
  // A foreign frame may have gone meanwhile: it is looked up and held in one act.
  const held = op.space === 'gmfnForeign' ? yield* hold(m, target, op) : mfn;
  if (typeof held === 'number') yield* carryOut(m, target, { plan: planFor(m, target, { op, mfn: held }), pages });
  for (const page of pages) yield* giveTable(m, target, page);
  return typeof held === 'number' ? undefined : held;
}

/**
 * Populates a gfn while `mfn` is in hand: held, for memory that looks unused may be reclaimed on the way, and come to that very gfn.
 * False: it cannot be held.
 */
function* populateBeside(m: Machine, target: DomId, at: { readonly gfn: number; readonly mfn: number }): Step<boolean> {
  if (!getReference(m, at.mfn)) return false;
  yield* demand(m, target, at.gfn);
  yield* putReference(m, at.mfn);
  return true;
}

/** A foreign frame, with a reference for the entry; or why not. */
function* hold(m: Machine, target: DomId, op: Add): Step<number | Errno> {
  const found = yield* foreignFrame(m, target, op);
  if (typeof found === 'string') return found;
  return getReference(m, found) ? found : 'EBUSY';
}

/** The changes by which `mfn` comes to the gfn: what is there goes, the frame leaves where it was, then it appears. */
interface Plan {
  readonly leaves: Change | undefined;
  readonly previous: number;
  readonly moves: Change | undefined;
  readonly appears: Change;
}

const nothingAt = (gfn: number): Change => ({ gfn, order: 0, mfn: 0, type: 'none' });

function planFor(m: Machine, target: DomId, { op, mfn }: { readonly op: Add; readonly mfn: number }): Plan {
  const { gfn } = op;
  const isForeign = op.space === 'gmfnForeign';
  const previous = lookup(m, target, gfn)?.mfn ?? 0;
  const old = isForeign ? -1 : ownGfn(m, mfn);
  return {
    leaves: previous === 0 ? undefined : nothingAt(gfn),
    previous,
    moves: old < 0 ? undefined : nothingAt(old),
    appears: { gfn, order: 0, mfn, type: isForeign ? 'foreign' : 'ramRw' },
  };
}

/** How many table pages a plan takes at most: a table that serves two changes is counted twice. */
const tablesOf = (m: Machine, target: DomId, { leaves, moves, appears }: Plan): number =>
  [leaves, moves, appears].reduce((sum, one) => sum + (one === undefined ? 0 : tablesFor(m, target, one)), 0);

/** Carries a plan out. Before the frame appears nobody uses what was replaced. */
function* carryOut(m: Machine, target: DomId, { plan, pages }: { readonly plan: Plan; pages: number[] }): Step<void> {
  if (plan.leaves !== undefined) {
    yield* setP2m(m, target, { ...plan.leaves, pages });
    yield* letGo(m, target, plan.previous);
  }
  if (plan.moves !== undefined) yield* setP2m(m, target, { ...plan.moves, pages });
  yield* settleP2m(m, target);
  yield* setP2m(m, target, { ...plan.appears, pages });
  // What the gfn holds has changed as if it were written.
  if (plan.appears.type !== 'foreign') yield* markGfn(m, target, plan.appears.gfn);
}

/** Takes away what is at a gfn. RAM stays owned, at no gfn; a foreign entry gives its reference back. */
export function* removeFromPhysmap(m: Machine, call: Call, op: Remove): Step<Reply> {
  const target = targetOf(m, call, op.target);
  if (typeof target === 'string') return reply(target);
  if (isParavirtual(m, target)) return reply('EACCES');
  yield* lockP2m(m, target);
  const removed = yield* takeAway(m, call, op);
  yield* unlockP2m(m, target);
  if (typeof removed === 'string') return reply(removed);
  if (removed !== 0) yield* putReference(m, removed);
  return reply('ok');
}

/** The frame whose reference is to be put (0: none), or why nothing was taken away. The P2M lock is held. */
function* takeAway(m: Machine, call: Call, op: Remove): Step<number | Errno> {
  const target = targetOf(m, call, op.target);
  if (typeof target === 'string') return target;
  if (isOnDemand(m, target, op.gfn)) yield* demand(m, target, op.gfn);
  const found = lookup(m, target, op.gfn);
  if (found === undefined || found.mfn === 0 || found.type === 'grantRw' || found.type === 'grantRo') return 'ENOENT';
  if (found.type === 'mmioDirect') return 'EPERM';
  const isRemoved = yield* setP2m(m, target, { gfn: op.gfn, order: 0, mfn: 0, type: 'none' });
  if (!isRemoved) return 'ENOMEM';
  return found.type === 'foreign' ? found.mfn : 0;
}
