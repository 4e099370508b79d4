// The cache of a domain for memory on demand: frames that it owns and has at no gfn, single ones and aligned runs of the size of
// the smallest superpage, in two lists. They hold zeros: what comes in is cleared. Who holds the P2M lock has the cache as well,
// and so has who tears the domain down: all others ask under that lock whether it is alive.
// A first reader may skip the lists. Source: Xen arch/x86/mm/p2m-pod.c (p2m_pod_cache_add, p2m_pod_cache_get,
// p2m_pod_empty_cache).

import type { DomId, Mfn } from '#abi/address.ts';
import { superpageOrder } from '#abi/geometry.ts';
import { pow2 } from '#lib/bits.ts';
import { invariant } from '#lib/invariant.ts';
import { podSizes } from '../layout.ts';
import type { Machine } from '../machine.ts';
import { fill } from './contents.ts';

const NONE = podSizes.indexOf('none');
const SINGLE = podSizes.indexOf('single');
const LARGE = podSizes.indexOf('large');

/** What every domain begins with: nothing on demand, nothing in the cache. */
export function resetPod(m: Machine, dom: number): void {
  const { f } = m;
  const { podRecent } = m.geometry.capacity;
  invariant(f.podCount.get(dom) === 0, 'a domain that is gone has left no frame in its cache');
  f.podEntries.set(dom, 0);
  f.podHighest.setWide(dom, 0);
  f.podSweepAt.setWide(dom, 0);
  f.podRecentAt.set(dom, 0);
  for (let at = dom * podRecent; at < (dom + 1) * podRecent; at += 1) {
    f.podRecentGfn.setWide(at, 0);
    f.podRecentLarge.set(at, 0);
  }
}

interface List {
  readonly head: Machine['f']['podSingleHead'];
  readonly tail: Machine['f']['podSingleTail'];
}

const singles = ({ f }: Machine): List => ({ head: f.podSingleHead, tail: f.podSingleTail });
const larges = ({ f }: Machine): List => ({ head: f.podLargeHead, tail: f.podLargeTail });

function append(m: Machine, dom: number, { head, tail }: List, mfn: number): void {
  const last = tail.get(dom);
  if (last === 0) head.set(dom, mfn);
  else m.f.podNext.set(last, mfn);
  tail.set(dom, mfn);
  m.f.podNext.set(mfn, 0);
}

/** Takes the first of a list; 0: it is empty. */
function shift(m: Machine, dom: number, { head, tail }: List): number {
  const mfn = head.get(dom);
  if (mfn === 0) return 0;
  const next = m.f.podNext.get(mfn);
  head.set(dom, next);
  if (next === 0) tail.set(dom, 0);
  m.f.podNext.set(mfn, 0);
  return mfn;
}

function mark(m: Machine, mfn: number, count: number, size: number): void {
  for (let i = 0; i < count; i += 1) m.f.podSize.set(mfn + i, size);
}

/** Whether the cache of `dom` has a large run. */
export const hasLarge = (m: Machine, dom: number): boolean => m.f.podLargeHead.get(dom) !== 0;

/** Puts 2^order frames of `dom`, which are at no gfn, into its cache, and clears them. At once; the P2M lock is held. */
export function addToCache(m: Machine, dom: number, { mfn, order }: { mfn: number; order: number }): void {
  const count = pow2(order);
  const large = pow2(superpageOrder(m.geometry));
  invariant(mfn % count === 0, 'what comes into a cache is aligned');
  for (let i = 0; i < count; i += 1) invariant(m.f.frameOwner.get(mfn + i) === dom + 1, 'a cache holds its own');
  const isLarge = count >= large;
  mark(m, mfn, count, isLarge ? LARGE : SINGLE);
  for (let i = 0; i < count; i += 1) fill(m, mfn + i, { purpose: 'reclaim', half: 0 });
  for (let i = 0; i < count; i += isLarge ? large : 1) append(m, dom, isLarge ? larges(m) : singles(m), mfn + i);
  m.f.podCount.add(dom, count);
}

/** A large run becomes single frames. */
function breakUp(m: Machine, dom: number): void {
  const count = pow2(superpageOrder(m.geometry));
  const mfn = shift(m, dom, larges(m));
  mark(m, mfn, count, SINGLE);
  for (let i = 0; i < count; i += 1) append(m, dom, singles(m), mfn + i);
}

/**
 * Takes a single frame or a large run out of the cache, which is not empty; a large run is broken up for want of single frames.
 * 0: it has no large run. At once; the P2M lock is held.
 */
export function takeFromCache(m: Machine, dom: number, order: number): number {
  if (order > 0 && !hasLarge(m, dom)) return 0;
  if (order === 0 && m.f.podSingleHead.get(dom) === 0) breakUp(m, dom);
  const mfn = shift(m, dom, order > 0 ? larges(m) : singles(m));
  mark(m, mfn, pow2(order), NONE);
  m.f.podCount.add(dom, -pow2(order));
  m.port.choose({ kind: 'podTaken', domain: dom as DomId, mfn: mfn as Mfn, order });
  return mfn;
}

/** Takes a large run, or else a single frame. */
export const takeLargest = (m: Machine, dom: number): number =>
  takeFromCache(m, dom, hasLarge(m, dom) ? superpageOrder(m.geometry) : 0);
