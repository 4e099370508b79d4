// Memory on demand that is asked for, in micro-steps. A micro-step that looks a gfn up to use it leaves by `Demanded` if that is on
// demand, and is performed again when the gfn has been populated, or has been refused: because the pool has no table for a split,
// because the domain dies, or because there is no memory, for which the domain is stopped.
// A first reader may skip the sweep. Source: Xen arch/x86/mm/p2m-pod.c (p2m_pod_demand_populate, pod_eager_reclaim,
// pod_eager_record, p2m_pod_emergency_sweep); P2M_ALLOC in asm/p2m.h.

import type { DomId, Gfn, Mfn } from '#abi/address.ts';
import { podPart, type Choice } from '#abi/choices.ts';
import { superpageOrder } from '#abi/geometry.ts';
import { pow2 } from '#lib/bits.ts';
import { absorb, at, ask, cutAt, Demanded, failure, noting, refuse, type Cut, type Wished } from '../cut.ts';
import { crash } from '../frames.ts';
import { setP2m, type Debt } from '../p2m.ts';
import { demandIn, isOnDemand, isShort, withPod } from '../pod.ts';
import { isRamType, type Domain, type Populated, type State } from '../state.ts';
import { hasLarge, largeSize, takeFromCache } from './pod-frames.ts';
import { reclaimLarge, reclaimOn, reclaimSingles, type Reclaim } from './pod-reclaim.ts';

/** How far populating a gfn is. */
export interface Demand {
  readonly wished: Wished;
  readonly phase: 'begin' | 'recent' | 'sweep' | 'take';
  /** What is being looked at, perhaps a large piece as one; if that is of no use, `pieces` are its gfns. */
  readonly reclaim: Reclaim | undefined;
  readonly isWhole: boolean;
  readonly pieces: readonly Gfn[];
  /** Places of the ring that have been looked at; whether the last of them is still written there, or the sweep has just looked. */
  readonly tried: number;
  readonly isOpen: boolean;
  /** The sweep: where it is, how far it goes in any case, and what will be looked at together. */
  readonly sweepAt: number;
  readonly limit: number;
  readonly list: readonly Gfn[];
}

const FRESH: Omit<Demand, 'wished'> = {
  phase: 'begin',
  reclaim: undefined,
  isWhole: false,
  pieces: [],
  tried: 0,
  isOpen: false,
  sweepAt: 0,
  limit: 0,
  list: [],
};

/** A gfn is to be populated. */
export const beginDemand = (wished: Wished): Demand => ({ ...FRESH, wished });

/** What a micro-step has asked for in vain. */
interface User {
  readonly trail: { readonly refused: readonly Wished[] };
}

/** Leaves the micro-step if `gfn` of `domain` is on demand, unless it has been refused to that very micro-step. */
export function wish(cut: Cut, work: User, wished: Omit<Wished, 'isTable'> & { readonly isTable?: boolean }): void {
  const { domain: id, gfn, isTable = false } = wished;
  const domain = cut.state.domains.get(id);
  if (domain === undefined || !isOnDemand(domain, gfn)) return;
  if (work.trail.refused.some((one) => one.domain === id && one.gfn === gfn)) return;
  throw new Demanded(cut, { domain: id, gfn, isTable });
}

/** Where it goes on, or how it ended. */
interface Step {
  readonly cut: Cut;
  readonly demand: Demand | 'populated' | 'refused';
}

/** One micro-step. */
export function demandOn(cut: Cut, debts: readonly Debt[], demand: Demand): Step {
  const { domain: id, gfn } = demand.wished;
  const domain = cut.state.domains.get(id);
  if (domain === undefined) return { cut, demand: 'populated' };
  if (demand.reclaim !== undefined) return goOn(cut, debts, { demand, reclaim: demand.reclaim });
  if (demand.phase === 'recent') return lookAtRecent(cut, domain, demand);
  if (demand.phase === 'sweep') return sweep(cut, domain, demand);
  if (demand.phase === 'take') return take(cut, domain, demand);
  if (!isOnDemand(domain, gfn)) return { cut, demand: 'populated' };
  if (domain.state !== 'running') return { cut, demand: 'refused' };
  return (
    splitGiant(cut, demand) ?? {
      cut,
      demand: isShort(domain) ? { ...demand, phase: 'recent' } : toSweep(demand, domain),
    }
  );
}

/** What is larger than the cache ever holds is split before anything else. undefined: it is not, or not yet. */
function splitGiant(cut: Cut, demand: Demand): Step | undefined {
  const now = absorb(cut);
  const { geometry } = now.state;
  const { domain, gfn } = demand.wished;
  const choice = now.log[now.cursor]?.choice;
  if (choice?.kind === 'podSplit' && choice.order > superpageOrder(geometry)) {
    checkSplit(now.state, choice, demand);
    return { cut: cutAt(now, now.state, now.cursor + 1), demand: beginDemand(demand.wished) };
  }
  for (let level = 3; level <= geometry.superpageLevels; level += 1) {
    const first = gfn - (gfn % pow2((level - 1) * geometry.bitsPerLevel));
    const failed = failure(now, { class: 'pool', domain, done: podPart(first, 'giant') });
    if (failed !== undefined) return { cut: failed, demand: 'refused' };
  }
  return undefined;
}

/** A split is of gfns that are on demand, all of them, around the one that is asked for. */
function checkSplit(state: State, choice: Extract<Choice, { kind: 'podSplit' }>, { wished }: Demand): void {
  const domain = state.domains.get(wished.domain);
  const run = { from: choice.gfn, to: choice.gfn + pow2(choice.order) };
  const isFit = choice.domain === wished.domain && run.from <= wished.gfn && wished.gfn < run.to;
  if (!isFit || domain === undefined || demandIn(domain, run) < pow2(choice.order))
    refuse(`gfn ${choice.gfn} is split, and is no large entry on demand`, 'refines');
}

/** A look goes on; a large piece that was of no use as one is looked at page by page. */
function goOn(
  cut: Cut,
  debts: readonly Debt[],
  { demand, reclaim }: { readonly demand: Demand; readonly reclaim: Reclaim },
): Step {
  const next = reclaimOn(cut, debts, reclaim);
  if (!next.isOver) return { cut: next.cut, demand: { ...demand, reclaim: next.reclaim } };
  const pieces = demand.isWhole && next.reclaim.hasGained ? [] : demand.pieces;
  return { cut: next.cut, demand: { ...demand, reclaim: undefined, isWhole: false, pieces } };
}

const toSweep = (demand: Demand, { pod }: Domain): Demand =>
  pod.cache.size > 0 ? { ...demand, phase: 'take' } : { ...demand, phase: 'sweep', sweepAt: -1 };

/** The place of the ring that was looked at first, then those after it while the cache is empty. */
function lookAtRecent(cut: Cut, domain: Domain, demand: Demand): Step {
  const { pod, id } = domain;
  const { state } = cut;
  const [piece, ...pieces] = demand.pieces;
  if (piece !== undefined) return { cut, demand: { ...demand, pieces, reclaim: reclaimSingles(state, id, [piece]) } };
  const length = pod.recent.length;
  const placeOf = (tried: number): number => (pod.recentAt + tried) % length;
  if (demand.isOpen) {
    const recent = pod.recent.with(placeOf(demand.tried - 1), undefined);
    return { cut: at(cut, withPod(state, id, { recent })), demand: { ...demand, isOpen: false } };
  }
  const isOver = demand.tried === length || (demand.tried > 0 && pod.cache.size > 0);
  if (isOver) return { cut, demand: toSweep(demand, domain) };
  const one = pod.recent[placeOf(demand.tried)];
  const next = { ...demand, tried: demand.tried + 1 };
  return { cut, demand: one === undefined ? next : { ...next, isOpen: true, ...lookAt(state, id, one) } };
}

/** A large place is looked at as one first. */
function lookAt(state: State, id: DomId, { gfn, isLarge }: Populated): Pick<Demand, 'reclaim' | 'isWhole' | 'pieces'> {
  if (!isLarge) return { reclaim: reclaimSingles(state, id, [gfn]), isWhole: false, pieces: [] };
  const pieces = Array.from({ length: largeSize(state) }, (_, i) => (gfn + i) as Gfn);
  return { reclaim: reclaimLarge(state, id, gfn), isWhole: true, pieces };
}

/** The highest gfn not above `gfn`, and not 0, that is RAM. */
function ramBelow({ p2m }: Domain, gfn: number): Gfn | undefined {
  return p2m.keys().findLast((one) => {
    const entry = p2m.get(one);
    return one > 0 && one <= gfn && entry !== undefined && isRamType(entry.type);
  }) as Gfn | undefined;
}

/**
 * All RAM, gfns descending, from where the last sweep ended: as far as the limit in any case, then until there is something
 * in the cache. As if every gfn were looked at in turn: it ends at the first one below the limit when there is.
 */
function sweep(cut: Cut, domain: Domain, demand: Demand): Step {
  const { pod, id } = domain;
  const { podStride, podSweep } = cut.state.geometry.capacity;
  if (demand.sweepAt < 0) {
    const from = pod.sweepAt === 0 ? pod.highest : pod.sweepAt;
    return { cut, demand: { ...demand, sweepAt: from, limit: Math.max(0, from - podSweep), list: [] } };
  }
  if (demand.list.length === podStride)
    return { cut, demand: { ...demand, list: [], reclaim: reclaimSingles(cut.state, id, demand.list) } };
  const { sweepAt: last, limit } = demand;
  const hasFound = pod.cache.size > 0;
  if (demand.isOpen)
    return hasFound && last < limit
      ? endSweep(cut, domain, { demand, at: last })
      : { cut, demand: { ...demand, isOpen: false, sweepAt: last - 1 } };
  const end = Math.min(last, limit - 1);
  const canEnd = hasFound && end > 0;
  const ram = ramBelow(domain, last);
  if (ram === undefined || (canEnd && ram < end)) return endSweep(cut, domain, { demand, at: canEnd ? end : 0 });
  return { cut, demand: { ...demand, list: [...demand.list, ram], sweepAt: ram, isOpen: true } };
}

/** What is left of the list is looked at, and the next sweep begins below. */
function endSweep(
  cut: Cut,
  { id }: Domain,
  { demand, at: gfn }: { readonly demand: Demand; readonly at: number },
): Step {
  const reclaim = demand.list.length > 0 ? reclaimSingles(cut.state, id, demand.list) : undefined;
  const state = withPod(cut.state, id, { sweepAt: Math.max(0, gfn - 1) });
  return { cut: at(cut, state), demand: { ...demand, phase: 'take', reclaim, list: [], isOpen: false } };
}

/** Memory from the cache comes to the gfn; or a large entry is split, for which the pool may have no table. */
function take(cut: Cut, domain: Domain, demand: Demand): Step {
  const { id, pod } = domain;
  const { gfn } = demand.wished;
  if (pod.cache.size === 0) {
    const { cut: after } = ask(cut, ['podExhausted']);
    return { cut: at(after, crash(after.state, id)), demand: 'refused' };
  }
  const noted = at(cut, withPod(cut.state, id, { highest: Math.max(gfn, pod.highest) }));
  const first = gfn - (gfn % largeSize(cut.state));
  const failed = hasLarge(domain) ? undefined : failure(noted, { class: 'pool', domain: id, done: podPart(first) });
  if (failed !== undefined) return { cut: failed, demand: 'refused' };
  const ready = absorb(noted);
  const { cut: after, choice } = ask(ready, ['podSplit', 'podTaken']);
  if (choice.kind === 'podTaken') return populate(takeFromCache(ready, id, undefined), demand);
  checkSplit(after.state, choice, demand);
  if (hasLarge(domain)) refuse(`gfn ${gfn} is split although the cache has a large run`, 'refines');
  return { cut: after, demand: beginDemand(demand.wished) };
}

function populate(
  { cut, taken }: { readonly cut: Cut; readonly taken: { readonly mfn: Mfn; readonly order: number } },
  { wished }: Demand,
): Step {
  const { domain: id } = wished;
  const count = pow2(taken.order);
  const gfn = (wished.gfn - (wished.gfn % count)) as Gfn;
  const domain = cut.state.domains.get(id);
  if (domain === undefined || demandIn(domain, { from: gfn, to: gfn + count }) < count)
    return refuse(`gfn ${gfn} is populated with order ${taken.order}, and is not all on demand`, 'refines');
  let { state } = cut;
  for (let i = 0; i < count; i += 1) {
    const place = { domain: id, gfn: (gfn + i) as Gfn };
    state = setP2m(state, place, { mfn: (taken.mfn + i) as Mfn, type: 'ramRw' });
  }
  const { recent, recentAt } = domain.pod;
  const noted = recent.with(recentAt, { gfn, isLarge: taken.order > 0 });
  state = withPod(state, id, { recent: noted, recentAt: (recentAt + 1) % recent.length });
  // All of it is as good as written, for whoever logs that.
  const gfns = Array.from({ length: count }, (_, i) => (gfn + i) as Gfn);
  const marked = gfns.reduce((now, one) => noting(now, { domain: id, gfn: one }), at(cut, state));
  return { cut: marked, demand: beginDemand(wished) };
}
