// The P2M and its inverse together. Whoever changes what a gfn means changes it here: the tables, and for each frame the one
// gfn at which its owner sees it as RAM (the M2P). RAM that is covered or removed is at no gfn afterwards.
// A first reader may skip `forgetP2m`. Sources: Xen arch/x86/mm/p2m.c (p2m_add_page, p2m_remove_page), xen/mm.h
// (set_gpfn_from_mfn).

import type { P2mType } from '#abi/hap.ts';
import { pow2 } from '#lib/bits.ts';
import { forEachLeaf, freeTables, lockP2m, lookup, setEntry, unlockP2m, type Change } from '../hap/table.ts';
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

/** Frames that are at one of `order` gfns from `gfn` on are so no more. */
function orphan(m: Machine, dom: number, at: { readonly gfn: number; readonly order: number }): number[] {
  const covered: number[] = [];
  for (let gfn = at.gfn; gfn < at.gfn + pow2(at.order); gfn += 1) {
    const old = lookup(m, dom, gfn);
    if (
      old !== undefined &&
      old.type !== 'mmioDirect' &&
      m.f.m2p.getWide(old.mfn) === gfn + 1 &&
      m.f.frameOwner.get(old.mfn) === dom + 1
    )
      covered.push(old.mfn);
  }
  return covered;
}

/** Changes what gfns of `dom` mean, the P2M lock held. False: the pool refused a table, and nothing has changed. */
export function* setP2m(m: Machine, dom: number, change: Change): Step<boolean> {
  const covered = orphan(m, dom, change);
  return yield* setEntry(m, dom, change, () => {
    for (const mfn of covered) m.f.m2p.setWide(mfn, 0);
    if (!isRamType(change.type)) return;
    for (let i = 0; i < pow2(change.order); i += 1)
      if (m.f.frameOwner.get(change.mfn + i) === dom + 1) m.f.m2p.setWide(change.mfn + i, change.gfn + i + 1);
  });
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
  yield* unlockP2m(m, dom);
  for (const mfn of foreign) yield* putReference(m, mfn);
}
