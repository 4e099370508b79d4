// Lists that paravirtual guests keep in their memory for calls: the page that they write them to, what stands there, and exchanges of
// frames by them. What a guest is told where it has got frames is the next list of frames to give back.
// A first reader may begin at `exchangeDirect`.

import type { DomId, Mfn } from '#abi/address.ts';
import { framesPerLeaf, tableEntries, type Geometry } from '#abi/geometry.ts';
import type { Extents, Literal } from '#abi/operand.ts';
import { hasAll } from '#lib/bits.ts';
import { linearContext, PAGES } from '#model/paging/context.ts';
import { RIGHT_BITS } from '#model/paging/rights.ts';
import { frameOf, type State } from '#model/state.ts';
import { wordAt } from '#model/words.ts';
import type { Agent } from '#abi/agents.ts';
import type { Gen, Symbolic } from '../harness/decisions.ts';
import { linearOf, treeOf } from '../paging/tables.ts';
import { askers, idle } from './entries.ts';
import { framesOf, numberNamed } from './names.ts';

/** Where a guest keeps its list: a linear frame as its tables count it, and the frame that is there. */
export interface Desk {
  readonly page: number;
  readonly mfn: Mfn;
}

/** The lowest page that a paravirtual vCPU can write; undefined: it has none, or is none. */
export function directDesk(state: State, agent: Agent): Desk | undefined {
  if (agent.kind !== 'vcpu' || state.domains.get(agent.domain)?.kind !== 'pv') return undefined;
  const own = ({ gfn }: { readonly gfn: number }): boolean => {
    const { owner, role } = frameOf(state, gfn as Mfn);
    return owner === agent.domain && role === 'ram';
  };
  const pages = treeOf(state, agent).pages.filter(({ guest }) => hasAll(guest, RIGHT_BITS.write));
  const page = pages.filter(own).toSorted((a, b) => a.page - b.page)[0];
  return page && { page: page.page, mfn: page.gfn as number as Mfn };
}

/** How many words from the `from`th of a frame on are numbers that `fits` likes. */
export function readyAt(state: State, mfn: Mfn, fits: (number: number) => boolean, from = 0): number {
  let count = 0;
  for (let at = from; at < Math.min(6, state.geometry.wordsPerFrame); at += 1, count += 1) {
    const { lo, hi } = wordAt(state, mfn, at);
    if (hi !== 0 || !fits(lo)) break;
  }
  return count;
}

/** Linear frames next to a border of the address space: its ends, those of the hole in it, and of what is the hypervisor's. */
export function borders(geometry: Geometry): readonly number[] {
  const { levels, rootSlots } = geometry;
  const slot = framesPerLeaf(geometry, levels);
  const half = (tableEntries(geometry) / 2) * slot;
  const above = PAGES - (tableEntries(geometry) - rootSlots.from - rootSlots.count) * slot;
  return [0, half - 1, half, PAGES - half, above - 1, above, PAGES - 1];
}

/** A frame that could be given back or exchanged: nobody refers to it. */
const isLoose = (state: State, mfn: Mfn): boolean => frameOf(state, mfn).refs === 1 && frameOf(state, mfn).allocated;

/** A number for a guest's list: of a frame to be given, or what one is to be called. */
export function listedNumber(g: Gen, id: DomId): Literal {
  const loose = framesOf(g.state, id).filter((mfn) => isLoose(g.state, mfn));
  if (loose.length === 0 || g.share(30)) return { as: 'gfn', gfn: g.gfn(g.prng.below(32)) };
  return { as: 'gfn', gfn: numberNamed(g.state, g.prng.pick(loose)) };
}

/** First frames of runs of a guest that could be exchanged. */
function runsOf(g: Gen, id: DomId, order: number): readonly Mfn[] {
  const loose = new Set<number>(framesOf(g.state, id).filter((mfn) => isLoose(g.state, mfn)));
  const isRun = (mfn: number): boolean => g.list(2 ** order, (i) => mfn + i).every((one) => loose.has(one));
  return [...loose].filter(isRun) as Mfn[];
}

type Exchange = Symbolic<'memory.exchange'>;

/** Runs that do not overlap, as many as there are up to `count`; then whatever else the guest has. */
function givenBy(g: Gen, id: DomId, of: { readonly order: number; readonly count: number }): Extents<'symbolic'> {
  const left = [...runsOf(g, id, of.order)];
  const others = g.bends() ? framesOf(g.state, id) : idle(g, id);
  const pick = (): Mfn => {
    const from = left.length > 0 ? left : others;
    const mfn = from.length > 0 ? g.prng.pick(from) : (0 as Mfn);
    for (let at = left.length - 1; at >= 0; at -= 1)
      if (Math.abs((left[at] as number) - mfn) < 2 ** of.order) left.splice(at, 1);
    return mfn;
  };
  return { by: 'value', gfns: g.list(of.count, () => numberNamed(g.state, pick())) };
}

/** An array of a paravirtual caller's at its desk, from a word on. */
const atDesk = (g: Gen, desk: Desk, of: { readonly from: number; readonly count: number }): Extents<'symbolic'> => ({
  by: 'buffer',
  buffer: { in: 'guest', gfn: g.gfn(linearOf(g.geometry, desk.page)), offset: 8 * of.from },
  count: of.count,
});

/** Orders of what is given and taken: mostly single frames. */
const orders: readonly (readonly [number, number])[] = [[0, 0], [0, 0], [0, 0], [1, 0], [0, 1], [1, 1], [2, 0], [0, 2], [2, 1]]; // prettier-ignore

/** A forged call whose numbers are near the end of 64 bits: its arrays begin before the addresses that it names. */
function forged(g: Gen, id: DomId): Exchange {
  const gfn = (): { readonly raw: number } => ({ raw: g.prng.pick(borders(g.geometry)) });
  const array = (): Extents<'symbolic'> => ({
    by: 'buffer',
    buffer: { in: 'guest', gfn: gfn(), offset: 8 * g.prng.below(3) },
    count: 1,
  });
  const plain = { kind: 'memory.exchange', target: g.domain(id), givenOrder: 0, takenOrder: 0 } as const;
  return { ...plain, given: array(), taken: array(), start: { raw: 0 }, before: 1 + g.prng.below(6) };
}

/** Lets a vCPU of a paravirtual guest act, or who may manage it. */
function asGuest(g: Gen, id: DomId): void {
  const canCall = g.callers().some(({ domain }) => domain === id);
  if (canCall && g.share(60)) g.asVcpu((domain) => domain === id);
  else g.asManager(id);
}

/** A paravirtual guest gets more memory, and is told where in its list. Undefined: there is none, or no room. */
export function populateDirect(g: Gen): Symbolic<'memory.populate'> | undefined {
  const ids = askers(g).filter((id) => {
    const domain = g.state.domains.get(id);
    return domain !== undefined && domain.totalPages < domain.maxPages;
  });
  if (ids.length === 0 || g.room() < 4) return undefined;
  const id = g.prng.pick(ids);
  asGuest(g, id);
  const count = Math.min(g.batch(2), 6);
  const desk = directDesk(g.state, g.agent);
  const from = g.prng.below(3);
  const atHand = desk !== undefined && g.share(75) ? atDesk(g, desk, { from, count }) : undefined;
  const extents = atHand ?? { by: 'value', gfns: g.list(count, () => g.gfn(g.prng.below(32))) };
  return { kind: 'memory.populate', target: g.domain(id), extents, order: g.share(80) ? 0 : 1, start: g.start(count) };
}

/** A paravirtual guest, or the toolstack for it, exchanges frames. Undefined: there is none. */
export function exchangeDirect(g: Gen): Exchange | undefined {
  const ids = askers(g);
  if (ids.length === 0) return undefined;
  const id = g.prng.pick(ids);
  asGuest(g, id);
  if (linearContext(g.state, g.agent) !== undefined && (g.share(8) || g.bends())) return forged(g, id);
  const [givenOrder, takenOrder] = g.prng.pick(orders);
  const larger = Math.max(givenOrder, takenOrder);
  const room = Math.floor(g.geometry.capacity.batch / 2 ** (larger - Math.min(givenOrder, takenOrder)));
  const chunks = Math.max(1, Math.min(room, 1 + g.prng.below(g.bends() ? 5 : 3)));
  const count = chunks * 2 ** (larger - givenOrder);
  const takenCount = chunks * 2 ** (larger - takenOrder) + (g.bends() ? 1 : 0);
  const desk = directDesk(g.state, g.agent);
  const isOwn = (number: number): boolean => frameOf(g.state, number as Mfn).owner === id;
  const isReady = desk !== undefined && readyAt(g.state, desk.mfn, isOwn) >= count && g.share(70);
  const names = (): Extents<'symbolic'> => ({ by: 'value', gfns: g.list(takenCount, () => g.gfn(g.prng.below(32))) });
  const from = g.share(60) ? 0 : g.prng.below(3);
  return {
    kind: 'memory.exchange',
    target: g.domain(id),
    given: isReady ? atDesk(g, desk, { from: 0, count }) : givenBy(g, id, { order: givenOrder, count }),
    givenOrder,
    taken: desk !== undefined && g.share(70) ? atDesk(g, desk, { from, count: takenCount }) : names(),
    takenOrder,
    start: g.start(count),
    before: 0,
  };
}
