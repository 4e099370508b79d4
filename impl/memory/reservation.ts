// Reservations: populate, increase, decrease, and the question how much a domain has.
// Extents are served one after the other; a failing one ends the batch and is not counted, and what it did so far stays (a
// populated extent that could not be mapped stays allocated; pages of a half-removed extent stay removed). What one extent
// made stale is flushed before the next, but for pages that are free by then under the lazy policy.
// A first reader may skip nothing. Sources: Xen common/memory.c (populate_physmap, increase_reservation, decrease_reservation,
// guest_remove_page), arch/x86/mm/p2m.c (p2m_add_page).

import { type DomId, DOMID_CONTROL, INVALID_GFN } from '#abi/address.ts';
import { gfnCount } from '#abi/geometry.ts';
import type { MemoryOp } from '#abi/memory.ts';
import type { Extents } from '#abi/operand.ts';
import { reply, type Errno, type Reply } from '#abi/reply.ts';
import { frameRoles } from '#abi/roles.ts';
import { pow2 } from '#lib/bits.ts';
import { unreachable } from '#lib/invariant.ts';
import type { Call } from '../execution.ts';
import { lockP2m, lookup, unlockP2m } from '../hap/table.ts';
import type { Machine } from '../machine.ts';
import type { Step } from '../port.ts';
import { getPage, isMemory } from '../pv/frames.ts';
import { markGfn } from './dirty-log.ts';
import { dropAllocated, putReference } from './frames.ts';
import { fetchWord, storeWord } from './guest.ts';
import { allocateRam, type Given } from './heap.ts';
import { crash } from './life.ts';
import { isRamType, isSpecialType, setP2m, settleP2m } from './p2m.ts';
import { decreaseOnDemand } from './pod-decrease.ts';
import { markOnDemand } from './pod.ts';
import { callerIn, exists, isAlive, isParavirtual, targetOf } from './target.ts';

type Op<K extends MemoryOp<'concrete'>['kind']> = Extract<MemoryOp<'concrete'>, { kind: K }>;
type Reservation = Op<'memory.populate' | 'memory.populateOnDemand' | 'memory.increase' | 'memory.decrease'>;

const RAM = frameRoles.indexOf('ram');

export const countOf = (extents: Extents<'concrete'>): number =>
  extents.by === 'value' ? extents.gfns.length : extents.count;

export function orderMax(m: Machine, caller: DomId): number {
  const { orderMaxControl, orderMaxGuest } = m.geometry.capacity;
  return caller === DOMID_CONTROL ? orderMaxControl : orderMaxGuest;
}

/** The gfn that element `index` names; -1: its fetch faults. */
export function* fetchGfn(
  m: Machine,
  caller: DomId,
  from: { extents: Extents<'concrete'>; index: number },
): Step<number> {
  const { extents, index } = from;
  if (extents.by === 'value') return extents.gfns[index] ?? -1;
  const who = { domain: caller, purpose: 'guest' } as const;
  const isFetched = yield* fetchWord(m, who, { domain: caller, buffer: extents.buffer, index });
  return isFetched ? m.port.lo + m.port.hi * pow2(32) : -1;
}

/** The checks before the first extent, in Xen's order; the target, or the answer. */
function admit(m: Machine, call: Call, op: Reservation): DomId | Reply {
  const count = op.kind === 'memory.increase' ? op.count : countOf(op.extents);
  if (count > m.geometry.capacity.batch) return reply('E2BIG');
  if (op.start >= count) return reply('ok', { done: op.start });
  const target = targetOf(m, call, op.target);
  if (typeof target === 'string') return reply(target, { done: op.start });
  const most = op.kind === 'memory.populateOnDemand' ? DOMID_CONTROL : callerIn(call);
  return op.order > orderMax(m, most) ? reply('EPERM', { done: op.start }) : target;
}

/** populate, increase, decrease: the whole batch, up to its end, a failure or a preemption. */
export function* reservationStep(m: Machine, call: Call, op: Reservation): Step<Reply> {
  const target = admit(m, call, op);
  if (typeof target !== 'number') return target;
  const count = op.kind === 'memory.increase' ? op.count : countOf(op.extents);
  for (let index = op.start; index < count; index += 1) {
    if (index > op.start && m.port.preempts(index)) return reply('preempted', { done: index });
    const errno = yield* serve(m, call, { op, target, index });
    if (errno !== undefined) return reply(errno, { done: index });
  }
  return reply('ok', { done: count });
}

/** An extent in hand: element `index` of a batch. */
interface Extent {
  readonly op: Reservation;
  readonly target: DomId;
  readonly index: number;
}

function* serve(m: Machine, call: Call, extent: Extent): Step<Errno | undefined> {
  const { op, target, index } = extent;
  if (op.kind === 'memory.increase') {
    const given = yield* provide(m, target, op.order);
    return typeof given === 'string' ? given : undefined;
  }
  const isNative = isParavirtual(m, target);
  const gfn = yield* fetchGfn(m, callerIn(call), { extents: op.extents, index });
  if (gfn < 0) return 'EFAULT';
  switch (op.kind) {
    case 'memory.populate':
      return isNative ? yield* populateNative(m, call, { ...extent, op, gfn }) : yield* populate(m, extent, gfn);
    case 'memory.populateOnDemand':
      // Nobody has memory of their own populated on demand.
      if (target === callerIn(call)) return 'EPERM';
      return isNative
        ? 'EINVAL'
        : yield* markOnDemand(m, target, { gfn, order: op.order, done: index * pow2(op.order) });
    case 'memory.decrease':
      return isNative ? yield* removeNative(m, extent, gfn) : yield* remove(m, extent, gfn);
    default:
      return unreachable(op);
  }
}

/** RAM for the target, at no gfn yet. */
function* provide(m: Machine, target: DomId, order: number): Step<Given | Errno> {
  return exists(m, target) ? yield* allocateRam(m, target, order) : 'ESRCH';
}

function* populate(m: Machine, { op, target, index }: Extent, gfn: number): Step<Errno | undefined> {
  const given = yield* provide(m, target, op.order);
  if (typeof given === 'string') return given;
  yield* lockP2m(m, target);
  const errno = yield* install(m, target, { gfn, order: op.order, ...given, done: index });
  yield* unlockP2m(m, target);
  return errno;
}

/** Maps a new extent, all of it or nothing. A domain that covers a granted or foreign entry is stopped for it. */
function* install(
  m: Machine,
  target: DomId,
  extent: Given & { readonly gfn: number; readonly order: number; readonly done: number },
): Step<Errno | undefined> {
  const { gfn, order, mfn, done } = extent;
  if (!exists(m, target)) return 'ESRCH';
  const size = pow2(order);
  // If the domain was torn down meanwhile its frames went with it, even if there is a new one by that name.
  const isSame = m.f.domLife.get(target) === extent.life;
  if (!isAlive(m, target) || !isSame || gfn + size > gfnCount(m.geometry)) return 'EINVAL';
  for (let i = 0; i < size; i += 1) {
    const there = lookup(m, target, gfn + i);
    if (there === undefined || !isSpecialType(there.type)) continue;
    crash(m, target);
    return 'EPERM';
  }
  if (!(yield* setP2m(m, target, { gfn, order, mfn, type: 'ramRw', done }))) return 'ENOMEM';
  for (let i = 0; i < size; i += 1) yield* markGfn(m, target, gfn + i);
  return undefined;
}

/**
 * Takes an extent away, first what memory on demand is concerned with, then page by page. Pages that are gone by then are passed
 * over; one more than those is none that was there.
 */
function* remove(m: Machine, { op, target, index }: Extent, gfn: number): Step<Errno | undefined> {
  const size = pow2(op.order);
  let gone = yield* decreaseOnDemand(m, target, { gfn, order: op.order });
  for (let part = 0; part + gone < size; part += 1) {
    yield* lockP2m(m, target);
    const errno = yield* unhook(m, target, { gfn: gfn + part, done: index * size + part });
    yield* unlockP2m(m, target);
    if (errno === 'ENOENT' && gone > 0) gone -= 1;
    else if (errno !== undefined) return errno;
  }
  return undefined;
}

/** Takes one page out of the P2M, whose lock is held, and lets go of it. */
function* unhook(
  m: Machine,
  target: DomId,
  { gfn, done }: { readonly gfn: number; readonly done: number },
): Step<Errno | undefined> {
  if (!exists(m, target)) return 'ESRCH';
  const found = lookup(m, target, gfn);
  if (found === undefined) return 'ENOENT';
  if (found.type === 'mmioDirect') return 'EPERM';
  if (!isRamType(found.type)) return 'EINVAL';
  if (!(yield* setP2m(m, target, { gfn, order: 0, mfn: 0, type: 'none', done }))) return 'ENOMEM';
  yield* letGo(m, target, found.mfn);
  return undefined;
}

/**
 * Lets go of a page of the target that has just been unhooked, the P2M lock still held; special pages are only unhooked.
 * eager: processors forget it first. lazy: a page that is free now carries its debt in its stamp, and nobody is interrupted.
 */
export function* letGo(m: Machine, target: DomId, mfn: number): Step<void> {
  const isRam = m.f.frameRole.get(mfn) === RAM && m.f.frameOwner.get(mfn) === target + 1;
  if (m.policies.flush === 'eager') yield* settleP2m(m, target);
  const isFreed = isRam && (yield* dropAllocated(m, mfn));
  if (isFreed) m.f.p2mNeedFlush.set(target, 0);
  else yield* settleP2m(m, target);
}

/**
 * A paravirtual guest is told which frames it has got, if it has named them in its memory, and they are known by the names that it
 * gave them. No table says where they are: the guest's own will.
 */
function* populateNative(
  m: Machine,
  call: Call,
  extent: Extent & { readonly op: Op<'memory.populate'>; readonly gfn: number },
): Step<Errno | undefined> {
  const { op, target, index, gfn } = extent;
  const given = yield* provide(m, target, op.order);
  if (typeof given === 'string') return given;
  const { mfn } = given;
  for (let i = 0; i < pow2(op.order); i += 1) m.f.m2p.setWide(mfn + i, Math.min(gfn + i, INVALID_GFN) + 1);
  if (op.extents.by === 'value') return undefined;
  const domain = callerIn(call);
  const to = { domain, buffer: op.extents.buffer, index, lo: mfn, hi: 0 };
  return (yield* storeWord(m, { domain, purpose: 'guest' }, to)) ? undefined : 'EFAULT';
}

/** Takes frames away from a paravirtual guest. Its tables may go on naming them, and then keep them. */
function* removeNative(m: Machine, { op, target }: Extent, first: number): Step<Errno | undefined> {
  // Counted by pages: a guest's number may be one to which nothing can be added.
  for (let i = 0; i < pow2(op.order); i += 1) {
    const mfn = first + i;
    if (!isMemory(m, mfn)) return 'EINVAL';
    if (!(yield* getPage(m, mfn, target))) return 'ENXIO';
    // What the hypervisor shares with the guest stays the hypervisor's.
    if (m.f.frameRole.get(mfn) === RAM) yield* dropAllocated(m, mfn);
    yield* putReference(m, mfn);
  }
  return undefined;
}

/** How many frames of RAM a domain has, mapped or not. */
export function reservation(m: Machine, call: Call, op: Op<'memory.reservation'>): Reply {
  const target = targetOf(m, call, op.target);
  return typeof target === 'string' ? reply(target) : reply('ok', { out: [m.f.domTotalPages.get(target)] });
}
