// The heap: how frames get an owner and lose it. A frame is handed over only when no processor can use a translation to it
// any more (debts are settled by the stamps that freed frames carry) and, as RAM, only erased; what the hypervisor takes for
// itself it fills itself. All of one hand-over happens under the heap lock. (Xen drops the lock before it flushes and
// scrubs; here a frame is never neither free nor owned.)
// A first reader may skip `allocateRam`, which is `allocate` with the checks of an owner of RAM.
// Source: Xen common/page_alloc.c (alloc_heap_pages, free_heap_pages, assign_pages, free_domheap_pages).

import type { DomId, Mfn } from '#abi/address.ts';
import type { Errno } from '#abi/reply.ts';
import { frameRoles, guestVisibleRoles, type FrameRole } from '#abi/roles.ts';
import { pow2 } from '#lib/bits.ts';
import { invariant } from '#lib/invariant.ts';
import { domStates } from '../layout.ts';
import type { Machine } from '../machine.ts';
import type { Step } from '../port.ts';
import { flushForFrames, stamp } from '../tlb/flush.ts';
import { giveRun, takeRun } from './buddy.ts';
import { fill, scrubFrame } from './contents.ts';

/** 2^order frames for `owner`, all in one role. */
export interface Wanted {
  readonly order: number;
  readonly owner: DomId;
  readonly role: FrameRole;
}

const FREE = frameRoles.indexOf('free');
const RAM = frameRoles.indexOf('ram');
const XEN = frameRoles.indexOf('xen');
const SHARED_INFO = frameRoles.indexOf('sharedInfo');
const GRANT_FRAME = frameRoles.indexOf('grantFrame');
const RUNNING = domStates.indexOf('running');

/** What stands for the hypervisor's private data in both halves of its words. */
const PRIVATE = 0x5eed_c0de;

/** All frames are free but frame 0, which is the hypervisor's own. */
export function initHeap(m: Machine): void {
  m.f.frameRole.set(0, XEN);
  m.f.frameRefs.set(0, 1);
  m.f.frameAllocated.set(0, 1);
  m.f.frameIncarnation.set(0, 1);
  fill(m, 0, { purpose: 'internal', half: PRIVATE });
  for (let mfn = 1; mfn < m.geometry.frameCount; mfn += 1) giveRun(m, mfn, 0);
}

export const lockHeap = (m: Machine): Step<void> => m.port.lock('heapLock', m.f.heapLock, 0);
export const unlockHeap = (m: Machine): Step<void> => m.port.unlock('heapLock', m.f.heapLock, 0);

/** Frames as wanted, the first of them; 0: the heap refused, and the log says so. */
export function* allocate(m: Machine, want: Wanted): Step<number> {
  yield* m.port.point('allocate', 'heap');
  yield* lockHeap(m);
  const mfn = yield* take(m, want);
  if (mfn !== 0) handOver(m, mfn, want);
  yield* unlockHeap(m);
  return mfn;
}

/** RAM that was handed over: the first frame, and in which life of its owner. */
export interface Given {
  readonly mfn: number;
  readonly life: number;
}

/** RAM for a domain, if it may have it; or why not. */
export function* allocateRam(m: Machine, owner: DomId, order: number): Step<Given | Errno> {
  const want: Wanted = { order, owner, role: 'ram' };
  yield* m.port.point('allocate', 'heap');
  yield* lockHeap(m);
  let errno = overdrawn(m, want);
  const mfn = errno === undefined ? yield* take(m, want) : 0;
  // The limit may have been lowered while the frames were being made ready.
  errno ??= overdrawn(m, want);
  if (mfn !== 0 && errno === undefined) handOver(m, mfn, want);
  else if (mfn !== 0) giveRun(m, mfn, order);
  const life = m.f.domLife.get(owner);
  yield* unlockHeap(m);
  if (errno !== undefined) return errno;
  return mfn === 0 ? 'ENOMEM' : { mfn, life };
}

/** Single frames of these roles for `owner`, in order, all or none: then those given before the refusal are free again. */
export function* allocateAll(
  m: Machine,
  owner: DomId,
  roles: readonly FrameRole[],
): Step<readonly number[] | undefined> {
  const given: number[] = [];
  yield* m.port.point('allocate', 'heap');
  yield* lockHeap(m);
  for (const role of roles) {
    const want: Wanted = { order: 0, owner, role };
    const mfn = yield* take(m, want);
    if (mfn === 0) break;
    handOver(m, mfn, want);
    given.push(mfn);
  }
  const isRefused = given.length < roles.length;
  if (isRefused) for (const mfn of given) yield* releaseFrame(m, mfn);
  yield* unlockHeap(m);
  return isRefused ? undefined : given;
}

/** Why `owner` may not have that much RAM (more). The sum is made in the counter's own width, and may overflow. */
function overdrawn(m: Machine, { owner, order }: Wanted): Errno | undefined {
  if (m.f.domState.get(owner) !== RUNNING) return 'EINVAL';
  const more = pow2(order);
  const sum = (m.f.domTotalPages.get(owner) + more) % pow2(m.geometry.width.pages);
  if (sum > m.f.domMaxPages.get(owner)) return 'E2BIG';
  if (sum < more) return 'E2BIG';
  return undefined;
}

/** Whether guests will see what the frames hold: nobody fills them before. */
const isForGuests = (role: FrameRole): boolean => role === 'ram' || role === 'inHand';

/** Whether what is free is claimed, by others than who asks: the hypervisor itself has no claims, nor has what only passes through its hands. */
function isClaimed({ f }: Machine, { order, owner, role }: Wanted): boolean {
  const claimed = f.heapClaimed.get(0);
  const request = pow2(order);
  if (claimed + request <= f.heapFree.get(0) || claimed === 0) return false;
  return role !== 'ram' || f.domClaim.get(owner) < request;
}

/** `owner` claims so many frames from now on; the heap lock is held. */
export function setClaim({ f }: Machine, owner: number, frames: number): void {
  const by = frames - f.domClaim.get(owner);
  invariant(f.heapClaimed.get(0) + by >= 0, 'no more claims go than there are');
  f.heapClaimed.add(0, by);
  f.domClaim.set(owner, frames);
}

/** Takes a run off the free lists and makes it ready, the heap lock held. 0: refused. */
function* take(m: Machine, want: Wanted): Step<number> {
  const { order, role } = want;
  const injected = m.port.fails('heap');
  const mfn = injected || isClaimed(m, want) ? 0 : takeRun(m, order);
  if (mfn === 0) {
    m.port.refuse('heap');
    return 0;
  }
  const end = mfn + pow2(order);
  yield* flushForFrames(m, mfn, end - mfn);
  if (isForGuests(role))
    for (let at = mfn; at < end; at += 1) if (m.f.frameDirty.get(at) !== 0) yield* scrubFrame(m, at);
  return mfn;
}

/** Gives a run that is ready to its owner: one act. */
function handOver(m: Machine, first: number, { order, owner, role }: Wanted): void {
  const { f } = m;
  const end = first + pow2(order);
  m.port.choose({ kind: 'frame', mfn: first as Mfn, order });
  for (let mfn = first; mfn < end; mfn += 1) {
    invariant(f.frameRole.get(mfn) === FREE, 'what is handed over was free');
    invariant(f.frameRefs.get(mfn) === 0, 'a free frame has no references');
    const isOwned = role !== 'inHand';
    f.frameRole.set(mfn, frameRoles.indexOf(role));
    f.frameOwner.set(mfn, isOwned ? owner + 1 : 0);
    f.frameAllocated.set(mfn, isOwned ? 1 : 0);
    f.frameRefs.set(mfn, isOwned ? 1 : 0);
    f.frameDirty.set(mfn, 0);
    f.frameIncarnation.add(mfn, 1);
    furnish(m, mfn, role);
  }
  if (role !== 'ram') return;
  f.domTotalPages.add(owner, end - first);
  const claim = f.domClaim.get(owner);
  if (claim > 0) setClaim(m, owner, Math.max(0, claim - (end - first)));
}

/** What the hypervisor takes for itself or shows to a guest it fills. Pool frames are cleared when they become tables. */
function furnish(m: Machine, mfn: number, role: FrameRole): void {
  if (isForGuests(role) || role === 'pool') return;
  fill(m, mfn, { purpose: 'internal', half: role === 'xen' ? PRIVATE : 0 });
}

/**
 * Puts a frame back on the heap, the heap lock held; at once, but for the erasure. Erasure is owed for the hypervisor's
 * own, for the dying, and under the policy `always`; it comes now or later, but never while a debt is left.
 */
export function* releaseFrame(m: Machine, mfn: number): Step<void> {
  const { f, policies } = m;
  const owner = f.frameOwner.get(mfn) - 1;
  const role = f.frameRole.get(mfn);
  invariant(role !== FREE, 'what is freed was in use');
  const isLiveRam = role === RAM && f.domState.get(owner) === RUNNING;
  if (mayBeRemembered(m, owner, frameRoles[role])) stamp(m, mfn);
  f.frameRole.set(mfn, FREE);
  f.frameOwner.set(mfn, 0);
  f.frameAllocated.set(mfn, 0);
  f.frameRefs.set(mfn, 0);
  f.frameDirty.set(mfn, isLiveRam && policies.scrub === 'dying' ? 0 : 1);
  f.m2p.setWide(mfn, 0);
  endType(m, mfn, role);
  if (role === RAM) f.domTotalPages.add(owner, -1);
  giveRun(m, mfn, 0);
  if (policies.scrubAt === 'free' && isScrubbable(m, mfn)) yield* scrubFrame(m, mfn);
}

/** What a frame was typed as is forgotten with its last reference. What the hypervisor shares with a guest is writable up to its end. */
function endType(m: Machine, mfn: number, role: number): void {
  const { frameType, frameTypeCount, frameValidated, framePinned, pageLock } = m.f;
  const isShared = role === SHARED_INFO || role === GRANT_FRAME;
  invariant(frameTypeCount.get(mfn) === 0 || isShared, 'no frame that is freed is in use by its type');
  invariant(framePinned.get(mfn) === 0, 'no free frame is pinned');
  invariant(pageLock.get(mfn) === 0, 'nobody keeps others out of a free frame');
  frameType.set(mfn, 0);
  frameTypeCount.set(mfn, 0);
  frameValidated.set(mfn, 0);
}

/** Whether a free frame can be erased for the last time: that is owed, and no processor may still write to it. */
export const isScrubbable = (m: Machine, mfn: number): boolean =>
  m.f.frameRole.get(mfn) === FREE && m.f.frameDirty.get(mfn) !== 0 && m.f.frameNeedFlush.get(mfn) === 0;

/** Under the lazy policy processors that run the owner may remember a frame that is let go. The eager one has flushed. */
function mayBeRemembered(m: Machine, owner: number, role: FrameRole | undefined): boolean {
  if (m.policies.flush === 'eager' || owner < 0 || role === undefined) return false;
  if (role !== 'inHand' && !guestVisibleRoles.includes(role)) return false;
  const { vcpusPerDomain } = m.geometry.capacity;
  for (let key = owner * vcpusPerDomain; key < (owner + 1) * vcpusPerDomain; key += 1)
    if (m.f.vcpuOn.get(key) !== 0) return true;
  return false;
}
