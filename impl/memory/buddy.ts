// The free lists of the heap: runs of 2^order frames, aligned to their size, in one doubly linked list per order. A run that
// is taken is split down to the size asked for; a run that comes back merges with its twin as long as that is free too.
// So whenever an aligned run is free as a whole, it stands in a list and is found.
// Everything here is done under the heap lock and happens at once; a first reader may skip `link` and `unlink`.
// Source: Xen common/page_alloc.c (get_free_buddy, alloc_heap_pages, free_heap_pages).

import { pow2 } from '#lib/bits.ts';
import { invariant } from '#lib/invariant.ts';
import { HEAP_ORDER_MAX } from '../layout.ts';
import type { Machine } from '../machine.ts';

/** Puts a run at the head of its list. Frame 0 is never free, so 0 ends a list. */
function link(m: Machine, mfn: number, order: number): void {
  const { heapHead, heapNext, heapPrev, heapOrder } = m.f;
  const next = heapHead.get(order);
  heapOrder.set(mfn, order + 1);
  heapNext.set(mfn, next);
  heapPrev.set(mfn, 0);
  if (next !== 0) heapPrev.set(next, mfn);
  heapHead.set(order, mfn);
}

function unlink(m: Machine, mfn: number, order: number): void {
  const { heapHead, heapNext, heapPrev, heapOrder } = m.f;
  const next = heapNext.get(mfn);
  const prev = heapPrev.get(mfn);
  invariant(heapOrder.get(mfn) === order + 1, 'a run is unlinked from the list it stands in');
  if (prev === 0) heapHead.set(order, next);
  else heapNext.set(prev, next);
  if (next !== 0) heapPrev.set(next, prev);
  heapOrder.set(mfn, 0);
  heapNext.set(mfn, 0);
  heapPrev.set(mfn, 0);
}

/** Takes a run of 2^order frames out of the lists: the smallest that fits, freed last. 0: there is none. */
export function takeRun(m: Machine, order: number): number {
  let from = order;
  while (from <= HEAP_ORDER_MAX && m.f.heapHead.get(from) === 0) from += 1;
  if (from > HEAP_ORDER_MAX) return 0;
  const mfn = m.f.heapHead.get(from);
  unlink(m, mfn, from);
  for (let half = from - 1; half >= order; half -= 1) link(m, mfn + pow2(half), half);
  m.f.heapFree.add(0, -pow2(order));
  return mfn;
}

/** Puts a run of 2^order frames into the lists, merged with its twins. */
export function giveRun(m: Machine, mfn: number, order: number): void {
  const { frameCount } = m.geometry;
  let start = mfn;
  let size = order;
  while (size < HEAP_ORDER_MAX) {
    const span = pow2(size);
    const twin = start % (2 * span) === 0 ? start + span : start - span;
    if (twin + span > frameCount || m.f.heapOrder.get(twin) !== size + 1) break;
    unlink(m, twin, size);
    start = Math.min(start, twin);
    size += 1;
  }
  link(m, start, size);
  m.f.heapFree.add(0, pow2(order));
}
