// Memory on demand in what a guest gives back: entries on demand go, and while more is owed than the cache holds the guest's RAM goes
// to the cache instead of the heap. What is left over is for the ordinary way (reservation.ts). Ranges need not be aligned.
// Source: Xen arch/x86/mm/p2m-pod.c (p2m_pod_decrease_reservation, decrease_reservation); XSA-247, XSA-388.

import type { DomId, Gfn, Mfn } from '#abi/address.ts';
import { podPart } from '#abi/choices.ts';
import { superpageOrder } from '#abi/geometry.ts';
import { frameRoles } from '#abi/roles.ts';
import { pow2 } from '#lib/bits.ts';
import { lockP2m, pieceAt, unlockP2m, type Piece } from '../hap/table.ts';
import type { Machine } from '../machine.ts';
import type { Step } from '../port.ts';
import { crash } from './life.ts';
import { countOnDemand, isRamType, replaceEntries, settleP2m } from './p2m.ts';
import { addToCache } from './pod-frames.ts';
import { reclaimLarge } from './pod-reclaim.ts';
import { pieceOrder, shrink, type Range } from './pod.ts';
import { exists, isAlive } from './target.ts';

const RAM = frameRoles.indexOf('ram');

/** Takes what memory on demand is concerned with out of a range of `dom`; answers how many gfns that were. */
export function* decreaseOnDemand(m: Machine, dom: DomId, range: Range): Step<number> {
  const order = pieceOrder(range);
  const end = range.gfn + pow2(range.order);
  let taken = 0;
  for (let { gfn } = range; gfn < end; gfn += pow2(order)) {
    if (m.f.podEntries.get(dom) === 0) continue;
    yield* lockP2m(m, dom);
    taken += yield* decreasePiece(m, dom, { gfn, order });
    yield* unlockP2m(m, dom);
  }
  return taken;
}

/** Whether more is owed to `dom` than its cache holds. */
const isShort = ({ f }: Machine, dom: number): boolean => f.podEntries.get(dom) > f.podCount.get(dom);

/** Whether a frame is RAM, not a page of the hypervisor that the guest sees. */
const isPlain = (m: Machine, mfn: number): boolean => m.f.frameRole.get(mfn) === RAM;

/** The largest piece of RAM at a gfn, of `there` and of the range in hand, in which there are no pages of the hypervisor. */
function plainOrder(m: Machine, there: Piece, most: number): number {
  for (let order = Math.min(most, there.order); order > 0; order -= 1) {
    const frames = Array.from({ length: pow2(order) }, (_, i) => there.mfn + i);
    if (frames.every((mfn) => isPlain(m, mfn))) return order;
  }
  return 0;
}

/** What a piece consists of: gfns on demand, and gfns that are RAM of the guest's own. */
interface Census {
  readonly onDemand: number;
  readonly ram: number;
}

function census(m: Machine, dom: DomId, { gfn, order }: Range): Census {
  let onDemand = 0;
  let ram = 0;
  for (let i = 0; i < pow2(order);) {
    const there = pieceAt(m, dom, gfn + i);
    const count = pow2(Math.min(order, there.order));
    if (there.type === 'populateOnDemand') onDemand += count;
    else if (isRamType(there.type)) for (let k = 0; k < count; k += 1) ram += isPlain(m, there.mfn + k) ? 1 : 0;
    i += count;
  }
  return { onDemand, ram };
}

const remove = (m: Machine, dom: DomId, { gfn, order }: Range): Step<boolean> =>
  replaceEntries(m, dom, { gfn, order, mfn: 0, type: 'none', done: podPart(gfn) });

function* decreasePiece(m: Machine, dom: DomId, piece: Range): Step<number> {
  const { gfn, order } = piece;
  const size = pow2(order);
  if (!exists(m, dom) || m.f.podEntries.get(dom) === 0 || !isAlive(m, dom)) return 0;
  let left = census(m, dom, piece);
  if (left.onDemand === 0 && !isShort(m, dom)) return 0;
  if (left.onDemand === size) return yield* removeAll(m, dom, piece);
  const large = superpageOrder(m.geometry);
  const isWhole = isShort(m, dom) && order < large && left.ram === size;
  if (isWhole && (yield* reclaimLarge(m, dom, gfn - (gfn % pow2(large))))) left = { onDemand: size, ram: 0 };
  const { taken, isStopped } = yield* removeSome(m, dom, { piece, left });
  if (!isStopped) yield* balance(m, dom);
  return taken;
}

/** All of a piece is on demand. */
function* removeAll(m: Machine, dom: DomId, piece: Range): Step<number> {
  if (!(yield* remove(m, dom, piece))) {
    if (piece.order > 0) crash(m, dom);
    return 0;
  }
  countOnDemand(m, dom, -pow2(piece.order));
  yield* balance(m, dom);
  return pow2(piece.order);
}

/** Takes entry by entry while there is something on demand, or RAM that is wanted, or until that fails: the domain is stopped then. */
function* removeSome(
  m: Machine,
  dom: DomId,
  { piece, left }: { readonly piece: Range; readonly left: Census },
): Step<{ readonly taken: number; readonly isStopped: boolean }> {
  let { onDemand, ram } = left;
  let isStealing = isShort(m, dom);
  let taken = 0;
  for (let i = 0; i < pow2(piece.order) && (onDemand > 0 || (isStealing && ram > 0));) {
    const gfn = piece.gfn + i;
    const there = pieceAt(m, dom, gfn);
    const isRam = isRamType(there.type);
    const order = isRam ? plainOrder(m, there, piece.order) : Math.min(piece.order, there.order);
    const count = pow2(order);
    i += count;
    if (there.type === 'populateOnDemand') {
      if (!(yield* remove(m, dom, { gfn, order }))) {
        crash(m, dom);
        return { taken, isStopped: true };
      }
      countOnDemand(m, dom, -count);
      onDemand -= count;
    } else if (isStealing && isRam && isPlain(m, there.mfn)) {
      if (!(yield* steal(m, dom, { gfn, order, mfn: there.mfn }))) return { taken, isStopped: true };
      isStealing = isShort(m, dom);
      ram -= count;
    } else continue;
    taken += count;
  }
  return { taken, isStopped: false };
}

/** RAM goes to the cache; false: the pool refused a table, and the domain is stopped. */
function* steal(m: Machine, dom: DomId, { gfn, order, mfn }: Range & { readonly mfn: number }): Step<boolean> {
  m.port.choose({ kind: 'podStolen', domain: dom, gfn: gfn as Gfn, mfn: mfn as Mfn, order });
  if (!(yield* remove(m, dom, { gfn, order }))) {
    crash(m, dom);
    return false;
  }
  yield* settleP2m(m, dom);
  addToCache(m, dom, { mfn, order });
  return true;
}

/** What the cache holds beyond what is owed goes to the heap. */
function* balance(m: Machine, dom: DomId): Step<void> {
  while (m.f.podEntries.get(dom) < m.f.podCount.get(dom)) yield* shrink(m, dom, m.f.podEntries.get(dom));
}
