// Memory operations and the life of domains, made for the state at hand: extents that are free or mapped as the operation
// needs them, targets that want what it gives (poor ones are populated, paused ones unpaused, vacant ids created).
// A first reader may skip all but `Settings`.

import type { DomId, Gfn } from '#abi/address.ts';
import type { MemoryOp } from '#abi/memory.ts';
import { tableEntries } from '#abi/geometry.ts';
import type { Extents } from '#abi/operand.ts';
import type { Domain } from '#model/state.ts';
import { demandOf, deskOf, domainsOf, gfnsOf, listLength, mappedOf, ramOf } from '../harness/census.ts';
import { decreaseDirect } from '../pv/generators.ts';
import { directGuests } from '../pv/names.ts';
import { directDesk, exchangeDirect, populateDirect, readyAt } from '../pv/lists.ts';
import { canMark, canTarget, givenBack, markOnDemand, podTarget, setPodTarget } from './pod-generators.ts';
import type { Gen, Generators, Needs, Weights } from '../harness/decisions.ts';
import { linearOf } from '../paging/tables.ts';
import * as watching from './access-generators.ts';
import * as claiming from './claim-generators.ts';
import * as living from './life-generators.ts';
import * as logging from './log-generators.ts';
import * as placing from './physmap-generators.ts';
import * as mapping from './mapping-generators.ts';

/** How memory operations are drawn. Shares are per cent. */
export interface Settings {
  readonly weights: Weights<MemoryOp<'symbolic'>>;
  /** Ordinary batches have 1..usual elements. */
  readonly usual: number;
  /** Extents of a higher order than 0. */
  readonly large: number;
  /** Extents fetched from guest memory where a fitting list lies ready. */
  readonly fetched: number;
}

const weights: Settings['weights'] = {
  'memory.populate': 16,
  'memory.populateOnDemand': 6,
  'memory.setPodTarget': 14,
  'memory.podTarget': 1,
  'memory.increase': 3,
  'memory.decrease': 12,
  'memory.exchange': 9,
  ...placing.weights,
  'memory.removeFromPhysmap': 5,
  'memory.reservation': 1,
  'memory.createDomain': 8,
  'memory.pauseDomain': 2,
  'memory.unpauseDomain': 8,
  'memory.killDomain': 2,
  'memory.setMaxPages': 2,
  'memory.setPool': 6,
  'memory.scrub': 3,
  ...mapping.weights,
  ...logging.weights,
  ...watching.weights,
  ...claiming.weights,
};

/** A machine whose tools mean well. */
export const plausible = (): Settings => ({ weights, usual: 2, large: 55, fetched: 60 });

/** Guests and tools that push: long batches, lists that others can change, domains that come and go. */
export const hostile = (): Settings => ({
  weights: { ...weights, 'memory.exchange': 10, 'memory.killDomain': 5, 'memory.pauseDomain': 3, 'memory.setPool': 8 },
  usual: 4,
  large: 55,
  fetched: 60,
});

const isRunning = (domain: Domain): boolean => domain.state === 'running';

/** A domain that `likes`; falls back on any, and on id 1. */
const target = (g: Gen, likes: (domain: Domain) => boolean): DomId =>
  g.prefer(domainsOf(g.state).filter(isRunning), likes)?.id ?? (1 as DomId);

const spare = ({ maxPages, totalPages }: Domain): number => maxPages - totalPages;

/** An order for an extent of at most `frames` frames. */
function order(g: Gen, s: Settings, frames: number): number {
  const { orderMaxGuest } = g.geometry.capacity;
  if (g.bends()) return g.prng.pick([orderMaxGuest, orderMaxGuest + 1, g.geometry.capacity.orderMaxControl + 1, 1]);
  if (!g.share(s.large)) return 0;
  const wanted = g.prng.pick([1, g.geometry.bitsPerLevel, g.geometry.bitsPerLevel]);
  return 2 ** wanted <= frames && wanted <= orderMaxGuest ? wanted : 0;
}

/** The caller's list in memory if `fits` likes its words, else `make` by value. */
function extents(
  g: Gen,
  of: { caller: DomId; fetched: number; count: number; fits: (gfn: number) => boolean; make: () => number },
): Extents<'symbolic'> {
  const direct = directDesk(g.state, g.agent);
  if (direct !== undefined && g.share(of.fetched)) {
    const buffer = { in: 'guest', gfn: g.gfn(linearOf(g.geometry, direct.page)), offset: 0 } as const;
    const there = readyAt(g.state, direct.mfn, of.fits);
    if (there > 0) return { by: 'buffer', buffer, count: Math.min(of.count, there) };
  }
  const ready = listLength(g.state, of.caller, of.fits);
  const desk = deskOf(g.state, of.caller);
  if (desk !== undefined && ready > 0 && g.share(of.fetched))
    return { by: 'buffer', buffer: { in: 'guest', gfn: g.address(desk), offset: 0 }, count: Math.min(of.count, ready) };
  const isWalked = g.share(40) && g.alteredPage() !== undefined;
  if (isWalked || (g.bends() && g.share(30)))
    return { by: 'buffer', buffer: g.buffer(of.caller, of.count), count: of.count };
  return { by: 'value', gfns: g.list(of.count, () => g.gfn(of.make())) };
}

/** RAM of a domain that lies as single frames where a larger extent could lie: a table leads to it. */
function tornOf(g: Gen, { p2m, id }: Domain): readonly number[] {
  const size = tableEntries(g.geometry);
  const isTorn = (gfn: number): boolean => {
    const before = p2m.get((gfn - 1) as Gfn);
    return before !== undefined && p2m.get(gfn as Gfn)?.mfn !== before.mfn + 1;
  };
  return ramOf(g.state, id).filter((gfn) => gfn % size !== 0 && isTorn(gfn));
}

/** Such RAM by whose table a processor has walked since it changed last. */
const ripeOf = (g: Gen, domain: Domain): readonly number[] => g.walkedOf(domain.id, tornOf(g, domain));

/** RAM to be covered by an extent, rather where it replaces a table, and one by which processors have walked. */
function covered(g: Gen, id: DomId): number {
  const domain = g.state.domains.get(id);
  const ripe = domain === undefined ? [] : ripeOf(g, domain);
  if (ripe.length > 0 && g.share(85)) return g.prng.pick(ripe);
  const torn = domain === undefined ? [] : tornOf(g, domain);
  return g.oneOf(torn.length > 0 && g.share(70) ? torn : ramOf(g.state, id), id);
}

function populate(g: Gen, s: Settings): Extract<MemoryOp<'symbolic'>, { kind: 'memory.populate' }> {
  const isRich = (domain: Domain): boolean => spare(domain) > 3 && domain.pool.frames.size > 4;
  const isRipe = (domain: Domain): boolean => isRich(domain) && ripeOf(g, domain).length > 0;
  const id = target(g, g.share(70) && domainsOf(g.state).some(isRipe) ? isRipe : isRich);
  const caller = g.asManager(id);
  const domain = g.state.domains.get(id);
  const frames = Math.min(domain === undefined ? 1 : spare(domain), Math.floor(g.room() / 2));
  const isLarge = domain !== undefined && frames >= tableEntries(g.geometry) && isRipe(domain) && g.share(60);
  const size = isLarge ? g.geometry.bitsPerLevel : order(g, s, frames);
  const most = Math.max(1, Math.floor(frames / 2 ** size));
  const count = Math.min(g.batch(s.usual), g.mood === 'near' ? 64 : most);
  const taken = new Set<number>();
  const make = (): number => {
    const over = g.share(isLarge ? 90 : size > 0 ? 50 : 8) ? covered(g, id) : g.unmapped(id, size, taken);
    const gfn = over - (over % 2 ** size);
    taken.add(gfn);
    return gfn;
  };
  const fits = (gfn: number): boolean => size === 0 && gfn > 0 && domain?.p2m.has(gfn) === false;
  return {
    kind: 'memory.populate',
    target: g.domain(id),
    extents: extents(g, { caller, fetched: s.fetched, count, fits, make }),
    order: size,
    start: g.start(count),
  };
}

/** Own RAM that can be given away: not the last frames of a domain. */
const dispensable = (g: Gen, id: DomId): readonly number[] => ramOf(g.state, id).slice(1);

type Decrease = Extract<MemoryOp<'symbolic'>, { kind: 'memory.decrease' }>;

/** A guest gives back what is on demand, some of it. */
function decreaseOnDemand(g: Gen, id: DomId): Decrease | undefined {
  const range = givenBack(g, id);
  if (range === undefined) return undefined;
  const more = g.list(g.batch(1) - 1, () => givenBack(g, id)?.gfn ?? range.gfn);
  const gfns = [range.gfn, ...more].map((gfn) => g.gfn(gfn));
  const start = g.start(gfns.length);
  return { kind: 'memory.decrease', target: g.domain(id), extents: { by: 'value', gfns }, order: range.order, start };
}

function decrease(g: Gen, s: Settings): Decrease {
  const id = target(g, (domain) => ramOf(g.state, domain.id).length > 4 || demandOf(g.state, domain.id).length > 0);
  const caller = g.asManager(id);
  const onDemand = g.share(40) ? decreaseOnDemand(g, id) : undefined;
  if (onDemand !== undefined) return onDemand;
  const ram = dispensable(g, id);
  const size = g.share(s.large) ? order(g, { ...s, large: 100 }, ram.length) : 0;
  const isWhole = (gfn: number): boolean =>
    gfn % 2 ** size === 0 && g.list(2 ** size, (i) => gfn + i).every((at) => ram.includes(at));
  const whole = size === 0 ? ram : ram.filter((gfn) => gfn % 2 ** size === 0).filter(isWhole);
  const fit = whole.length > 0 ? size : 0;
  const left = [...(whole.length > 0 ? whole : ram)];
  const make = (): number => {
    const gfn = g.oneOf(left, id);
    if (left.length > 1) left.splice(left.indexOf(gfn), left.includes(gfn) ? 1 : 0);
    return gfn;
  };
  const count = Math.min(g.batch(s.usual), g.mood === 'near' ? 64 : Math.max(1, left.length - 1));
  const fits = (gfn: number): boolean => fit === 0 && ram.includes(gfn);
  return {
    kind: 'memory.decrease',
    target: g.domain(id),
    extents: extents(g, { caller, fetched: s.fetched, count, fits, make }),
    order: fit,
    start: g.start(count),
  };
}

function exchange(g: Gen): Extract<MemoryOp<'symbolic'>, { kind: 'memory.exchange' }> {
  const id = target(g, () => true);
  const caller = g.asManager(id);
  const count = g.share(30) ? 0 : g.batch(2);
  const make = (): number => g.oneOf(mappedOf(g.state, id));
  const order = g.below(2);
  return {
    kind: 'memory.exchange',
    target: g.domain(id),
    given: extents(g, { caller, fetched: 30, count, fits: () => true, make }),
    givenOrder: order,
    taken: { by: 'value', gfns: g.list(count, () => g.gfn(make())) },
    takenOrder: g.bends() ? order + 1 : order,
    start: g.start(count),
    before: 0,
  };
}

/** The generators of memory operations. */
export const generators = (s: Settings): Generators<MemoryOp<'symbolic'>> => ({
  'memory.populate': (g) => (g.share(12) ? populateDirect(g) : undefined) ?? populate(g, s),
  'memory.populateOnDemand': (g) => markOnDemand(g, s.usual),
  'memory.setPodTarget': setPodTarget,
  'memory.podTarget': podTarget,
  'memory.increase': (g) => {
    const id = target(g, (domain) => spare(domain) > 2);
    g.asManager(id);
    const count = Math.min(64, 1 + g.batch(s.usual));
    return { kind: 'memory.increase', target: g.domain(id), count, order: order(g, s, 2), start: g.start(count) };
  },
  'memory.decrease': (g) => (g.share(15) ? decreaseDirect(g) : undefined) ?? decrease(g, s),
  'memory.exchange': (g) => (g.share(85) ? exchangeDirect(g) : undefined) ?? exchange(g),
  ...placing.generators,
  'memory.removeFromPhysmap': (g) => {
    const isRemovable = ({ type }: { type: string }): boolean => type === 'foreign' || type.startsWith('ram');
    const id = target(g, (domain) => gfnsOf(g.state, domain.id, ({ type }) => type === 'foreign').length > 0);
    g.asManager(id);
    const gfn = g.gfn(g.oneOf(gfnsOf(g.state, id, isRemovable), id));
    return { kind: 'memory.removeFromPhysmap', target: g.domain(id), gfn };
  },
  'memory.reservation': (g) => {
    const id = target(g, () => true);
    g.asManager(id);
    return { kind: 'memory.reservation', target: g.domain(id) };
  },
  ...living.generators,
  'memory.setMaxPages': (g) => {
    g.asToolstack();
    const id = target(g, () => true);
    const total = g.state.domains.get(id)?.totalPages ?? 0;
    return {
      kind: 'memory.setMaxPages',
      target: g.domain(id),
      maxPages: total + g.prng.pick([0, 1, 4, 8, 16, 64]),
    };
  },
  'memory.setPool': (g) => {
    g.asToolstack();
    const { poolFrames } = g.geometry.capacity;
    const id = target(g, ({ pool }) => pool.frames.size - pool.used < 3);
    const used = g.state.domains.get(id)?.pool.used ?? 0;
    const frames = g.bends() ? poolFrames + 1 : Math.min(poolFrames, used + g.prng.pick([0, 1, 3, 5, 8]));
    return { kind: 'memory.setPool', target: g.domain(id), frames };
  },
  ...mapping.generators,
  ...logging.generators,
  ...watching.generators,
  ...claiming.generators,
  'memory.scrub': (g) => {
    g.agent = { kind: 'background' };
    return { kind: 'memory.scrub', frames: g.prng.pick([1, 2, 4, 64]) };
  },
});

const someDomain = (likes: (domain: Domain) => boolean) => (g: Gen) => domainsOf(g.state).some(likes);

/** When a legal operation of a kind is possible. */
export const needs: Needs<MemoryOp<'symbolic'>> = {
  ...living.needs,
  ...mapping.needs,
  ...logging.needs,
  ...watching.needs,
  ...claiming.needs,
  'memory.populate': (g) => g.room() > 1 && someDomain((domain) => isRunning(domain) && spare(domain) > 0)(g),
  'memory.populateOnDemand': canMark,
  'memory.setPodTarget': canTarget,
  'memory.increase': (g) => g.room() > 1 && someDomain((domain) => isRunning(domain) && spare(domain) > 0)(g),
  // Others are refused, whatever they say.
  'memory.exchange': (g) => g.share(6) || directGuests(g.state).length > 0,
  'memory.decrease': (g) => domainsOf(g.state).some((domain) => ramOf(g.state, domain.id).length > 1),
  'memory.setPool': someDomain((domain) => isRunning(domain) && domain.pool.frames.size - domain.pool.used < 4),
};
