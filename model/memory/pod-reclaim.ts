// Getting memory back that a guest has not used, in micro-steps: a glance at the beginning of each frame; the entry is removed; and
// when nobody can write any more, the real look. What holds nothing goes to the cache and is on demand; the rest is put back.
// A first reader may skip `Reclaim`'s fields. Source: Xen arch/x86/mm/p2m-pod.c (p2m_pod_zero_check,
// p2m_pod_zero_check_superpage).

import { podPart } from '#abi/choices.ts';
import type { DomId, Gfn, Mfn } from '#abi/address.ts';
import type { P2mType } from '#abi/hap.ts';
import { absorb, at, failure, type Cut } from '../cut.ts';
import { setP2m, settle, type Debt } from '../p2m.ts';
import { withDemand } from '../pod.ts';
import { entryOf, frameOf, isRamType, type State } from '../state.ts';
import { wordAt } from '../words.ts';
import { addToCache, isPlain, largeSize } from './pod-frames.ts';

/** RAM that is looked at as one: gfns and frames that lie together. */
interface Unit {
  readonly gfn: Gfn;
  readonly mfn: Mfn;
  readonly type: P2mType;
  readonly count: number;
}

/** How far it is. */
export interface Reclaim {
  readonly domain: DomId;
  /** Not glanced at yet. */
  readonly waiting: readonly Unit[];
  /** About to be removed, or put back. */
  readonly leaving: Unit | undefined;
  readonly returning: Unit | undefined;
  /** Removed, and not looked at yet. */
  readonly removed: readonly Unit[];
  /** Whether something has come to the cache. */
  readonly hasGained: boolean;
}

const GLANCE = 16;

/** Whether nobody but the owner holds the frame. */
const isSole = (state: State, id: DomId, mfn: Mfn): boolean =>
  isPlain(state, id, mfn) && frameOf(state, mfn).allocated && frameOf(state, mfn).refs === 1;

const framesOf = ({ mfn, count }: Unit): readonly Mfn[] => Array.from({ length: count }, (_, i) => (mfn + i) as Mfn);

function isZero(state: State, unit: Unit, words: number): boolean {
  const most = Math.min(words, state.geometry.wordsPerFrame);
  return framesOf(unit).every((mfn) => {
    for (let index = 0; index < most; index += 1) {
      const { lo, hi } = wordAt(state, mfn, index);
      if (lo !== 0 || hi !== 0) return false;
    }
    return true;
  });
}

const begin = (domain: DomId, waiting: readonly Unit[]): Reclaim => ({
  domain,
  waiting,
  leaving: undefined,
  returning: undefined,
  removed: [],
  hasGained: false,
});

function unitAt(state: State, id: DomId, gfn: Gfn): Unit | undefined {
  const entry = entryOf(state, id, gfn);
  if (entry === undefined || !isRamType(entry.type) || !isSole(state, id, entry.mfn)) return undefined;
  return { gfn, mfn: entry.mfn, type: entry.type, count: 1 };
}

/** Begins with single frames: those of `gfns` that are RAM and nobody else's. */
export const reclaimSingles = (state: State, id: DomId, gfns: readonly Gfn[]): Reclaim =>
  begin(
    id,
    gfns.flatMap((gfn) => unitAt(state, id, gfn) ?? []),
  );

/** Begins with a superpage's worth, if its frames lie together, aligned, and are nobody else's. */
export function reclaimLarge(state: State, id: DomId, gfn: Gfn): Reclaim {
  const count = largeSize(state);
  const first = unitAt(state, id, gfn);
  if (first === undefined || gfn % count !== 0 || first.mfn % count !== 0) return begin(id, []);
  for (let i = 1; i < count; i += 1) {
    const next = unitAt(state, id, (gfn + i) as Gfn);
    if (next?.mfn !== first.mfn + i || next.type !== first.type) return begin(id, []);
  }
  return begin(id, [{ ...first, count }]);
}

/** The entries of a unit, one by one. */
function overGfns(state: State, unit: Unit, change: (now: State, gfn: Gfn, mfn: Mfn) => State): State {
  let now = state;
  for (let i = 0; i < unit.count; i += 1) now = change(now, (unit.gfn + i) as Gfn, (unit.mfn + i) as Mfn);
  return now;
}

function remove(cut: Cut, reclaim: Reclaim, unit: Unit): { cut: Cut; reclaim: Reclaim } {
  const { domain } = reclaim;
  const rest = { ...reclaim, leaving: undefined };
  const failed = failure(cut, { class: 'pool', domain, done: podPart(unit.gfn, 'looked') });
  if (failed !== undefined) return { cut: failed, reclaim: rest };
  const gone = overGfns(cut.state, unit, (now, gfn) => setP2m(now, { domain, gfn }, undefined));
  const state = withDemand(gone, domain, { from: unit.gfn, to: unit.gfn + unit.count });
  // Of a single frame somebody may have got hold until just now; of a large run that is asked later.
  const isHeld = unit.count === 1 && !isSole(state, domain, unit.mfn);
  const next = isHeld ? { ...rest, returning: unit } : { ...rest, removed: [...rest.removed, unit] };
  return { cut: at(cut, state), reclaim: next };
}

function look(cut: Cut, reclaim: Reclaim, debts: readonly Debt[]): { cut: Cut; reclaim: Reclaim } {
  const [unit, ...removed] = reclaim.removed as readonly [Unit, ...Unit[]];
  const { domain } = reclaim;
  const flushed = absorb(cut);
  const state = settle(flushed.state, debts);
  const isFree = unit.count === 1 || framesOf(unit).every((mfn) => isSole(state, domain, mfn));
  if (!isFree || !isZero(state, unit, Infinity))
    return { cut: at(flushed, state), reclaim: { ...reclaim, removed, returning: unit } };
  return { cut: at(flushed, addToCache(state, domain, unit)), reclaim: { ...reclaim, removed, hasGained: true } };
}

/** One micro-step; `reclaim` is undefined when all is done. */
export function reclaimOn(
  cut: Cut,
  debts: readonly Debt[],
  reclaim: Reclaim,
): { readonly cut: Cut; readonly reclaim: Reclaim; readonly isOver: boolean } {
  const { domain, leaving, returning, removed } = reclaim;
  if (leaving !== undefined) return { ...remove(cut, reclaim, leaving), isOver: false };
  if (returning !== undefined) {
    const { type } = returning;
    const back = overGfns(cut.state, returning, (now, gfn, mfn) => setP2m(now, { domain, gfn }, { mfn, type }));
    return { cut: at(cut, back), reclaim: { ...reclaim, returning: undefined }, isOver: false };
  }
  const [first, ...waiting] = reclaim.waiting;
  if (first !== undefined) {
    const isEmpty = isZero(cut.state, first, GLANCE);
    return { cut, reclaim: { ...reclaim, waiting, leaving: isEmpty ? first : undefined }, isOver: false };
  }
  if (removed.length > 0) return { ...look(cut, reclaim, debts), isOver: false };
  return { cut, reclaim, isOver: true };
}
