// The paging pool of a domain: frames from which its nested tables are made, and nothing else. Guests cannot exhaust the heap
// with tables, only their own pool. Who holds the P2M lock of the domain has its pool as well.
// Sources: Xen arch/x86/mm/hap/hap.c (hap_alloc, hap_free, hap_set_allocation), mm/p2m.c (p2m_alloc_ptp, p2m_free_ptp).

import type { DomId, Mfn } from '#abi/address.ts';
import { invariant } from '#lib/invariant.ts';
import type { Machine } from '../machine.ts';
import type { Step } from '../port.ts';
import { fill } from './contents.ts';
import { lockHeap, releaseFrame, unlockHeap } from './heap.ts';

/** Frames of the pool that are no tables. */
export const poolSpare = (m: Machine, dom: number): number => m.f.poolSpare.get(dom);

/** Adds a frame of role `pool` to the spare ones. */
export function addSpare(m: Machine, dom: number, mfn: number): void {
  m.f.poolNext.set(mfn, m.f.poolHead.get(dom));
  m.f.poolHead.set(dom, mfn);
  m.f.poolSpare.add(dom, 1);
}

function removeSpare(m: Machine, dom: number): number {
  const mfn = m.f.poolHead.get(dom);
  invariant(mfn !== 0, 'a spare frame is taken from a pool that has one');
  m.f.poolHead.set(dom, m.f.poolNext.get(mfn));
  m.f.poolNext.set(mfn, 0);
  m.f.poolSpare.add(dom, -1);
  return mfn;
}

/** A zeroed page that becomes part of a bitmap. The caller holds the P2M lock and has seen that there is a spare one. */
export function takeSpare(m: Machine, dom: number): number {
  const mfn = removeSpare(m, dom);
  m.f.tableLife.add(mfn, 1);
  fill(m, mfn, { purpose: 'table', half: 0 });
  return mfn;
}

/** A zeroed table page. The caller holds the P2M lock and has seen that there is a spare one. */
export function* takeTable(m: Machine, dom: number): Step<number> {
  yield* m.port.point('allocate', 'pool');
  const mfn = takeSpare(m, dom);
  m.f.frameIsTable.set(mfn, 1);
  m.port.choose({ kind: 'tableTaken', domain: dom as DomId, mfn: mfn as Mfn });
  return mfn;
}

/** A table page that no entry leads to, in memory or remembered, becomes spare. The caller holds the P2M lock. */
export function* giveTable(m: Machine, dom: number, mfn: number): Step<void> {
  yield* m.port.point('free', 'pool');
  invariant(m.f.frameIsTable.get(mfn) !== 0, 'a table that is given back is one');
  m.f.frameIsTable.set(mfn, 0);
  addSpare(m, dom, mfn);
  m.port.choose({ kind: 'tableGiven', domain: dom as DomId, mfn: mfn as Mfn });
}

/** A spare frame leaves the pool for the heap. The caller holds the P2M lock and has seen that there is one. */
export function* givePoolFrame(m: Machine, dom: number): Step<void> {
  yield* m.port.point('free', 'heap');
  yield* lockHeap(m);
  const mfn = removeSpare(m, dom);
  m.f.poolTotal.add(dom, -1);
  m.port.choose({ kind: 'poolGiven', domain: dom as DomId, mfn: mfn as Mfn });
  yield* releaseFrame(m, mfn);
  yield* unlockHeap(m);
}
