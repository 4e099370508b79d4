// Reservations: populate, increase, decrease, and the question how much a domain has.
// Each extent is fetched, served and settled before the next; a failing one is not counted, and what it did so far stays
// (a populated extent that could not be mapped stays allocated; pages of a half-removed extent stay removed).
// Paravirtual guests name frames of the machine: pv/memory.ts.
// Sources: Xen common/memory.c (populate_physmap, increase_reservation, decrease_reservation, guest_remove_page),
// arch/x86/mm/p2m.c (p2m_add_page).

import { DOMID_CONTROL, type DomId, type Gfn, type Mfn } from '#abi/address.ts';
import { gfnCount } from '#abi/geometry.ts';
import type { Extents } from '#abi/operand.ts';
import type { Errno } from '#abi/reply.ts';
import { pow2 } from '#lib/bits.ts';
import { absorb, allocate, failure, preemption, type Cut } from '../cut.ts';
import { crash, dropAllocated } from '../frames.ts';
import { setP2m, settle } from '../p2m.ts';
import { at, end, go, isSame, noting, targetOf, type OpOf, type Situation, type Task, type Turn } from '../progress.ts';
import { isOnDemand } from '../pod.ts';
import { domainNamed, frameOf, isRamType, isSpecialType, type Domain, type State } from '../state.ts';
import { fetchWord } from '../buffers.ts';
import { giveBack, nameExtent, tellExtent } from '../pv/memory.ts';
import { podDecrease, pieceSize } from './pod-decrease.ts';
import { NO_POD_WORK, type PodWork } from './pod-work.ts';
import { markPiece } from './pod.ts';
import { match } from 'ts-pattern';

type Reservation = OpOf<'memory.populate' | 'memory.populateOnDemand' | 'memory.increase' | 'memory.decrease'>;

export const countOf = (extents: Extents<'concrete'>): number =>
  extents.by === 'value' ? extents.gfns.length : extents.count;

const elementsOf = (op: Reservation): number => (op.kind === 'memory.increase' ? op.count : countOf(op.extents));

export const orderMax = (state: State, caller: DomId): number =>
  caller === 0 ? state.geometry.capacity.orderMaxControl : state.geometry.capacity.orderMaxGuest;

/** The gfn that element `index` names; undefined: its fetch faults. */
export function fetchGfn(
  cut: Cut,
  user: Situation,
  from: { extents: Extents<'concrete'>; index: number },
): { readonly cut: Cut; readonly gfn: Gfn | undefined } {
  const { extents, index } = from;
  if (extents.by === 'value') return { cut, gfn: extents.gfns[index] };
  const { cut: after, word } = fetchWord(cut, user, { buffer: extents.buffer, index });
  return { cut: after, gfn: word && ((word.lo + word.hi * pow2(32)) as Gfn) };
}

/** populate, increase, decrease: one micro-step. */
export function reservationStep(cut: Cut, task: Task<Reservation>): Turn {
  if (task.work.at === 'begin') return begin(cut, task);
  if (task.work.at === 'next') return next(at(cut, settle(cut.state, task.debts)), task);
  const domain = domainNamed(cut.state, task.op.target, task.caller);
  if (domain === undefined) return end(cut, 'ESRCH', { done: task.work.index });
  if (task.work.at === 'allocate') return give(cut, task, domain);
  if (task.work.at === 'install')
    return domain.kind === 'pv' ? nameExtent(cut, task, domain) : install(cut, task, domain);
  if (task.work.at === 'copyBack') return tellExtent(cut, task);
  if (task.work.at === 'hold') return giveBack(cut, task, domain);
  if (task.work.at === 'unhook') return unhook(cut, task, domain);
  if (task.work.at === 'release') return release(cut, task, domain);
  const { op } = task;
  if (op.kind === 'memory.populateOnDemand') return markPiece(cut, { ...task, op }, domain);
  return op.kind === 'memory.decrease' ? podDecrease(cut, { ...task, op }, domain) : end(cut, 'EINVAL');
}

function begin(cut: Cut, task: Task<Reservation>): Turn {
  const { op } = task;
  const target = targetOf(cut, task);
  if (elementsOf(op) > cut.state.geometry.capacity.batch) return end(cut, 'E2BIG');
  if (op.start >= elementsOf(op)) return end(cut, 'ok', { done: op.start });
  if (typeof target === 'string') return end(cut, target, { done: op.start });
  const most = orderMax(cut.state, op.kind === 'memory.populateOnDemand' ? DOMID_CONTROL : task.caller);
  if (op.order > most) return end(cut, 'EPERM', { done: op.start });
  return go(cut, task, { at: 'next', index: op.start });
}

/** The border between two elements: the end, preemption, or the fetch of the next. */
function next(before: Cut, task: Task<Reservation>): Turn {
  const { op, work } = task;
  if (work.index === elementsOf(op)) return end(before, 'ok', { done: work.index });
  const preempted = work.index > op.start ? preemption(before, work.index) : undefined;
  if (preempted !== undefined) return end(preempted, 'preempted', { done: work.index });
  if (op.kind === 'memory.increase') return go(before, task, { at: 'allocate' });
  const { cut, gfn } = fetchGfn(before, task, { extents: op.extents, index: work.index });
  if (gfn === undefined) return end(cut, 'EFAULT', { done: work.index });
  return match(op)
    .with({ kind: 'memory.populate' }, () => go(cut, task, { at: 'allocate', gfn, part: 0 }))
    .with({ kind: 'memory.populateOnDemand' }, () => beginMark(cut, task, gfn))
    .with({ kind: 'memory.decrease' }, () => beginDecrease(cut, task, gfn))
    .exhaustive();
}

/** An extent in the pieces in which memory on demand is handled. */
function inPieces(gfn: Gfn, order: number): PodWork {
  return { ...NO_POD_WORK, piece: gfn, end: gfn + pow2(order), size: pieceSize(gfn, order) };
}

/** Nobody has memory of their own populated on demand; nor is there any for who may have devices, which cannot wait for it. */
function beginMark(cut: Cut, task: Task<Reservation>, gfn: Gfn): Turn {
  const { op, work } = task;
  const domain = domainNamed(cut.state, op.target, task.caller);
  if (domain?.id === task.caller) return end(cut, 'EPERM', { done: work.index });
  if (domain?.kind === 'pv') return end(cut, 'EINVAL', { done: work.index });
  if (domain !== undefined && domain.iomem.size > 0) return end(cut, 'ENOTEMPTY', { done: work.index });
  return go(cut, task, { at: 'piece', gfn, pod: inPieces(gfn, op.order) });
}

/** What is on demand goes first, if there is any; then pages. */
function beginDecrease(cut: Cut, task: Task<Reservation>, gfn: Gfn): Turn {
  const { op } = task;
  const domain = domainNamed(cut.state, op.target, task.caller);
  if (domain?.kind === 'pv') return go(cut, task, { at: 'hold', gfn, part: 0 });
  const isPlain = domain === undefined || domain.pod.entries.length === 0;
  const pod = inPieces(gfn, op.order);
  return go(cut, task, { at: isPlain ? 'unhook' : 'piece', gfn, part: 0, pod });
}

function give(cut: Cut, task: Task<Reservation>, domain: Domain): Turn {
  const { op, work } = task;
  if (domain.state !== 'running') return end(cut, 'EINVAL', { done: work.index });
  if (domain.totalPages + pow2(op.order) > domain.maxPages) return end(cut, 'E2BIG', { done: work.index });
  const { cut: given, mfn } = allocate(cut, { order: op.order, owner: domain.id, role: 'ram' });
  if (mfn === undefined) return end(given, 'ENOMEM', { done: work.index });
  if (op.kind !== 'memory.populate') return go(given, task, { at: 'next', index: work.index + 1 });
  return go(given, task, { at: 'install', mfn, incarnation: frameOf(given.state, mfn).incarnation });
}

/** Why an extent cannot be mapped at `gfn`. */
function objection(state: State, domain: Domain, extent: { gfn: Gfn; size: number }): Errno | undefined {
  if (domain.state !== 'running' || extent.gfn + extent.size > gfnCount(state.geometry)) return 'EINVAL';
  for (let i = 0; i < extent.size; i += 1) {
    const entry = domain.p2m.get(extent.gfn + i);
    if (entry !== undefined && isSpecialType(entry.type)) return 'EPERM';
  }
  return undefined;
}

/**
 * Maps the new extent, ascending, after making sure of all of it: nothing is mapped if something is in the way or the pool
 * refuses. RAM that was there is orphaned: owned, counted, at no gfn. A domain that covers a granted or foreign entry is
 * stopped for it.
 */
function install(cut: Cut, task: Task<Reservation>, domain: Domain): Turn {
  const { op, work } = task;
  const { part, index } = work;
  const size = pow2(op.order);
  const place = { domain: domain.id, gfn: (work.gfn + part) as Gfn };
  // The frames went with the domain they were for, if that has been torn down meanwhile.
  const isOwn = isSame(cut.state, work) && frameOf(cut.state, work.mfn).owner === domain.id;
  const errno = isOwn ? objection(cut.state, domain, { gfn: place.gfn, size: size - part }) : 'EINVAL';
  if (errno === 'EPERM') return end(at(cut, crash(cut.state, domain.id)), errno, { done: index });
  if (errno !== undefined) return end(cut, errno, { done: index });
  const failed = part === 0 ? failure(cut, { class: 'pool', domain: domain.id, done: index }) : undefined;
  if (failed !== undefined) return end(failed, 'ENOMEM', { done: index });
  const mapped = at(cut, setP2m(cut.state, place, { mfn: (work.mfn + part) as Mfn, type: 'ramRw' }));
  if (part + 1 < size) return go(mapped, task, { part: part + 1 });
  return go(notingRun(mapped, { domain: domain.id, gfn: work.gfn, size }), task, { at: 'next', index: index + 1 });
}

/** All gfns of an extent that has just been mapped are as good as written. */
const notingRun = (cut: Cut, { domain, gfn, size }: { domain: Domain['id']; gfn: Gfn; size: number }): Cut =>
  Array.from({ length: size }, (_, i) => (gfn + i) as Gfn).reduce((now, at) => noting(now, { domain, gfn: at }), cut);

/** Goes on to the next page of the extent, those aside that memory on demand was concerned with, or to the next extent. */
function onward(cut: Cut, task: Task<Reservation>, pod: PodWork): Turn {
  const { op, work } = task;
  const part = work.part + 1;
  const isOver = part + pod.taken >= pow2(op.order);
  return go(cut, task, isOver ? { at: 'next', index: work.index + 1 } : { at: 'unhook', part, pod });
}

/** Takes one page of the extent out of the P2M. */
function unhook(cut: Cut, task: Task<Reservation>, domain: Domain): Turn {
  const { op, work } = task;
  const { pod } = work;
  if (work.part + pod.taken >= pow2(op.order)) return go(cut, task, { at: 'next', index: work.index + 1 });
  const place = { domain: domain.id, gfn: (work.gfn + work.part) as Gfn };
  const entry = domain.p2m.get(place.gfn);
  if (isOnDemand(domain, place.gfn)) return end(cut, 'EINVAL', { done: work.index });
  if (entry === undefined && pod.taken > 0) return onward(cut, task, { ...pod, taken: pod.taken - 1 });
  if (entry === undefined) return end(cut, 'ENOENT', { done: work.index });
  if (entry.type === 'mmioDirect') return end(cut, 'EPERM', { done: work.index });
  if (!isRamType(entry.type)) return end(cut, 'EINVAL', { done: work.index });
  const done = work.index * pow2(op.order) + work.part;
  const failed = failure(cut, { class: 'pool', domain: domain.id, done });
  if (failed !== undefined) return end(failed, 'ENOMEM', { done: work.index });
  const { incarnation } = frameOf(cut.state, entry.mfn);
  return go(at(cut, setP2m(cut.state, place, undefined)), task, { at: 'release', mfn: entry.mfn, incarnation });
}

/** Lets go of a page that has been unhooked; special pages of the domain are only unhooked. */
export function letGo(cut: Cut, task: Task<unknown>, owner: DomId): State {
  const isRam = frameOf(cut.state, task.work.mfn).role === 'ram' && frameOf(cut.state, task.work.mfn).owner === owner;
  const isLazy = cut.state.policies.flush === 'lazy';
  const before = isLazy ? cut.state : settle(cut.state, task.debts);
  const after = isRam && isSame(before, task.work) ? dropAllocated(before, task.work.mfn) : before;
  return isLazy ? settle(after, task.debts) : after;
}

function release(cut: Cut, task: Task<Reservation>, domain: Domain): Turn {
  // What was flushed for this page is taken in now: later it would pay the debt of the next one too.
  const freed = absorb(at(cut, letGo(cut, task, domain.id)));
  return onward(freed, task, task.work.pod);
}

export function reservation(cut: Cut, task: Task<OpOf<'memory.reservation'>>): Turn {
  const target = targetOf(cut, task);
  return typeof target === 'string' ? end(cut, target) : end(cut, 'ok', { out: [target.totalPages] });
}
