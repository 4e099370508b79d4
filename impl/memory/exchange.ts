// Exchange of frames of a paravirtual guest for others, chunk by chunk. In the middle of a chunk frames are in the hypervisor's hand: taken from
// the guest and not yet free, or ready for it and not yet its own. They have no references, so nobody can use them, and the guest is counted as
// having them all the time. Whatever goes wrong before the first of them is freed is undone. Translated guests are refused, late.
// A first reader may skip `admit`. Sources: Xen common/memory.c (memory_exchange), arch/x86/mm.c (steal_page), common/page_alloc.c
// (assign_pages, free_domheap_pages).

import { DOMID_INVALID, type DomId, INVALID_GFN } from '#abi/address.ts';
import type { MemoryOp } from '#abi/memory.ts';
import type { Extents } from '#abi/operand.ts';
import { reply, type Errno, type Reply } from '#abi/reply.ts';
import { frameRoles } from '#abi/roles.ts';
import { pow2 } from '#lib/bits.ts';
import { invariant } from '#lib/invariant.ts';
import type { Call } from '../execution.ts';
import { lookup } from '../hap/table.ts';
import type { Machine } from '../machine.ts';
import type { Step } from '../port.ts';
import { fetchRaw, isNameable, storeRaw } from '../pv/copy.ts';
import { isMemory } from '../pv/frames.ts';
import { buryIfOver, freeUnreferenced } from './frames.ts';
import { storeWord } from './guest.ts';
import { allocate, lockHeap, releaseFrame, unlockHeap } from './heap.ts';
import { demand, isOnDemand } from './pod-demand.ts';
import { countOf, fetchGfn, orderMax } from './reservation.ts';
import { callerIn, exists, isAlive, isParavirtual, targetOf } from './target.ts';

type Exchange = Extract<MemoryOp<'concrete'>, { kind: 'memory.exchange' }>;

const RAM = frameRoles.indexOf('ram');
const IN_HAND = frameRoles.indexOf('inHand');

/** A call that was let in. Elements are counted up to `end`; those before 0 are of a call whose numbers are near the end of 64 bits. */
interface Admitted {
  readonly call: Call;
  readonly op: Exchange;
  readonly caller: DomId;
  readonly target: DomId;
  /** In which life the target was found: by the same id there may be another one later on. */
  readonly life: number;
  readonly start: number;
  readonly end: number;
  /** Elements of either list in a chunk, by power of two: one of them is 0. */
  readonly givenOrder: number;
  readonly takenOrder: number;
}

/** What is in hand for the present chunk. */
interface Hand {
  readonly taken: number[];
  readonly given: number[];
}

/** What is said to be done when `element` is the next. */
const doneOf = ({ before }: Exchange, start: number, element: number): number =>
  before > 0 ? element - start : element;

/** Whether the caller may have an array begin at its element. */
function mayName(m: Machine, caller: DomId, list: { extents: Extents<'concrete'>; index: number }): boolean {
  const { extents, index } = list;
  return extents.by === 'value' || !isParavirtual(m, caller) || isNameable(m, { buffer: extents.buffer, index });
}

/** The checks before the first chunk. */
function admit(m: Machine, call: Call, op: Exchange): Admitted | Reply {
  const caller = callerIn(call);
  const { batch } = m.geometry.capacity;
  const isForged = op.before > 0;
  const end = isForged ? -1 : countOf(op.given);
  const start = isForged ? end - op.before : op.start;
  if (end - start > batch || (!isForged && countOf(op.taken) > batch)) return reply('E2BIG');
  const done = doneOf(op, start, start);
  const most = orderMax(m, caller);
  if (op.givenOrder > most || op.takenOrder > most) return reply('EPERM', { done });
  const isEven = isForged
    ? op.givenOrder + op.takenOrder === 0
    : end * pow2(op.givenOrder) === countOf(op.taken) * pow2(op.takenOrder);
  if (start > end || !isEven) return reply('EINVAL', { done });
  if (start === end) return reply('ok', { done });
  const givenOrder = Math.max(op.takenOrder - op.givenOrder, 0);
  const takenOrder = Math.max(op.givenOrder - op.takenOrder, 0);
  const first = Math.floor(start / pow2(givenOrder));
  if (!mayName(m, caller, { extents: op.given, index: start })) return reply('EFAULT', { done });
  if (!mayName(m, caller, { extents: op.taken, index: first * pow2(takenOrder) })) return reply('EFAULT', { done });
  const target = targetOf(m, call, op.target);
  if (typeof target === 'string') return reply(target, { done });
  return { call, op, caller, target, life: m.f.domLife.get(target), start, end, givenOrder, takenOrder };
}

/** The whole call, up to its end, a failure or a preemption between two chunks. */
export function* exchange(m: Machine, call: Call, op: Exchange): Step<Reply> {
  const of = admit(m, call, op);
  if ('status' in of) return of;
  const size = pow2(of.givenOrder);
  const first = Math.floor(of.start / size);
  for (let chunk = first; chunk < Math.floor(of.end / size); chunk += 1) {
    const done = doneOf(op, of.start, chunk * size);
    if (chunk > first && m.port.preempts(done)) return reply('preempted', { done });
    const status = yield* exchangeChunk(m, of, chunk);
    if (status !== undefined) return reply(status, { done });
  }
  return reply('ok', { done: doneOf(op, of.start, of.end) });
}

/** One chunk; undefined: all of it is done. 'ok': the guest is dying, and got no more. */
function* exchangeChunk(m: Machine, of: Admitted, chunk: number): Step<Errno | 'ok' | undefined> {
  const hand: Hand = { taken: [], given: [] };
  const errno = (yield* takeChunk(m, of, { chunk, hand })) ?? (yield* prepareChunk(m, of, hand));
  if (errno === undefined) return yield* giveChunk(m, of, { chunk, hand });
  for (const mfn of hand.taken) yield* putBack(m, mfn);
  yield* freeReady(m, of, hand.given);
  return errno;
}

interface InChunk {
  readonly chunk: number;
  readonly hand: Hand;
}

/** Fetches a number of either list: in the caller's memory without another look at whether it may name it. */
function* fetchNumber(m: Machine, of: Admitted, list: { extents: Extents<'concrete'>; index: number }): Step<number> {
  const { extents, index } = list;
  if (extents.by === 'value' || !isParavirtual(m, of.caller)) return yield* fetchGfn(m, of.caller, list);
  const who = { domain: of.caller, purpose: 'guest' } as const;
  const isFetched = yield* fetchRaw(m, who, { buffer: extents.buffer, index });
  return isFetched ? m.port.lo + m.port.hi * pow2(32) : -1;
}

function* takeChunk(m: Machine, of: Admitted, { chunk, hand }: InChunk): Step<Errno | undefined> {
  const { op, target, givenOrder } = of;
  for (let j = 0; j < pow2(givenOrder); j += 1) {
    const first = yield* fetchNumber(m, of, { extents: op.given, index: chunk * pow2(givenOrder) + j });
    if (first < 0) return 'EFAULT';
    for (let i = 0; i < pow2(op.givenOrder); i += 1) {
      const gfn = first + i;
      const errno = yield* isParavirtual(m, target) ? takePage(m, of, gfn) : refuse(m, of, gfn);
      if (errno !== undefined) return errno;
      hand.taken.push(gfn);
    }
  }
  return undefined;
}

/** Whether the target is there, and the one that was found. */
const isStill = (m: Machine, { target, life }: Admitted): boolean =>
  exists(m, target) && m.f.domLife.get(target) === life;

/** A translated guest's frame is looked for, and not taken. */
function* refuse(m: Machine, of: Admitted, gfn: number): Step<Errno> {
  const { target } = of;
  if (!isStill(m, of)) return 'EINVAL';
  if (isOnDemand(m, target, gfn)) yield* demand(m, target, gfn);
  if (!isStill(m, of)) return 'EINVAL';
  const found = lookup(m, target, gfn);
  return found === undefined || found.mfn === 0 ? 'EINVAL' : 'EOPNOTSUPP';
}

/** Takes a page from its guest, if that alone refers to it: from now on nobody can. What it was used as is over. */
function* takePage(m: Machine, of: Admitted, mfn: number): Step<Errno | undefined> {
  const { f } = m;
  const { target } = of;
  if (!isMemory(m, mfn)) return 'EINVAL';
  yield* m.port.point('reference', 'frame');
  if (!isStill(m, of)) return 'EINVAL';
  if (f.frameRole.get(mfn) !== RAM || f.frameOwner.get(mfn) !== target + 1) return 'EINVAL';
  if (f.frameAllocated.get(mfn) === 0 || f.frameRefs.get(mfn) !== 1) return 'EINVAL';
  invariant(f.frameTypeCount.get(mfn) === 0, 'a frame without references is used as nothing');
  f.frameRole.set(mfn, IN_HAND);
  f.frameAllocated.set(mfn, 0);
  f.frameRefs.set(mfn, 0);
  f.frameType.set(mfn, 0);
  f.frameValidated.set(mfn, 0);
  return undefined;
}

/** Makes ready what the guest gets. */
function* prepareChunk(m: Machine, { op, takenOrder }: Admitted, { given }: Hand): Step<Errno | undefined> {
  while (given.length < pow2(takenOrder)) {
    const mfn = yield* allocate(m, { order: op.takenOrder, owner: DOMID_INVALID, role: 'inHand' });
    if (mfn === 0) return 'ENOMEM';
    given.push(mfn);
  }
  return undefined;
}

/** A page that was taken is its guest's again; if that is dying it has one page less. */
function* putBack(m: Machine, mfn: number): Step<void> {
  const { f } = m;
  const owner = f.frameOwner.get(mfn) - 1;
  yield* m.port.point('reference', 'frame');
  if (!isAlive(m, owner)) {
    yield* freeUnreferenced(m, mfn, 1);
    yield* buryIfOver(m, owner);
    return;
  }
  f.frameRole.set(mfn, RAM);
  f.frameAllocated.set(mfn, 1);
  f.frameRefs.set(mfn, 1);
}

/** Extents that were ready go back to the heap. */
function* freeReady(m: Machine, { op }: Admitted, given: readonly number[]): Step<void> {
  for (const first of given) {
    yield* m.port.point('free', 'heap');
    yield* lockHeap(m);
    for (let mfn = first; mfn < first + pow2(op.takenOrder); mfn += 1) yield* releaseFrame(m, mfn);
    yield* unlockHeap(m);
  }
}

/** Frees what was taken, and gives what is ready. That the guest could not be asked or told about an extent does not keep it from the next. */
function* giveChunk(m: Machine, of: Admitted, { chunk, hand }: InChunk): Step<Errno | 'ok' | undefined> {
  let status: Errno | undefined;
  for (const mfn of hand.taken) yield* freeUnreferenced(m, mfn, 0);
  for (const [j, mfn] of hand.given.entries()) {
    if (!(yield* assign(m, of, mfn))) {
      const rest = hand.given.slice(j);
      yield* fewerPages(m, of.target, rest.length * pow2(of.op.takenOrder));
      yield* freeReady(m, of, rest);
      return status ?? 'ok';
    }
    status = (yield* introduce(m, of, { mfn, index: chunk * pow2(of.takenOrder) + j })) ?? status;
  }
  return status;
}

/** An extent becomes the guest's; false: that is dying. */
function* assign(m: Machine, { op, target }: Admitted, first: number): Step<boolean> {
  const { f } = m;
  yield* m.port.point('reference', 'frame');
  if (!exists(m, target) || !isAlive(m, target)) return false;
  for (let mfn = first; mfn < first + pow2(op.takenOrder); mfn += 1) {
    f.frameRole.set(mfn, RAM);
    f.frameOwner.set(mfn, target + 1);
    f.frameAllocated.set(mfn, 1);
    f.frameRefs.set(mfn, 1);
  }
  return true;
}

function* fewerPages(m: Machine, target: DomId, pages: number): Step<void> {
  if (!exists(m, target)) return;
  m.f.domTotalPages.add(target, -pages);
  yield* buryIfOver(m, target);
}

/** The guest says what it calls an extent, and is told which frames it is. */
function* introduce(
  m: Machine,
  of: Admitted,
  { mfn: first, index }: { readonly mfn: number; readonly index: number },
): Step<Errno | undefined> {
  const { op, target, caller, start } = of;
  const gfn = yield* fetchNumber(m, of, { extents: op.taken, index });
  if (gfn < 0) return 'EFAULT';
  for (let i = 0; i < pow2(op.takenOrder); i += 1) {
    // Some of it may have been taken away since.
    const isOwn = m.f.frameOwner.get(first + i) === target + 1 && m.f.frameRole.get(first + i) === RAM;
    if (isOwn) m.f.m2p.setWide(first + i, Math.min(gfn + i, INVALID_GFN) + 1);
  }
  if (op.taken.by === 'value') return undefined;
  const { buffer } = op.taken;
  const done = doneOf(op, start, index);
  const who = { domain: caller, purpose: 'guest' } as const;
  const to = { domain: caller, buffer, index, lo: first, hi: 0, done };
  if (!isParavirtual(m, caller)) return (yield* storeWord(m, who, to)) ? undefined : 'EFAULT';
  if (m.port.fails('copyBack')) {
    m.port.refuse('copyBack', done);
    return 'EFAULT';
  }
  return (yield* storeRaw(m, who, to)) ? undefined : 'EFAULT';
}
