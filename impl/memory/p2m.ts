// The P2M and its inverse together. Whoever changes what a gfn means changes it here: the tables, and for each frame the one
// gfn at which its owner sees it as RAM (the M2P). RAM that is covered or removed is at no gfn afterwards.
// A first reader may skip `forgetP2m`. Sources: Xen arch/x86/mm/p2m.c (p2m_add_page, p2m_remove_page), xen/mm.h
// (set_gpfn_from_mfn).

import type { P2mType } from '#abi/hap.ts';
import { pow2 } from '#lib/bits.ts';
import { invariant } from '#lib/invariant.ts';
import { forEachLeaf, freeTables, lockP2m, pieceAt, setEntry, unlockP2m, type Change } from '../hap/table.ts';
import type { Machine } from '../machine.ts';
import type { Step } from '../port.ts';
import { flushDomain } from '../tlb/flush.ts';
import { putReference } from './frames.ts';

/** RAM of some kind. */
export const isRamType = (type: P2mType): boolean => type === 'ramRw' || type === 'ramRo' || type === 'ramLogDirty';

/** Entries that hold a reference on another's frame or reach a device; they are never overwritten silently. */
export const isSpecialType = (type: P2mType): boolean =>
  type === 'grantRw' || type === 'grantRo' || type === 'foreign' || type === 'mmioDirect';

/** Where its owner sees the frame as RAM; -1: nowhere. */
export const ownGfn = (m: Machine, mfn: number): number => m.f.m2p.getWide(mfn) - 1;

/** What a change covers: frames that are at one of its gfns and will be so no more, and how many gfns are on demand. */
interface Covered {
  readonly frames: readonly number[];
  readonly onDemand: number;
}

function coveredBy(m: Machine, dom: number, at: { readonly gfn: number; readonly order: number }): Covered {
  const frames: number[] = [];
  let onDemand = 0;
  const end = at.gfn + pow2(at.order);
  for (let gfn = at.gfn; gfn < end;) {
    const { type, mfn, order } = pieceAt(m, dom, gfn);
    const next = Math.min(end, gfn - (gfn % pow2(order)) + pow2(order));
    if (type === 'populateOnDemand') onDemand += next - gfn;
    const isMemory = mfn !== 0 && type !== 'mmioDirect';
    for (let i = 0; isMemory && i < next - gfn; i += 1)
      if (m.f.m2p.getWide(mfn + i) === gfn + i + 1 && m.f.frameOwner.get(mfn + i) === dom + 1) frames.push(mfn + i);
    gfn = next;
  }
  return { frames, onDemand };
}

/** So many gfns of `dom` more (or less) are on demand. */
export function countOnDemand(m: Machine, dom: number, by: number): void {
  invariant(m.f.podEntries.get(dom) + by >= 0, 'no more entries on demand go than there are');
  m.f.podEntries.add(dom, by);
}

/** Changes what gfns of `dom` mean; what is on demand among them is counted by the caller. The P2M lock is held. */
export function* replaceEntries(m: Machine, dom: number, change: Change, covered?: Covered): Step<boolean> {
  const { frames } = covered ?? coveredBy(m, dom, change);
  return yield* setEntry(m, dom, change, () => {
    for (const mfn of frames) m.f.m2p.setWide(mfn, 0);
    if (covered !== undefined) countOnDemand(m, dom, -covered.onDemand);
    if (!isRamType(change.type)) return;
    for (let i = 0; i < pow2(change.order); i += 1)
      if (m.f.frameOwner.get(change.mfn + i) === dom + 1) m.f.m2p.setWide(change.mfn + i, change.gfn + i + 1);
  });
}

/**
 * Changes what gfns of `dom` mean, the P2M lock held. False: the pool refused a table, and nothing has changed. What was on
 * demand there is so no more.
 */
export function* setP2m(m: Machine, dom: number, change: Change): Step<boolean> {
  return yield* replaceEntries(m, dom, change, coveredBy(m, dom, change));
}

/** Flushes now what is owed at the unlock: afterwards no processor uses what was replaced. The P2M lock is held. */
export function* settleP2m(m: Machine, dom: number): Step<void> {
  if (m.f.p2mNeedFlush.get(dom) === 0) return;
  m.f.p2mNeedFlush.set(dom, 0);
  yield* flushDomain(m, dom);
}

/** Forgets the address space of a domain that is torn down; foreign entries give their references back. */
export function* forgetP2m(m: Machine, dom: number): Step<void> {
  const foreign: number[] = [];
  yield* lockP2m(m, dom);
  forEachLeaf(m, dom, (gfn, { mfn, type, frames }) => {
    if (type === 'foreign') foreign.push(mfn);
    if (!isRamType(type)) return;
    for (let i = 0; i < frames; i += 1) if (ownGfn(m, mfn + i) === gfn + i) m.f.m2p.setWide(mfn + i, 0);
  });
  yield* freeTables(m, dom);
  m.f.podEntries.set(dom, 0);
  yield* unlockP2m(m, dom);
  for (const mfn of foreign) yield* putReference(m, mfn);
}
