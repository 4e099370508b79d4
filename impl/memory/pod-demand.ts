// Memory on demand that is asked for: the entry becomes RAM from the cache, a large one as a whole if the cache has a large run, else it
// is split. When more is owed than is there, unused memory is looked for first; when nothing is left and nothing is found, the domain
// is stopped. Whoever looks a gfn up to use it comes here: processors that met a violation, and the hypervisor for its callers.
// A first reader may skip `split`. Source: Xen arch/x86/mm/p2m-pod.c (p2m_pod_demand_populate); P2M_ALLOC in asm/p2m.h.

import type { DomId, Gfn } from '#abi/address.ts';
import { podPart } from '#abi/choices.ts';
import { superpageOrder } from '#abi/geometry.ts';
import { pow2 } from '#lib/bits.ts';
import { invariant } from '#lib/invariant.ts';
import { lockP2m, lookup, pieceAt, unlockP2m } from '../hap/table.ts';
import type { Machine } from '../machine.ts';
import type { Step } from '../port.ts';
import { markGfn } from './dirty-log.ts';
import { crash } from './life.ts';
import { countOnDemand, replaceEntries } from './p2m.ts';
import { takeFromCache } from './pod-frames.ts';
import { reclaimRecent, remember, sweep } from './pod-reclaim.ts';
import { exists, isAlive } from './target.ts';

/** Whether `gfn` of `dom` is on demand. */
export const isOnDemand = (m: Machine, dom: number, gfn: number): boolean =>
  lookup(m, dom, gfn)?.type === 'populateOnDemand';

/** Populates `gfn` of `dom` if it is on demand; false: it is so still, and perhaps the domain was stopped for it. */
export function* demand(m: Machine, dom: number, gfn: number): Step<boolean> {
  let isServed = true;
  yield* lockP2m(m, dom);
  while (isServed && exists(m, dom) && isOnDemand(m, dom, gfn)) isServed = yield* populate(m, dom, gfn);
  yield* unlockP2m(m, dom);
  return isServed;
}

/** A large entry becomes smaller ones. False: the pool refused a table. */
function* split(
  m: Machine,
  dom: number,
  at: { readonly gfn: number; readonly order: number; into: number },
): Step<boolean> {
  const { gfn, order, into } = at;
  // What is larger than the cache ever holds is told apart from what the cache happens not to hold.
  const done = podPart(gfn, into > 0 ? 'giant' : 'asked');
  const isSplit = yield* replaceEntries(m, dom, { gfn, order: into, mfn: 0, type: 'populateOnDemand', done });
  if (isSplit) m.port.choose({ kind: 'podSplit', domain: dom as DomId, gfn: gfn as Gfn, order });
  return isSplit;
}

/** One attempt, the P2M lock held: false if it came to nothing; true if it is worth looking again. */
function* populate(m: Machine, dom: number, gfn: number): Step<boolean> {
  const { f } = m;
  if (!isAlive(m, dom)) return false;
  const large = superpageOrder(m.geometry);
  const { order } = pieceAt(m, dom, gfn);
  const first = gfn - (gfn % pow2(order));
  if (order > large) return yield* split(m, dom, { gfn: first, order, into: large });
  if (f.podEntries.get(dom) > f.podCount.get(dom)) yield* reclaimRecent(m, dom);
  if (f.podCount.get(dom) === 0) yield* sweep(m, dom);
  if (f.podCount.get(dom) === 0) {
    m.port.choose({ kind: 'podExhausted', domain: dom as DomId, gfn: gfn as Gfn });
    crash(m, dom);
    return false;
  }
  f.podHighest.setWide(dom, Math.max(gfn, f.podHighest.getWide(dom)));
  const mfn = takeFromCache(m, dom, order);
  if (mfn === 0) return yield* split(m, dom, { gfn: first, order, into: 0 });
  const isMapped = yield* replaceEntries(m, dom, { gfn: first, order, mfn, type: 'ramRw', done: podPart(gfn) });
  invariant(isMapped, 'one leaf takes the place of another');
  for (let i = 0; i < pow2(order); i += 1) yield* markGfn(m, dom, first + i);
  countOnDemand(m, dom, -pow2(order));
  remember(m, dom, { gfn: first, order });
  return true;
}
