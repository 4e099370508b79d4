// Memory on demand as the toolstack handles it: marking gfns, setting how much memory a guest is to have (which fills its cache), and
// asking for the numbers. Ranges need not be aligned: they are cut into pieces of one order that are.
// A first reader may skip `wantedCache`. Sources: Xen arch/x86/mm/p2m-pod.c (guest_physmap_mark_populate_on_demand,
// mark_populate_on_demand, p2m_pod_set_mem_target, p2m_pod_set_cache_target, p2m_pod_get_mem_target), arch/x86/mm.c
// (XENMEM_set_pod_target, XENMEM_get_pod_target); XSA-388 for the pieces.

import { DOMID_CONTROL, DOMID_SELF, type DomId } from '#abi/address.ts';
import { gfnCount, superpageOrder } from '#abi/geometry.ts';
import type { MemoryOp } from '#abi/memory.ts';
import { reply, type Errno, type Reply } from '#abi/reply.ts';
import { pow2 } from '#lib/bits.ts';
import type { Call } from '../execution.ts';
import { lockP2m, pieceAt, unlockP2m } from '../hap/table.ts';
import type { Machine } from '../machine.ts';
import type { Step } from '../port.ts';
import { dropAllocated } from './frames.ts';
import { allocateRam } from './heap.ts';
import { crash } from './life.ts';
import { countOnDemand, replaceEntries } from './p2m.ts';
import { addToCache, hasLarge, takeFromCache } from './pod-frames.ts';
import { isPermittedSome } from './permissions.ts';
import { callerIn, exists, isAlive, isParavirtual } from './target.ts';

type Op<K extends MemoryOp<'concrete'>['kind']> = Extract<MemoryOp<'concrete'>, { kind: K }>;

/** A run of 2^order gfns, aligned or not. */
export interface Range {
  readonly gfn: number;
  readonly order: number;
}

/** The largest order by which the range can be cut into aligned pieces. */
export function pieceOrder({ gfn, order }: Range): number {
  let fit = 0;
  while (fit < order && gfn % pow2(fit + 1) === 0) fit += 1;
  return fit;
}

/** A range that is to be on demand; `done`: pages of the call that were dealt with before it, for the log of a refusal. */
interface Marked extends Range {
  readonly done: number;
}

/** Marks a range as on demand, not for who may have devices, which cannot wait for memory; piece by piece: what is marked before a refusal stays so. */
export function* markOnDemand(m: Machine, dom: DomId, range: Marked): Step<Errno | undefined> {
  const order = pieceOrder(range);
  const end = range.gfn + pow2(range.order);
  if (isPermittedSome(m, dom)) return 'ENOTEMPTY';
  for (let { gfn } = range; gfn < end; gfn += pow2(order)) {
    yield* lockP2m(m, dom);
    const errno = yield* markPiece(m, dom, { gfn, order, done: range.done + gfn - range.gfn });
    yield* unlockP2m(m, dom);
    if (errno !== undefined) return errno;
  }
  return undefined;
}

/** Marks an aligned piece if nothing is there, or only what is on demand already. A domain is stopped for a larger one that fails. */
function* markPiece(m: Machine, dom: DomId, piece: Marked): Step<Errno | undefined> {
  const { gfn, order } = piece;
  if (!exists(m, dom)) return 'ESRCH';
  if (!isAlive(m, dom)) return 'EINVAL';
  let onDemand = 0;
  for (let i = 0; i < pow2(order);) {
    const there = pieceAt(m, dom, gfn + i);
    const count = pow2(Math.min(order, there.order));
    if (there.type === 'populateOnDemand') onDemand += count;
    else if (there.type !== 'none') return 'EBUSY';
    i += count;
  }
  const errno = yield* enter(m, dom, piece);
  if (errno === undefined) countOnDemand(m, dom, pow2(order) - onDemand);
  else if (order > 0) crash(m, dom);
  return errno;
}

function* enter(m: Machine, dom: DomId, { gfn, order, done }: Marked): Step<Errno | undefined> {
  if (gfn + pow2(order) > gfnCount(m.geometry)) return 'EINVAL';
  const change = { gfn, order, mfn: 0, type: 'populateOnDemand', done } as const;
  return (yield* replaceEntries(m, dom, change)) ? undefined : 'ENOMEM';
}

/** The domain that a target is about: a guest, for the control domain alone. Look-up comes first, then what it is. */
function podDomain(m: Machine, call: Call, target: DomId): DomId | Errno {
  const caller = callerIn(call);
  const dom = target === DOMID_SELF ? caller : target;
  if (!exists(m, dom)) return 'ESRCH';
  if (dom === DOMID_CONTROL) return 'EINVAL';
  if (caller !== DOMID_CONTROL) return 'EPERM';
  return isParavirtual(m, dom) ? 'EINVAL' : dom;
}

/** How many pages there are, how many of them lie in the cache, how many gfns are on demand. */
export function* podTarget(m: Machine, call: Call, op: { readonly target: DomId }): Step<Reply> {
  const { f } = m;
  const dom = podDomain(m, call, op.target);
  if (typeof dom === 'string') return reply(dom);
  yield* lockP2m(m, dom);
  const isThere = exists(m, dom);
  const out = isThere ? [f.domTotalPages.get(dom), f.podCount.get(dom), f.podEntries.get(dom)] : [];
  yield* unlockP2m(m, dom);
  return isThere ? reply('ok', { out }) : reply('ESRCH');
}

/** Sets how many pages a guest is to have; the cache grows towards it, preemptibly. Answers with the numbers. */
export function* setPodTarget(m: Machine, call: Call, op: Op<'memory.setPodTarget'>): Step<Reply> {
  const dom = podDomain(m, call, op.target);
  if (typeof dom === 'string') return reply(dom);
  if (op.pages > m.f.domMaxPages.get(dom)) return reply('EINVAL');
  yield* lockP2m(m, dom);
  const wanted = wantedCache(m, dom, op.pages);
  const failed =
    wanted === undefined ? undefined : isPermittedSome(m, dom) ? reply('ENOTEMPTY') : yield* setCache(m, dom, wanted);
  yield* unlockP2m(m, dom);
  return failed ?? (yield* podTarget(m, call, op));
}

/** How large the cache is to be for `pages` in all; undefined: it stays. It is never made smaller for the target's sake. */
function wantedCache(m: Machine, dom: DomId, pages: number): number | undefined {
  const { f } = m;
  if (!exists(m, dom)) return undefined;
  const total = f.domTotalPages.get(dom);
  const populated = total - f.podCount.get(dom);
  const entries = f.podEntries.get(dom);
  if (populated > 0 && entries === 0) return undefined;
  if (!isAlive(m, dom) || pages < total) return undefined;
  return populated > 0 ? Math.min(pages - populated, entries) : pages - populated;
}

/** Grows or shrinks the cache, with a preemption check after each piece but the last. */
function* setCache(m: Machine, dom: DomId, wanted: number): Step<Reply | undefined> {
  for (let done = 1; m.f.podCount.get(dom) !== wanted; done += 1) {
    if (m.f.podCount.get(dom) > wanted) yield* shrink(m, dom, wanted);
    else if (!(yield* grow(m, dom, wanted))) return reply('ENOMEM');
    if (m.f.podCount.get(dom) !== wanted && m.port.preempts(done)) return reply('preempted', { done });
  }
  return undefined;
}

/** A large run more, or for want of one a single frame. False: the heap has neither. */
function* grow(m: Machine, dom: DomId, wanted: number): Step<boolean> {
  const large = superpageOrder(m.geometry);
  const isMuch = wanted - m.f.podCount.get(dom) >= pow2(large);
  for (const order of isMuch ? [large, 0] : [0]) {
    const given = yield* allocateRam(m, dom, order);
    if (typeof given === 'string') continue;
    addToCache(m, dom, { mfn: given.mfn, order });
    return true;
  }
  return false;
}

/** Lets a large run go, or where that would be too much a single frame. */
export function* shrink(m: Machine, dom: number, wanted: number): Step<void> {
  const large = superpageOrder(m.geometry);
  const isMuch = m.f.podCount.get(dom) - wanted > pow2(large);
  const order = isMuch && hasLarge(m, dom) ? large : 0;
  yield* m.port.point('store', 'domain');
  const mfn = takeFromCache(m, dom, order);
  for (let i = 0; i < pow2(order); i += 1) yield* dropAllocated(m, mfn + i);
}
