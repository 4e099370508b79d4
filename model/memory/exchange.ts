// Exchange: a paravirtual guest gives frames back and gets as many others for them, in extents of another order perhaps. It goes by chunks,
// the larger of the two extents: all frames of a chunk are taken from the guest, then all that it gets are taken from the heap, and after that
// nothing of it fails any more but telling the guest. What fails before gives the guest back what was taken from it. A translated guest has no
// frames to exchange.
// A first reader may skip `begin`. Sources: Xen common/memory.c (memory_exchange), arch/x86/mm.c (steal_page),
// common/page_alloc.c (assign_pages); docs/facts/xen-direct-paging.md.

import { DOMID_INVALID, type DomId, type Gfn, INVALID_GFN, type Mfn } from '#abi/address.ts';
import type { Extents } from '#abi/operand.ts';
import type { Errno } from '#abi/reply.ts';
import { high21, low32, pow2 } from '#lib/bits.ts';
import { storeWord } from '../buffers.ts';
import { allocate, failure, preemption, type Cut } from '../cut.ts';
import { free, reap } from '../frames.ts';
import { isStill, lifeOf } from '../life.ts';
import { at, end, go, targetOf, type OpOf, type Task, type Turn } from '../progress.ts';
import { isAccessible } from '../pv/buffers.ts';
import { afterReturned, beforeTaken } from '../pv/flush.ts';
import {
  domainNamed,
  entryOf,
  frameOf,
  isParavirtual,
  withDomain,
  withFrame,
  type Domain,
  type State,
} from '../state.ts';
import { wish } from './pod-demand.ts';
import { countOf, fetchGfn, orderMax } from './reservation.ts';

type Exchange = Task<OpOf<'memory.exchange'>>;

/** Elements of `given` from where to where, how many make a chunk, and how many of `taken` do. */
interface Shape {
  readonly from: number;
  readonly to: number;
  readonly givenPerChunk: number;
  readonly takenPerChunk: number;
}

/** Numbers near the largest are counted back from 0: addresses wrap there all the same. */
function shapeOf({ op }: Exchange): Shape {
  const { before, givenOrder, takenOrder } = op;
  const to = before > 0 ? -1 : countOf(op.given);
  return {
    from: before > 0 ? to - before : op.start,
    to,
    givenPerChunk: pow2(Math.max(takenOrder - givenOrder, 0)),
    takenPerChunk: pow2(Math.max(givenOrder - takenOrder, 0)),
  };
}

/** What the caller is told to be done when it stands at an element: of numbers near the largest, how many it has come on. */
const doneAt = ({ op }: Exchange, shape: Shape, element: number): number =>
  op.before > 0 ? element - shape.from : element;

/** The chunk in hand, and its first element. */
const chunkAt = ({ givenPerChunk }: Shape, element: number): number => Math.floor(element / givenPerChunk);

/** One micro-step. */
export function exchange(cut: Cut, task: Exchange): Turn {
  switch (task.work.at) {
    case 'begin':
      return begin(cut, task);
    case 'next':
      return next(cut, task);
    case 'some':
      return fetch(cut, task);
    case 'hold':
      return take(cut, task);
    case 'allocate':
      return prepare(cut, task);
    case 'release':
      return release(cut, task);
    case 'install':
      return assign(cut, task);
    case 'mark':
      return name(cut, task);
    case 'copyBack':
      return tell(cut, task);
    case 'undo':
      return giveBack(cut, task);
    case 'unbind':
      return freeTaken(cut, task);
    default:
      return freeGiven(cut, task);
  }
}

/** Whether lists are as long as each other, in frames. */
function isEven({ op }: Exchange): boolean {
  const { given, taken, givenOrder, takenOrder, before } = op;
  if (before > 0) return givenOrder === 0 && takenOrder === 0;
  return countOf(given) * pow2(givenOrder) === countOf(taken) * pow2(takenOrder);
}

/** Whether the caller may name the first element that it has in a list; one that is no list in memory always. */
const mayBegin = (state: State, { caller }: Exchange, list: { extents: Extents<'concrete'>; index: number }): boolean =>
  list.extents.by === 'value' ||
  !isParavirtual(state, caller) ||
  isAccessible(state.geometry, { buffer: list.extents.buffer, index: list.index });

/** Why there is no exchange at all. */
function objection(cut: Cut, task: Exchange, shape: Shape): Errno | undefined {
  const { op, caller } = task;
  const { state } = cut;
  if (Math.max(op.givenOrder, op.takenOrder) > orderMax(state, caller)) return 'EPERM';
  return shape.from > shape.to || !isEven(task) ? 'EINVAL' : undefined;
}

function begin(cut: Cut, task: Exchange): Turn {
  const { op } = task;
  const shape = shapeOf(task);
  const { from, to, takenPerChunk } = shape;
  const done = doneAt(task, shape, from);
  const most = cut.state.geometry.capacity.batch;
  if (to - from > most || (op.before === 0 && countOf(op.taken) > most)) return end(cut, 'E2BIG');
  const errno = objection(cut, task, shape);
  if (errno !== undefined) return end(cut, errno, { done });
  if (from === to) return end(cut, 'ok', { done });
  const first = chunkAt(shape, from);
  const isThere =
    mayBegin(cut.state, task, { extents: op.given, index: from }) &&
    mayBegin(cut.state, task, { extents: op.taken, index: first * takenPerChunk });
  if (!isThere) return end(cut, 'EFAULT', { done });
  const target = targetOf(cut, task);
  if (typeof target === 'string') return end(cut, target, { done });
  return go(cut, task, { at: 'next', index: first, arriving: lifeOf(cut.state, target.id) });
}

/** Whose frames the call is about; undefined: that domain has gone. */
function targetStill(state: State, task: Exchange): Domain | undefined {
  const target = domainNamed(state, task.op.target, task.caller);
  return target !== undefined && isStill(state, target.id, task.work.arriving) ? target : undefined;
}

/** The border between two chunks. */
function next(cut: Cut, task: Exchange): Turn {
  const shape = shapeOf(task);
  const { index } = task.work;
  if (index === chunkAt(shape, shape.to)) return end(cut, 'ok', { done: doneAt(task, shape, shape.to) });
  const done = doneAt(task, shape, index * shape.givenPerChunk);
  const preempted = index > chunkAt(shape, shape.from) ? preemption(cut, done) : undefined;
  if (preempted !== undefined) return end(preempted, 'preempted', { done });
  return fetch(cut, { ...task, work: { ...task.work, part: 0, given: [], taken: [], status: 'ok' } });
}

/** The next extent of the chunk is looked for in the list. */
function fetch(before: Cut, task: Exchange): Turn {
  const { op, work } = task;
  const { givenPerChunk } = shapeOf(task);
  const index = work.index * givenPerChunk + Math.floor(work.part / pow2(op.givenOrder));
  const { cut, gfn } = fetchGfn(before, task, { extents: op.given, index });
  return gfn === undefined ? fail(cut, task, 'EFAULT') : go(cut, task, { at: 'hold', gfn });
}

/** A page is taken from the guest: nothing may refer to it but the guest itself. */
function take(cut: Cut, task: Exchange): Turn {
  const { op, work } = task;
  const { state } = cut;
  const gfn = (work.gfn + (work.part % pow2(op.givenOrder))) as Gfn;
  const target = targetStill(state, task);
  if (target?.kind !== 'pv') return refuseTranslated(cut, task, { target, gfn });
  const mfn = gfn as number as Mfn;
  if (mfn >= state.geometry.frameCount) return fail(cut, task, 'EINVAL');
  const { role, owner, allocated, refs } = frameOf(state, mfn);
  const isOwn = role === 'ram' && owner === target.id;
  if (!isOwn || !allocated || refs !== 1) return fail(cut, task, 'EINVAL');
  const none = { type: 'none', typeCount: 0, validated: false } as const;
  const taken = withFrame(beforeTaken(state, mfn), mfn, { role: 'inHand', allocated: false, refs: 0, ...none });
  const part = work.part + 1;
  const isWhole = part === pow2(Math.max(op.givenOrder, op.takenOrder));
  const isOver = part % pow2(op.givenOrder) === 0;
  const next = isWhole ? 'allocate' : isOver ? 'some' : 'hold';
  return go(at(cut, taken), task, { at: next, part, taken: [...work.taken, mfn] });
}

/** Of a translated guest the frame is looked up, and then not taken. */
function refuseTranslated(cut: Cut, task: Exchange, of: { target: Domain | undefined; gfn: Gfn }): Turn {
  const { target, gfn } = of;
  if (target === undefined) return fail(cut, task, 'EINVAL');
  wish(cut, task.work, { domain: target.id, gfn });
  return fail(cut, task, entryOf(cut.state, target.id, gfn) === undefined ? 'EINVAL' : 'EOPNOTSUPP');
}

/** The chunk has failed: all that is in hand goes back. */
function fail(cut: Cut, task: Exchange, status: Errno): Turn {
  return ended(cut, { ...task, work: { ...task.work, status } });
}

/** Nothing more of the chunk is done: what was taken goes back, then what was to be given; and then the caller is told. */
function ended(cut: Cut, task: Exchange): Turn {
  const { taken, given, status, index } = task.work;
  const shape = shapeOf(task);
  if (taken.length > 0) return go(cut, task, { at: 'undo', status });
  if (given.length > 0) return go(cut, task, { at: 'finish', status });
  return end(cut, status, { done: doneAt(task, shape, index * shape.givenPerChunk) });
}

/** An extent to be given comes from the heap. */
function prepare(cut: Cut, task: Exchange): Turn {
  const { op, work } = task;
  const { cut: after, mfn } = allocate(cut, { order: op.takenOrder, owner: DOMID_INVALID, role: 'inHand' });
  if (mfn === undefined) return fail(after, task, 'ENOMEM');
  const given = [...work.given, mfn];
  return go(after, task, { at: given.length === shapeOf(task).takenPerChunk ? 'release' : 'allocate', given });
}

/** From here on nothing is taken back. The frames that were taken are freed, one by one; the guest has as many pages as before. */
function release(cut: Cut, task: Exchange): Turn {
  const [mfn, ...taken] = task.work.taken;
  if (mfn === undefined) return assign(cut, task);
  return go(at(cut, free(cut.state, mfn)), task, { taken, at: taken.length > 0 ? 'release' : 'install', part: 0 });
}

const framesFrom = (mfn: Mfn, order: number): readonly Mfn[] =>
  Array.from({ length: pow2(order) }, (_, i) => (mfn + i) as Mfn);

/** An extent becomes the guest's; or the guest is dying, and has so many pages less. */
function assign(cut: Cut, task: Exchange): Turn {
  const { op, work } = task;
  const [mfn, ...given] = work.given;
  const target = domainNamed(cut.state, op.target, task.caller);
  if (mfn === undefined) return chunkDone(cut, task);
  if (target?.state !== 'running') {
    const missing = work.given.length * pow2(op.takenOrder);
    return go(at(cut, target === undefined ? cut.state : fewer(cut.state, target, missing)), task, { at: 'finish' });
  }
  const own = { role: 'ram', owner: target.id, allocated: true, refs: 1 } as const;
  const assigned = framesFrom(mfn, op.takenOrder).reduce((state, one) => withFrame(state, one, own), cut.state);
  return go(at(cut, assigned), task, { at: 'mark', given, mfn });
}

/** A dying domain has so many pages less: they may have been the last. */
const fewer = (state: State, { id, totalPages }: Domain, pages: number): State =>
  reap(withDomain(state, id, { totalPages: totalPages - pages }), id);

/** The number of the extent in hand, in the list of what is taken. */
function extentOf(task: Exchange): number {
  const { takenPerChunk } = shapeOf(task);
  const { index, given } = task.work;
  return index * takenPerChunk + takenPerChunk - given.length - 1;
}

/** The guest is asked what it calls the extent. */
function name(before: Cut, task: Exchange): Turn {
  const { op, work } = task;
  const { cut, gfn } = fetchGfn(before, task, { extents: op.taken, index: extentOf(task) });
  if (gfn === undefined) return go(cut, task, { at: 'install', status: 'EFAULT' });
  const target = domainNamed(cut.state, op.target, task.caller);
  const isOwn = (mfn: Mfn): boolean => {
    const { role, owner } = frameOf(cut.state, mfn);
    return role === 'ram' && owner !== undefined && owner === target?.id;
  };
  let { state } = cut;
  // Others may have taken pages of it away in the meantime.
  for (const [i, mfn] of framesFrom(work.mfn, op.takenOrder).entries())
    if (isOwn(mfn)) state = withFrame(state, mfn, { pseudo: Math.min(gfn + i, INVALID_GFN) as Gfn });
  return go(at(cut, state), task, { at: op.taken.by === 'value' ? 'install' : 'copyBack' });
}

/** And told which frames it is. */
function tell(cut: Cut, task: Exchange): Turn {
  const { op, work } = task;
  if (op.taken.by !== 'buffer') return go(cut, task, { at: 'install' });
  const index = extentOf(task);
  const refused = failure(cut, { class: 'copyBack', done: doneAt(task, shapeOf(task), index) });
  if (refused !== undefined) return go(refused, task, { at: 'install', status: 'EFAULT' });
  const word = { lo: low32(work.mfn), hi: high21(work.mfn) };
  const stored = storeWord(cut, task, { buffer: op.taken.buffer, index, word });
  return go(stored.cut, task, stored.ok ? { at: 'install' } : { at: 'install', status: 'EFAULT' });
}

/** All of the chunk is given. If the guest could not be told of some of it, that is the end. */
function chunkDone(cut: Cut, task: Exchange): Turn {
  const { status, index } = task.work;
  return status === 'ok' ? go(cut, task, { at: 'next', index: index + 1 }) : ended(cut, task);
}

/** A frame that was taken goes back to its guest, unless that is dying: then it is freed. */
function giveBack(cut: Cut, task: Exchange): Turn {
  const [mfn, ...taken] = task.work.taken;
  const owner = mfn === undefined ? undefined : frameOf(cut.state, mfn).owner;
  if (mfn === undefined || owner === undefined) return ended(cut, task);
  if (cut.state.domains.get(owner)?.state !== 'running') return go(cut, task, { at: 'unbind' });
  const back = withFrame(cut.state, mfn, { role: 'ram', allocated: true, refs: 1 });
  return ended(at(cut, afterReturned(back, owner, mfn)), { ...task, work: { ...task.work, taken } });
}

function freeTaken(cut: Cut, task: Exchange): Turn {
  const [mfn, ...taken] = task.work.taken;
  const id: DomId | undefined = mfn === undefined ? undefined : frameOf(cut.state, mfn).owner;
  const owner = id === undefined ? undefined : cut.state.domains.get(id);
  if (mfn === undefined || owner === undefined) return ended(cut, task);
  const freed = free(cut.state, mfn);
  return ended(at(cut, fewer(freed, owner, 1)), { ...task, work: { ...task.work, taken } });
}

/** An extent that was not given goes back to the heap. */
function freeGiven(cut: Cut, task: Exchange): Turn {
  const [mfn, ...given] = task.work.given;
  if (mfn === undefined) return ended(cut, task);
  const freed = framesFrom(mfn, task.op.takenOrder).reduce(free, cut.state);
  return ended(at(cut, freed), { ...task, work: { ...task.work, given } });
}
