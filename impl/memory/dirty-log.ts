// The bitmap of a domain's written gfns: a tree of frames from its paging pool, in memory like its tables. A word of a leaf has a
// bit for each of `dirtyBits` gfns; a word of any other page is the frame of the page below, or 0. Pages are taken as bits are
// set; one that cannot be had is counted, and the log answers nothing until it is turned off.
// Everything here is done under the P2M lock, which is the lock of the pool as well (Xen's paging lock).
// A first reader may skip how pages are found. Sources: Xen arch/x86/mm/paging.c (set_pfn_logdirty, paging_mark_dirty,
// paging_free_log_dirty_bitmap).

import type { DomId, Mfn } from '#abi/address.ts';
import { framesPerBitmap } from '#abi/geometry.ts';
import { bit, hasAll } from '#lib/bits.ts';
import { lockP2m, unlockP2m } from '../hap/table.ts';
import type { Machine } from '../machine.ts';
import type { Step } from '../port.ts';
import { ownGfn } from './p2m.ts';
import { addSpare, poolSpare, takeSpare } from './pool.ts';
import { isAlive } from './target.ts';

const BITMAP = { domain: undefined, purpose: 'table' } as const;

/** The level of the root. */
const topOf = (m: Machine): number => m.geometry.capacity.dirtyLevels - 1;

/** The word of a page at `level` that leads to `gfn`, or has its bit. */
function indexIn(m: Machine, level: number, gfn: number): number {
  const { wordsPerFrame, capacity } = m.geometry;
  const span = level === 0 ? capacity.dirtyBits : framesPerBitmap(m.geometry, level - 1);
  return Math.floor(gfn / span) % wordsPerFrame;
}

/** A cleared page for the bitmap; 0: there is none. */
function* takePage(m: Machine, dom: number): Step<number> {
  const injected = m.port.fails('logDirty');
  if (injected || poolSpare(m, dom) === 0 || !isAlive(m, dom)) {
    m.port.refuse('logDirty');
    m.f.dirtyFailed.add(dom, 1);
    return 0;
  }
  yield* m.port.point('allocate', 'pool');
  const mfn = takeSpare(m, dom);
  m.port.choose({ kind: 'bitmapTaken', domain: dom as DomId, mfn: mfn as Mfn });
  return mfn;
}

/** Sets the bit of a gfn. */
function* setBit(m: Machine, dom: number, gfn: number): Step<void> {
  const top = topOf(m);
  if (m.f.dirtyTop.get(dom) === 0) {
    const root = yield* takePage(m, dom);
    m.f.dirtyTop.set(dom, root);
  }
  let mfn = m.f.dirtyTop.get(dom);
  for (let level = top; level > 0 && mfn !== 0; level -= 1) {
    const at = { mfn, index: indexIn(m, level, gfn) };
    let child = m.port.peek(BITMAP, at);
    if (child === 0) {
      child = yield* takePage(m, dom);
      m.port.poke(BITMAP, { ...at, lo: child, hi: 0 });
    }
    mfn = child;
  }
  if (mfn === 0) return;
  yield* m.port.point('store', 'table');
  const at = { mfn, index: indexIn(m, 0, gfn) };
  const number = gfn % m.geometry.capacity.dirtyBits;
  const lo = m.port.peek(BITMAP, at);
  const { hi } = m.port;
  if (hasAll(number < 32 ? lo : hi, bit(number % 32))) return;
  const flag = bit(number % 32);
  m.port.poke(BITMAP, { ...at, lo: number < 32 ? lo + flag : lo, hi: number < 32 ? hi : hi + flag });
  m.f.dirtyCount.add(dom, 1);
}

const isOn = (m: Machine, dom: number): boolean => m.f.domLogDirty.get(dom) !== 0;

/** `gfn` of `dom` has been written: noted, if its writes are logged. */
export function* markGfn(m: Machine, dom: number, gfn: number): Step<void> {
  if (!isOn(m, dom)) return;
  yield* lockP2m(m, dom);
  if (isOn(m, dom)) yield* setBit(m, dom, gfn);
  yield* unlockP2m(m, dom);
}

/** Frame `mfn` of `dom` has been written: noted at the gfn where it is by then, if it is still the domain's. */
export function* markFrame(m: Machine, dom: number, mfn: number): Step<void> {
  if (!isOn(m, dom)) return;
  yield* lockP2m(m, dom);
  const gfn = m.f.frameOwner.get(mfn) === dom + 1 ? ownGfn(m, mfn) : -1;
  if (isOn(m, dom) && gfn >= 0) yield* setBit(m, dom, gfn);
  yield* unlockP2m(m, dom);
}

/** The page at `level` that is about `gfn`; 0: there is none. */
export function pageOf(m: Machine, dom: number, at: { readonly level: number; readonly gfn: number }): number {
  let mfn = m.f.dirtyTop.get(dom);
  for (let level = topOf(m); level > at.level && mfn !== 0; level -= 1)
    mfn = m.port.peek(BITMAP, { mfn, index: indexIn(m, level, at.gfn) });
  return mfn;
}

/** The word that has the bit of `gfn`, in the port's halves: zeros where there is no page. */
export function loadBits(m: Machine, dom: number, gfn: number): { readonly lo: number; readonly hi: number } {
  const mfn = pageOf(m, dom, { level: 0, gfn });
  if (mfn === 0) return { lo: 0, hi: 0 };
  const lo = m.port.peek(BITMAP, { mfn, index: indexIn(m, 0, gfn) });
  return { lo, hi: m.port.hi };
}

/** Clears a leaf as a whole. */
export function* clearLeaf(m: Machine, dom: number, gfn: number): Step<void> {
  const mfn = pageOf(m, dom, { level: 0, gfn });
  if (mfn === 0) return;
  yield* m.port.point('store', 'table');
  for (let index = 0; index < m.geometry.wordsPerFrame; index += 1) m.port.poke(BITMAP, { mfn, index, lo: 0, hi: 0 });
}

/** Gives a page and all below it back to the pool, those below first. The caller unlinks it. */
export function* giveTree(m: Machine, dom: number, tree: { readonly mfn: number; readonly level: number }): Step<void> {
  const { mfn, level } = tree;
  for (let index = 0; level > 0 && index < m.geometry.wordsPerFrame; index += 1) {
    const child = m.port.peek(BITMAP, { mfn, index });
    if (child === 0) continue;
    m.port.poke(BITMAP, { mfn, index, lo: 0, hi: 0 });
    yield* giveTree(m, dom, { mfn: child, level: level - 1 });
  }
  yield* m.port.point('free', 'pool');
  addSpare(m, dom, mfn);
  m.port.choose({ kind: 'bitmapGiven', domain: dom as DomId, mfn: mfn as Mfn });
}

/** Gives back the first page above the leaves with what is below it; false: there is none. */
export function* giveFirst(m: Machine, dom: number, from: { gfn: number }): Step<boolean> {
  const span = framesPerBitmap(m.geometry, 1);
  const end = framesPerBitmap(m.geometry, topOf(m));
  for (; from.gfn < end; from.gfn += span) {
    const parent = pageOf(m, dom, { level: 2, gfn: from.gfn });
    if (parent === 0) {
      // Nothing is below what is not there.
      const wide = framesPerBitmap(m.geometry, 2);
      from.gfn += wide - (from.gfn % wide) - span;
      continue;
    }
    const at = { mfn: parent, index: indexIn(m, 2, from.gfn) };
    const mfn = m.port.peek(BITMAP, at);
    if (mfn === 0) continue;
    m.port.poke(BITMAP, { ...at, lo: 0, hi: 0 });
    yield* giveTree(m, dom, { mfn, level: 1 });
    return true;
  }
  return false;
}

/** Gives all of the bitmap back, and what could not be had is forgotten with it. */
export function* freeBitmap(m: Machine, dom: number): Step<void> {
  const mfn = m.f.dirtyTop.get(dom);
  if (mfn === 0) return;
  m.f.dirtyTop.set(dom, 0);
  m.f.dirtyFailed.set(dom, 0);
  yield* giveTree(m, dom, { mfn, level: topOf(m) });
}

/** The end of a domain's log: nothing of it remains. The P2M lock is held. */
export function* endLog(m: Machine, dom: number): Step<void> {
  if (!isOn(m, dom) && m.f.dirtyTop.get(dom) === 0) return;
  yield* freeBitmap(m, dom);
  resetLog(m, dom);
}

/** A domain begins, and ends, with nothing logged. */
export function resetLog(m: Machine, dom: number): void {
  for (const field of [m.f.domLogDirty, m.f.dirtyTop, m.f.dirtyCount, m.f.dirtyFailed]) field.set(dom, 0);
  for (const field of [m.f.dirtyAction, m.f.dirtyBy, m.f.dirtyDone]) field.set(dom, 0);
}
