// References: who holds a frame. The owner has one of its own, every foreign entry and every use of a grant has one. The
// last one frees the frame, and may be the last thing that kept a dead domain from its grave.
// A domain is buried at once under the heap lock, but not while an operation in flight works on its grant table: in Xen that
// keeps the structure. A first reader may skip `busyWith`.
// Sources: Xen arch/x86/mm.c (get_page, put_page), asm/mm.h (put_page_alloc_ref), common/domain.c (domain_destroy,
// complete_domain_destroy).

import { frameRoles } from '#abi/roles.ts';
import { pow2 } from '#lib/bits.ts';
import { invariant, present } from '#lib/invariant.ts';
import { domStates, refsOf } from '../layout.ts';
import type { Machine } from '../machine.ts';
import type { Step } from '../port.ts';
import { flushNative, pcpusOf } from '../tlb/flush.ts';
import { lockHeap, releaseFrame, unlockHeap } from './heap.ts';
import { isParavirtual } from './target.ts';

const FREE = frameRoles.indexOf('free');
const NONE = domStates.indexOf('none');
const DEAD = domStates.indexOf('dead');

/** One more reference, at once; false: the frame is being freed, or its count is nearly full. */
export function getReference(m: Machine, mfn: number): boolean {
  const refs = m.f.frameRefs.get(mfn);
  if (refs === 0 || refs + 2 >= pow2(m.geometry.width.refCount)) return false;
  m.f.frameRefs.set(mfn, refs + 1);
  return true;
}

/** One reference less. */
export function* putReference(m: Machine, mfn: number): Step<void> {
  yield* m.port.point('reference', 'frame');
  yield* drop(m, mfn);
}

/** The owner lets go of its frame: its own reference is dropped, once. Answers whether that freed the frame. */
export function* dropAllocated(m: Machine, mfn: number): Step<boolean> {
  yield* m.port.point('reference', 'frame');
  if (m.f.frameAllocated.get(mfn) === 0) return false;
  m.f.frameAllocated.set(mfn, 0);
  return yield* drop(m, mfn);
}

/** The same of a frame that nobody holds for the caller: by then it may have come to another owner. */
export function* dropAllocatedOf(m: Machine, mfn: number, owner: number): Step<void> {
  yield* m.port.point('reference', 'frame');
  if (m.f.frameOwner.get(mfn) !== owner + 1 || m.f.frameAllocated.get(mfn) === 0) return;
  m.f.frameAllocated.set(mfn, 0);
  yield* drop(m, mfn);
}

/** Answers whether that freed the frame. */
function* drop(m: Machine, mfn: number): Step<boolean> {
  const owner = m.f.frameOwner.get(mfn) - 1;
  const refs = m.f.frameRefs.get(mfn);
  invariant(refs > 0, 'a reference that is dropped was held');
  invariant(m.f.frameRole.get(mfn) !== FREE, 'no free frame is referenced');
  m.f.frameRefs.set(mfn, refs - 1);
  if (refs === 1) yield* freeUnreferenced(m, mfn, 0);
  yield* buryIfOver(m, owner);
  return refs === 1;
}

/** Frees a frame that nobody can hold any more. `fewer`: pages that its owner has less beside. Whoever has no page left may be buried. */
export function* freeUnreferenced(m: Machine, mfn: number, fewer: number): Step<void> {
  const owner = m.f.frameOwner.get(mfn) - 1;
  // Of others than paravirtual guests processors have forgotten it by now.
  if (m.policies.flush === 'eager' && isParavirtual(m, owner)) yield* flushNative(m, () => pcpusOf(m, owner));
  yield* m.port.point('free', 'heap');
  yield* lockHeap(m);
  if (fewer > 0) m.f.domTotalPages.add(owner, -fewer);
  yield* releaseFrame(m, mfn);
  if (isOver(m, owner) && busyWith(m, owner) === 0) yield* bury(m, owner);
  yield* unlockHeap(m);
}

/** The frames that live as long as the domain structure, which is the last of them. */
function lastFrames(m: Machine, dom: number): readonly number[] {
  const { f } = m;
  const { grantFrames, maptrackFrames } = m.geometry.capacity;
  const frames = [f.domSharedInfo.get(dom)];
  for (let i = 0; i < f.grantFrameCount.get(dom); i += 1) frames.push(f.grantFrame.get(dom * grantFrames + i));
  for (let i = 0; i < f.maptrackFrameCount.get(dom); i += 1) frames.push(f.maptrackFrame.get(dom * maptrackFrames + i));
  frames.push(f.domStructure.get(dom));
  return frames;
}

/** Whether `dom` is dead and nobody holds a frame of it. */
function isOver(m: Machine, dom: number): boolean {
  if (dom < 0 || m.f.domState.get(dom) !== DEAD || m.f.domTotalPages.get(dom) > 0) return false;
  return lastFrames(m, dom).every((mfn) => m.f.frameRefs.get(mfn) <= 1);
}

/** The slot of an operation that works on the grant table or the maptrack of `dom`; 0: none. */
function busyWith(m: Machine, dom: number): number {
  const { grantLock, maptrackLock, activeLock } = m.f;
  if (grantLock.get(dom) !== 0) return grantLock.get(dom);
  if (maptrackLock.get(dom) !== 0) return maptrackLock.get(dom);
  const refs = refsOf(m.geometry);
  for (let at = dom * refs; at < (dom + 1) * refs; at += 1) if (activeLock.get(at) !== 0) return activeLock.get(at);
  return 0;
}

/** Buries `dom` if nothing keeps it: afterwards nothing remains of it. No lock of its grant table may be held. */
export function* buryIfOver(m: Machine, dom: number): Step<void> {
  const self = present(m.port.current, 'hypervisor code runs within an execution').slot;
  while (isOver(m, dom)) {
    const slot = busyWith(m, dom);
    invariant(slot !== self, 'who works on a grant table does not bury its domain');
    if (slot !== 0) {
      yield* m.port.wait(slot);
      continue;
    }
    yield* lockHeap(m);
    if (isOver(m, dom) && busyWith(m, dom) === 0) yield* bury(m, dom);
    yield* unlockHeap(m);
  }
}

/** Uses of its grants whose entries are gone: mappers that are paravirtual have taken them away by other means than they should. */
function forgetUses(m: Machine, dom: number): void {
  const { f } = m;
  const refs = refsOf(m.geometry);
  const pins = [f.activeHostRead, f.activeHostWrite, f.activeDeviceRead, f.activeDeviceWrite];
  for (let at = dom * refs; at < (dom + 1) * refs; at += 1)
    if (f.activeDomain.get(at) !== 0)
      for (const field of [f.activeDomain, f.activeMfn, f.activeIncarnation, ...pins]) field.set(at, 0);
}

/** The id is free at once, then the frames follow, the heap lock held. */
function* bury(m: Machine, dom: number): Step<void> {
  const { f } = m;
  const frames = lastFrames(m, dom);
  f.domState.set(dom, NONE);
  forgetUses(m, dom);
  f.domStructure.set(dom, 0);
  f.domSharedInfo.set(dom, 0);
  f.grantFrameCount.set(dom, 0);
  f.maptrackFrameCount.set(dom, 0);
  f.maptrackHead.set(dom, 0);
  f.maptrackTail.set(dom, 0);
  for (const mfn of frames) {
    yield* m.port.point('free', 'heap');
    yield* releaseFrame(m, mfn);
  }
}
