// Memory on demand in what a guest gives back, before pages are taken one by one: entries on demand go, and while more is owed than
// the cache holds, RAM goes to the cache. Ranges need not be aligned: they are cut into pieces that are.
// A first reader may skip `ramIn`. Source: Xen arch/x86/mm/p2m-pod.c (p2m_pod_decrease_reservation, decrease_reservation);
// XSA-388 for the pieces.

import type { Gfn, Mfn } from '#abi/address.ts';
import { podPart } from '#abi/choices.ts';
import type { OpOf, Task, Turn, Work } from '../progress.ts';
import { pow2 } from '#lib/bits.ts';
import { absorb, ask, failure, refuse, type Cut } from '../cut.ts';
import { crash, dropAllocated } from '../frames.ts';
import { setP2m, settle } from '../p2m.ts';
import { demandIn, entryCount, isOnDemand, isShort, withoutDemand } from '../pod.ts';
import { at, go } from '../progress.ts';
import { isRamType, type Domain, type State } from '../state.ts';
import { addToCache, hasLarge, isPlain, largeSize, takeFromCache } from './pod-frames.ts';
import { reclaimLarge, reclaimOn } from './pod-reclaim.ts';
import { changedPod, type PodWork } from './pod-work.ts';

type Decrease = Task<OpOf<'memory.decrease'>>;

/** The largest piece into which 2^order gfns from `gfn` on can be cut such that all are aligned. */
export function pieceSize(gfn: number, order: number): number {
  let size = 1;
  while (size < pow2(order) && gfn % (2 * size) === 0) size *= 2;
  return size;
}

const goWith = (cut: Cut, task: Decrease, change: Partial<Omit<Work, 'pod'>>, pod: Partial<PodWork>): Turn =>
  go(cut, task, { ...change, pod: changedPod(task.work.pod, pod) });

/** How many gfns of the piece are RAM of the domain's own. */
function ramIn(state: State, domain: Domain, { piece, size }: PodWork): number {
  const isRam = (gfn: number): boolean => {
    const entry = domain.p2m.get(gfn);
    return entry !== undefined && isRamType(entry.type) && isPlain(state, domain.id, entry.mfn);
  };
  if (size > domain.p2m.size)
    return domain.p2m.keys().filter((gfn) => gfn >= piece && gfn < piece + size && isRam(gfn)).length;
  return Array.from({ length: size }, (_, i) => piece + i).filter(isRam).length;
}

/** One micro-step of what comes before the pages. */
export function podDecrease(cut: Cut, task: Decrease, domain: Domain): Turn {
  switch (task.work.at) {
    case 'reclaim':
      return reclaim(cut, task);
    case 'some':
      return some(cut, task, domain);
    case 'stolen':
      return keep(cut, task, domain);
    case 'balance':
      return balance(cut, task, domain);
    default:
      return begin(cut, task, domain);
  }
}

const nextPiece = (cut: Cut, task: Decrease, pod: Partial<PodWork> = {}): Turn =>
  goWith(cut, task, { at: 'piece' }, { ...pod, piece: task.work.pod.piece + task.work.pod.size });

/** A piece is begun, unless that was the last. */
function begin(cut: Cut, task: Decrease, domain: Domain): Turn {
  const { pod } = task.work;
  const { piece, size } = pod;
  if (piece >= pod.end) return go(cut, task, { at: 'unhook', part: 0 });
  const onDemand = demandIn(domain, { from: piece, to: piece + size });
  const isConcerned = domain.state === 'running' && domain.pod.entries.length > 0 && (onDemand > 0 || isShort(domain));
  if (!isConcerned) return nextPiece(cut, task);
  if (onDemand === size) return all(cut, task, domain);
  const ram = ramIn(cut.state, domain, pod);
  const large = largeSize(cut.state);
  const found = { onDemand, ram, next: piece };
  if (!isShort(domain) || size >= large || ram < size)
    return goWith(cut, task, { at: 'some' }, { ...found, isStealing: isShort(domain) });
  // Perhaps the whole superpage around it is unused.
  const looked = reclaimLarge(cut.state, domain.id, (piece - (piece % large)) as Gfn);
  return goWith(cut, task, { at: 'reclaim' }, { ...found, reclaim: looked });
}

/** All of the piece is on demand: it goes at once, or the domain is stopped for what is more than one entry. */
function all(cut: Cut, task: Decrease, { id }: Domain): Turn {
  const { piece, size, taken } = task.work.pod;
  const failed = failure(cut, { class: 'pool', domain: id, done: podPart(piece) });
  if (failed !== undefined) return nextPiece(size > 1 ? at(failed, crash(failed.state, id)) : failed, task);
  const gone = withoutDemand(cut.state, id, { from: piece, to: piece + size });
  return goWith(at(cut, gone), task, { at: 'balance' }, { taken: taken + size });
}

function reclaim(cut: Cut, task: Decrease): Turn {
  const { pod } = task.work;
  if (pod.reclaim === undefined) return refuse('nothing is being reclaimed', 'refines');
  const next = reclaimOn(cut, task.debts, pod.reclaim);
  if (!next.isOver) return goWith(next.cut, task, {}, { reclaim: next.reclaim });
  const domain = next.cut.state.domains.get(pod.reclaim.domain);
  const isStealing = domain !== undefined && isShort(domain);
  const found = next.reclaim.hasGained ? { onDemand: pod.size, ram: 0 } : {};
  return goWith(next.cut, task, { at: 'some' }, { ...found, isStealing, reclaim: undefined });
}

/** Goes through the piece while something is on demand, or RAM is wanted. */
function some(cut: Cut, task: Decrease, domain: Domain): Turn {
  const { pod } = task.work;
  const { id } = domain;
  let { next } = pod;
  const isRam = (gfn: number): boolean => {
    const entry = domain.p2m.get(gfn);
    return entry !== undefined && isRamType(entry.type) && isPlain(cut.state, id, entry.mfn);
  };
  const isLeft = pod.onDemand > 0 || (pod.isStealing && pod.ram > 0);
  const end = pod.piece + pod.size;
  while (next < end && !isOnDemand(domain, next) && !(pod.isStealing && isRam(next))) next += 1;
  if (!isLeft || next >= end) return goWith(cut, task, { at: 'balance' }, {});
  if (!isOnDemand(domain, next)) return steal(cut, task, { domain, gfn: next });
  const failed = failure(cut, { class: 'pool', domain: id, done: podPart(next) });
  if (failed !== undefined) return nextPiece(at(failed, crash(failed.state, id)), task);
  const gone = at(cut, withoutDemand(cut.state, id, { from: next, to: next + 1 }));
  return goWith(gone, task, {}, { next: next + 1, onDemand: pod.onDemand - 1, taken: pod.taken + 1 });
}

/** RAM leaves its gfns for the cache, as much as the choice says lies together. */
function steal(cut: Cut, task: Decrease, { domain, gfn }: { readonly domain: Domain; readonly gfn: number }): Turn {
  const { pod } = task.work;
  const { id } = domain;
  const { cut: after, choice } = ask(cut, ['podStolen']);
  const count = pow2(choice.order);
  const isFit = choice.domain === id && choice.gfn === gfn && gfn % count === 0 && count <= pod.size;
  const isAligned = choice.mfn % count === 0;
  if (!isFit || !isAligned) return refuse(`gfn ${choice.gfn} is given to the cache out of turn`, 'refines');
  let { state } = after;
  for (let i = 0; i < count; i += 1) {
    const entry = domain.p2m.get(gfn + i);
    if (entry?.mfn !== choice.mfn + i || !isRamType(entry.type) || !isPlain(state, id, entry.mfn))
      return refuse(`gfn ${gfn + i} does not lead to RAM that could go to the cache`, 'refines');
    state = setP2m(state, { domain: id, gfn: (gfn + i) as Gfn }, undefined);
  }
  const failed = failure(after, { class: 'pool', domain: id, done: podPart(gfn) });
  if (failed !== undefined) return nextPiece(at(failed, crash(failed.state, id)), task);
  const moved = { next: gfn + count, ram: pod.ram - count, taken: pod.taken + count, mfn: choice.mfn, count };
  return goWith(at(after, state), task, { at: 'stolen' }, moved);
}

/** Nobody can use it any more: it is cleared. */
function keep(cut: Cut, task: Decrease, { id }: Domain): Turn {
  const { mfn, count } = task.work.pod;
  if (mfn === undefined) return refuse('nothing has been taken for the cache', 'refines');
  const flushed = absorb(cut);
  const kept = addToCache(settle(flushed.state, task.debts), id, { mfn, count });
  const domain = kept.domains.get(id);
  const isStealing = domain !== undefined && isShort(domain);
  return goWith(at(flushed, kept), task, { at: 'some' }, { mfn: undefined, isStealing });
}

/** What the cache holds beyond what is owed goes to the heap, page by page. */
function balance(cut: Cut, task: Decrease, domain: Domain): Turn {
  const [first, ...leaving] = task.work.pod.leaving;
  if (first !== undefined) return goWith(at(cut, dropAllocated(cut.state, first)), task, {}, { leaving });
  const owed = entryCount(domain);
  if (domain.pod.cache.size <= owed) return nextPiece(cut, task);
  const { cut: after, leaving: frames } = takeSurplus(cut, domain, owed);
  return goWith(after, task, {}, { leaving: frames });
}

/** Takes a large run, or where that would be too much a single frame, out of a cache that is to hold `wanted`. */
export function takeSurplus(cut: Cut, domain: Domain, wanted: number): { cut: Cut; leaving: readonly Mfn[] } {
  const isMuch = domain.pod.cache.size - wanted > largeSize(cut.state);
  const { cut: after, taken } = takeFromCache(cut, domain.id, isMuch && hasLarge(domain) ? 'large' : 'single');
  return { cut: after, leaving: Array.from({ length: pow2(taken.order) }, (_, i) => (taken.mfn + i) as Mfn) };
}
