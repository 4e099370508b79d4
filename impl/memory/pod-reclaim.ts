// Getting memory back that a guest has not used: RAM that holds nothing but zeros becomes on demand again, and its frames go to the
// cache. First a glance; then the entry is removed and processors forget it; then the real look, since the guest could write until
// then. What is used after all is put back. The P2M lock is held throughout.
// A first reader may skip the sweep's arithmetic. Source: Xen arch/x86/mm/p2m-pod.c (p2m_pod_zero_check,
// p2m_pod_zero_check_superpage, p2m_pod_emergency_sweep, pod_eager_reclaim, pod_eager_record).

import type { Principal } from '#abi/acts.ts';
import { podPart } from '#abi/choices.ts';
import { superpageOrder } from '#abi/geometry.ts';
import type { P2mType } from '#abi/hap.ts';
import type { DomId } from '#abi/address.ts';
import { frameRoles } from '#abi/roles.ts';
import { pow2 } from '#lib/bits.ts';
import { invariant } from '#lib/invariant.ts';
import { lookup, pieceAt } from '../hap/table.ts';
import type { Machine } from '../machine.ts';
import type { Step } from '../port.ts';
import { countOnDemand, isRamType, replaceEntries, settleP2m } from './p2m.ts';
import { addToCache } from './pod-frames.ts';

const RAM = frameRoles.indexOf('ram');

/** Words of a frame that a glance takes in. */
const GLANCE = 16;

/** Whether a frame is RAM that nobody but its owner `dom` holds. */
const isSole = ({ f }: Machine, dom: number, mfn: number): boolean =>
  f.frameRole.get(mfn) === RAM &&
  f.frameOwner.get(mfn) === dom + 1 &&
  f.frameAllocated.get(mfn) === 1 &&
  f.frameRefs.get(mfn) === 1;

/** Whether the first `words` words of a frame are zero. */
function isZero(m: Machine, dom: number, mfn: number, words: number): boolean {
  const who: Principal = { domain: dom as DomId, purpose: 'reclaim' };
  for (let index = 0; index < Math.min(words, m.geometry.wordsPerFrame); index += 1)
    if (m.port.peek(who, { mfn, index }) !== 0 || m.port.hi !== 0) return false;
  return true;
}

/** RAM that was at a gfn. */
interface Taken {
  readonly gfn: number;
  readonly mfn: number;
  readonly type: P2mType;
  readonly order: number;
}

/** Makes gfns on demand that were RAM. False: the pool refused a table. */
const remove = (m: Machine, dom: number, { gfn, order }: Taken): Step<boolean> =>
  replaceEntries(m, dom, { gfn, order, mfn: 0, type: 'populateOnDemand', done: podPart(gfn, 'looked') });

/** Puts RAM back that has just been removed: the entry is still there. */
function* putBack(m: Machine, dom: number, { gfn, mfn, type, order }: Taken): Step<void> {
  const isBack = yield* replaceEntries(m, dom, { gfn, order, mfn, type, done: podPart(gfn, 'looked') });
  invariant(isBack, 'what was removed as one can be put back as one');
}

/** The frames of what was removed hold nothing: they go to the cache. */
function keep(m: Machine, dom: number, { mfn, order }: Taken): void {
  addToCache(m, dom, { mfn, order });
  countOnDemand(m, dom, pow2(order));
}

const framesOf = ({ mfn, order }: Taken): readonly number[] => Array.from({ length: pow2(order) }, (_, i) => mfn + i);

/** The aligned run of RAM around a superpage's gfns if its frames lie together and are nobody else's; undefined: it is not so. */
function largeAt(m: Machine, dom: number, gfn: number): Taken | undefined {
  const order = superpageOrder(m.geometry);
  const first = lookup(m, dom, gfn);
  if (gfn % pow2(order) !== 0 || first === undefined || !isRamType(first.type)) return undefined;
  if (first.mfn % pow2(order) !== 0) return undefined;
  for (let i = 0; i < pow2(order); i += 1) {
    const found = lookup(m, dom, gfn + i);
    if (found?.type !== first.type || found.mfn !== first.mfn + i || !isSole(m, dom, found.mfn)) return undefined;
  }
  return { gfn, mfn: first.mfn, type: first.type, order };
}

/** Reclaims a superpage's worth of RAM as one; false: it is not so, or is used. */
export function* reclaimLarge(m: Machine, dom: number, gfn: number): Step<boolean> {
  const large = largeAt(m, dom, gfn);
  if (large === undefined || !framesOf(large).every((mfn) => isZero(m, dom, mfn, GLANCE))) return false;
  if (!(yield* remove(m, dom, large))) return false;
  yield* settleP2m(m, dom);
  yield* m.port.point('load', 'frame');
  const isUnused = framesOf(large).every((mfn) => isSole(m, dom, mfn) && isZero(m, dom, mfn, Infinity));
  if (isUnused) keep(m, dom, large);
  else yield* putBack(m, dom, large);
  return isUnused;
}

/** RAM at a gfn that nobody but the domain holds; undefined: it is not so. */
function singleAt(m: Machine, dom: number, gfn: number): Taken | undefined {
  const found = lookup(m, dom, gfn);
  if (found === undefined || !isRamType(found.type) || !isSole(m, dom, found.mfn)) return undefined;
  return { gfn, mfn: found.mfn, type: found.type, order: 0 };
}

/** Reclaims single frames, those of a list that are unused. */
export function* reclaimSingles(m: Machine, dom: number, gfns: readonly number[]): Step<void> {
  const removed: Taken[] = [];
  for (const page of gfns.flatMap((gfn) => singleAt(m, dom, gfn) ?? [])) {
    if (!isZero(m, dom, page.mfn, GLANCE) || !(yield* remove(m, dom, page))) continue;
    if (isSole(m, dom, page.mfn)) removed.push(page);
    else yield* putBack(m, dom, page);
  }
  yield* settleP2m(m, dom);
  for (const page of removed) {
    yield* m.port.point('load', 'frame');
    if (isZero(m, dom, page.mfn, Infinity)) keep(m, dom, page);
    else yield* putBack(m, dom, page);
  }
}

/** Remembers what was populated, in place of what lies longest. */
export function remember(m: Machine, dom: number, { gfn, order }: { gfn: number; order: number }): void {
  const { podRecent } = m.geometry.capacity;
  const next = m.f.podRecentAt.get(dom);
  m.f.podRecentGfn.setWide(dom * podRecent + next, gfn + 1);
  m.f.podRecentLarge.set(dom * podRecent + next, order > 0 ? 1 : 0);
  m.f.podRecentAt.set(dom, (next + 1) % podRecent);
}

/** Looks at what was populated longest ago; while the cache is empty also at what came after that. */
export function* reclaimRecent(m: Machine, dom: number): Step<void> {
  const { podRecent } = m.geometry.capacity;
  const from = m.f.podRecentAt.get(dom);
  for (let i = 0; i < podRecent && (i === 0 || m.f.podCount.get(dom) === 0); i += 1) {
    const at = dom * podRecent + ((from + i) % podRecent);
    const gfn = m.f.podRecentGfn.getWide(at) - 1;
    if (gfn < 0) continue;
    if (m.f.podRecentLarge.get(at) === 0) yield* reclaimSingles(m, dom, [gfn]);
    else if (!(yield* reclaimLarge(m, dom, gfn)))
      for (let k = 0; k < pow2(superpageOrder(m.geometry)); k += 1) yield* reclaimSingles(m, dom, [gfn + k]);
    m.f.podRecentGfn.setWide(at, 0);
    m.f.podRecentLarge.set(at, 0);
  }
}

/**
 * Looks at all RAM from where the last sweep ended, gfns descending, a stride at a time: as far as the limit in any case, then
 * until something is found or all is seen. Holes are passed over at once. gfn 0 is never looked at, as in Xen.
 */
export function* sweep(m: Machine, dom: number): Step<void> {
  const { podStride, podSweep } = m.geometry.capacity;
  const start = m.f.podSweepAt.getWide(dom) || m.f.podHighest.getWide(dom);
  const limit = Math.max(0, start - podSweep);
  let list: number[] = [];
  let gfn = start;
  while (gfn > 0) {
    const { type, order } = pieceAt(m, dom, gfn);
    let lowest = gfn;
    if (isRamType(type)) list.push(gfn);
    else lowest = Math.max(1, gfn - (gfn % pow2(order)));
    if (list.length === podStride) {
      yield* reclaimSingles(m, dom, list);
      list = [];
    }
    const end = Math.min(gfn, limit - 1);
    if (m.f.podCount.get(dom) > 0 && end >= lowest) {
      gfn = end;
      break;
    }
    gfn = lowest - 1;
  }
  if (list.length > 0) yield* reclaimSingles(m, dom, list);
  m.f.podSweepAt.setWide(dom, Math.max(0, gfn - 1));
}
