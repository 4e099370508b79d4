// A domain maps its own grant: the frame leaves the gfn at which it was RAM and appears at another as granted. Both entries
// change in one act, so that the frame is never at two places nor at none; the tables for both are reserved before.
// A first reader may skip it. Source: Xen arch/x86/mm/p2m.c (p2m_add_page, frames that are mapped already).

import type { P2mType } from '#abi/hap.ts';
import { apply, missing, type Job } from '../hap/change.ts';
import { codeOf } from '../hap/entry.ts';
import { reserve } from '../hap/pages.ts';
import { lookup, noteMapped } from '../hap/table.ts';
import type { Machine } from '../machine.ts';
import { countOnDemand, ownGfn } from '../memory/p2m.ts';
import { giveTable } from '../memory/pool.ts';
import type { Step } from '../port.ts';
import { markFlush } from '../tlb/flush.ts';

/** Frame `mfn` leaves gfn `from` and becomes an entry of `type` at `to`. `done`: for the log of a refusal. */
export interface Move {
  readonly from: number;
  readonly to: number;
  readonly mfn: number;
  readonly type: P2mType;
  readonly done: number;
}

const jobFor = (gfn: number, to: Pick<Job, 'mfn' | 'code' | 'access' | 'spare'>): Job => ({
  gfn,
  end: gfn + 1,
  mfn: to.mfn,
  code: to.code,
  access: to.access,
  spare: to.spare,
  orphans: [],
  changed: false,
});

/** Moves an own frame, the P2M lock held. False: the pool refused a table, and nothing has changed. */
export function* moveEntry(m: Machine, dom: number, { from, to, mfn, type, done }: Move): Step<boolean> {
  const root = { table: m.f.domRoot.get(dom), level: m.geometry.levels, base: 0 };
  const spare: number[] = [];
  const access = m.f.domAccess.get(dom);
  const leaving = jobFor(from, { mfn: 0, code: 0, access, spare });
  const arriving = jobFor(to, { mfn, code: codeOf(type), access, spare });
  // Each counts for itself: a table that serves both is counted twice, and goes back below.
  const pages = yield* reserve(m, dom, { count: missing(m, leaving, root) + missing(m, arriving, root), done });
  if (pages === undefined) return false;
  spare.push(...pages);
  const previous = lookup(m, dom, to);
  const covered = previous?.mfn ?? 0;
  yield* m.port.point('store', 'table');
  apply(m, leaving, root);
  apply(m, arriving, root);
  noteMapped(m, dom, to);
  m.f.m2p.setWide(mfn, 0);
  if (previous?.type === 'populateOnDemand') countOnDemand(m, dom, -1);
  if (covered !== 0 && ownGfn(m, covered) === to) m.f.m2p.setWide(covered, 0);
  markFlush(m, dom);
  m.f.p2mNeedFlush.set(dom, 1);
  for (const page of spare) yield* giveTable(m, dom, page);
  return true;
}
