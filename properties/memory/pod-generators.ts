// Operations about memory on demand: ranges where nothing is, aligned or not, in all sizes; targets around what is owed; and in what
// guests give back, ranges with memory on demand among them. A first reader may skip this file.

import type { DomId } from '#abi/address.ts';
import type { MemoryOp } from '#abi/memory.ts';
import { gfnCount } from '#abi/geometry.ts';
import { entryCount } from '#model/pod.ts';
import type { Domain, State } from '#model/state.ts';
import { demandOf, domainsOf } from '../harness/census.ts';
import type { Gen } from '../harness/decisions.ts';

type Pod<K extends MemoryOp<'symbolic'>['kind']> = Extract<MemoryOp<'symbolic'>, { kind: K }>;

/** Guests whose memory can be on demand. */
const guests = (state: State): readonly Domain[] =>
  domainsOf(state).filter(({ id, state: life }) => id !== 0 && life === 'running');

/** So much is owed to a guest at most before others are preferred. */
const ENOUGH = 16;

/** Whether little is owed to a guest yet, and its pool has tables for more: it is stopped for what cannot be marked. */
const isModest = (domain: Domain): boolean =>
  entryCount(domain) < ENOUGH && domain.pool.frames.size - domain.pool.used > 2 && !domain.crashed;

/** Whether more is owed than set aside. */
const isPoor = (domain: Domain): boolean => entryCount(domain) > domain.pod.cache.size && !domain.crashed;

/** Whether some guest could have memory on demand. */
export const canMark = (g: Gen): boolean =>
  guests(g.state).some(isModest) || (g.share(10) && guests(g.state).length > 0);

/** Whether some guest is owed memory that is not there yet. */
export const canTarget = (g: Gen): boolean =>
  g.share(5) ||
  (g.room() > 2 && guests(g.state).some((domain) => isPoor(domain) && domain.totalPages < domain.maxPages));

const guest = (g: Gen, likes: (domain: Domain) => boolean): DomId =>
  g.prefer(guests(g.state), likes)?.id ?? (1 as DomId);

/** An order: small, that of a superpage, that of the next level, or anything up to the largest. */
function order(g: Gen): number {
  const { bitsPerLevel, superpageLevels, capacity } = g.geometry;
  if (g.bends()) return g.prng.pick([capacity.orderMaxControl, capacity.orderMaxControl + 1, 20]);
  if (superpageLevels > 2 && g.share(15)) return 2 * bitsPerLevel;
  return g.prng.pick([0, 0, 1, bitsPerLevel, bitsPerLevel, bitsPerLevel, bitsPerLevel + 1]);
}

/** Where a range may begin: at nothing, mostly aligned to its size, else where it happens to. */
function beginning(g: Gen, id: DomId, size: number): number {
  const at = g.unmapped(id, Math.min(size, g.geometry.bitsPerLevel));
  const span = 2 ** size;
  if (g.share(30)) return Math.max(0, Math.min(gfnCount(g.geometry) - span, at + g.prng.below(Math.min(span, 8))));
  return at - (at % span);
}

/** Marks ranges of a guest as on demand. */
export function markOnDemand(g: Gen, usual: number): Pod<'memory.populateOnDemand'> {
  const id = guest(g, isModest);
  g.asToolstack();
  if (g.bends()) g.asManager(id);
  const size = order(g);
  const count = g.batch(usual);
  const gfns = g.list(count, () => g.gfn(beginning(g, id, size)));
  const extents = g.share(15)
    ? ({ by: 'buffer', buffer: g.buffer(0 as DomId, count), count } as const)
    : ({ by: 'value', gfns } as const);
  return { kind: 'memory.populateOnDemand', target: g.domain(id), extents, order: size, start: g.start(count) };
}

/** Sets a target: what is owed, a part of it, more than that, or less than there is. */
export function setPodTarget(g: Gen): Pod<'memory.setPodTarget'> {
  g.asToolstack();
  const id = guest(g, isPoor);
  const domain = g.state.domains.get(id);
  const total = domain?.totalPages ?? 0;
  const owed = domain === undefined ? 0 : entryCount(domain) - domain.pod.cache.size;
  const most = domain?.maxPages ?? 0;
  const wanted = total + g.prng.pick([1, 3, 4, 7, Math.ceil(owed / 2), owed - 1, owed, owed, owed + 1, -1]);
  const pages = g.bends() ? most + 1 : Math.max(0, Math.min(most, wanted, total + Math.floor(g.room() / 2)));
  return { kind: 'memory.setPodTarget', target: g.domain(id), pages };
}

/** Asks for the numbers. */
export function podTarget(g: Gen): Pod<'memory.podTarget'> {
  g.asToolstack();
  return { kind: 'memory.podTarget', target: g.domain(g.share(10) ? (0 as DomId) : guest(g, isPoor)) };
}

/** A range that a guest gives back and in which something is on demand, or lies next to it: its first gfn, of an order. */
export function givenBack(g: Gen, id: DomId): { readonly gfn: number; readonly order: number } | undefined {
  const demand = demandOf(g.state, id);
  if (demand.length === 0) return undefined;
  const { bitsPerLevel, capacity } = g.geometry;
  const size = Math.min(capacity.orderMaxGuest, g.prng.pick([0, 1, 1, bitsPerLevel, bitsPerLevel]));
  const at = g.oneOf(demand, id);
  const aligned = at - (at % 2 ** size);
  return { gfn: g.share(60) ? aligned : Math.max(0, at - g.prng.below(2 ** Math.min(size, 3))), order: size };
}
