// Frames that are put at gfns: one, a range of a guest's own, which mostly meets itself, or several in a batch.
// A first reader may skip it.

import type { DomId } from '#abi/address.ts';
import type { MemoryOp } from '#abi/memory.ts';
import type { Extents } from '#abi/operand.ts';
import { isRamType, type Domain } from '#model/state.ts';
import { deskOf, domainsOf, gfnsOf, listLength, ramOf, usableOf } from '../harness/census.ts';
import type { Gen, Symbolic } from '../harness/decisions.ts';

/** How often. */
export const weights = { 'memory.addToPhysmap': 11, 'memory.addRange': 2, 'memory.addBatch': 3 } as const;

const isRunning = (domain: Domain): boolean => domain.state === 'running';

/** A domain that `likes`; falls back on any, and on id 1. */
const target = (g: Gen, likes: (domain: Domain) => boolean): DomId =>
  g.prefer(domainsOf(g.state).filter(isRunning), likes)?.id ?? (1 as DomId);

type Add = Extract<MemoryOp<'symbolic'>, { kind: 'memory.addToPhysmap' }>;

function addToPhysmap(g: Gen): Add {
  const foreigners = domainsOf(g.state).filter(({ id }) => id !== 0 && ramOf(g.state, id).length > 0);
  const hasGrants = (domain: Domain): boolean => domain.grants.limit > 0;
  const space = g.prng.pick(['gmfn', 'gmfn', 'grantTable', 'grantTable', 'sharedInfo', 'gmfnForeign'] as const);
  const asked = g.share(2) ? 'devMmio' : space;
  const isForeign = space === 'gmfnForeign' && foreigners.length > 0;
  const id = isForeign ? (0 as DomId) : target(g, space === 'grantTable' ? hasGrants : () => true);
  g.asManager(id);
  const foreign = isForeign ? g.prng.pick(foreigners).id : g.prng.pick([id, 0 as DomId, 1 as DomId]);
  const domain = g.state.domains.get(id);
  const index = (): number => {
    if (space === 'sharedInfo') return 0;
    if (space === 'grantTable') return g.below(Math.max(1, Math.min(domain?.grants.limit ?? 1, 2)));
    return g.oneOf(usableOf(g.state, isForeign ? foreign : id));
  };
  const at = g.share(70)
    ? g.unmapped(id)
    : g.oneOf(
        gfnsOf(g.state, id, ({ type }) => isRamType(type)),
        id,
      );
  return {
    kind: 'memory.addToPhysmap',
    target: g.domain(id),
    space: asked,
    foreign: g.domain(foreign),
    index: g.gfn(index()),
    gfn: g.gfn(at),
  };
}

/** A range of RAM, moved to where nothing is, or a little up or down, so that it meets itself. */
function addRange(g: Gen): Symbolic<'memory.addRange'> {
  const id = target(g, (domain) => ramOf(g.state, domain.id).length > 3);
  g.asManager(id);
  const index = g.oneOf(ramOf(g.state, id), id);
  const count = g.share(10) ? 0 : 1 + g.prng.below(4);
  const shift = g.prng.pick([1, 1, 2, -1, -1, -2]);
  const gfn = g.share(55) ? Math.max(0, index + shift) : g.unmapped(id);
  return {
    kind: 'memory.addRange',
    target: g.domain(id),
    index: g.gfn(index),
    gfn: g.gfn(gfn),
    count: g.bends() ? count + 1 : count,
    start: g.start(count),
  };
}

/** A list by value; or that at the caller's desk, if enough of it is ready. */
function listOf(
  g: Gen,
  of: { caller: DomId; fits: (gfn: number) => boolean; gfns: readonly number[] },
): Extents<'symbolic'> {
  const { gfns } = of;
  const desk = deskOf(g.state, of.caller);
  const isReady = desk !== undefined && listLength(g.state, of.caller, of.fits) >= gfns.length && gfns.length > 0;
  if (isReady && g.share(60))
    return { by: 'buffer', buffer: { in: 'guest', gfn: g.address(desk), offset: 0 }, count: gfns.length };
  if (g.bends()) return { by: 'buffer', buffer: g.buffer(of.caller, gfns.length), count: gfns.length };
  return { by: 'value', gfns: gfns.map((gfn) => g.gfn(gfn)) };
}

/** Several frames of one kind at as many gfns. */
function addBatch(g: Gen): Symbolic<'memory.addBatch'> {
  const one = addToPhysmap(g);
  const caller = g.agent.kind === 'vcpu' ? g.agent.domain : (0 as DomId);
  const id = domainsOf(g.state).some((domain) => domain.id === one.target) ? one.target : caller;
  const from = one.space === 'gmfnForeign' ? one.foreign : id;
  const count = Math.min(g.batch(2), 12);
  const isFrame = one.space === 'gmfn' || one.space === 'gmfnForeign';
  const taken = new Set<number>();
  const indices = g.list(count, () => (isFrame ? g.oneOf(usableOf(g.state, from)) : g.below(2)));
  const gfns = g.list(count, () => {
    const gfn = g.share(75) ? g.unmapped(id, 0, taken) : g.oneOf(ramOf(g.state, id), id);
    taken.add(gfn);
    return gfn;
  });
  const isOwn = (gfn: number): boolean => usableOf(g.state, from).includes(gfn);
  return {
    kind: 'memory.addBatch',
    target: one.target,
    space: g.bends() ? 'gmfnRange' : one.space,
    foreign: one.foreign,
    indices: listOf(g, { caller, fits: isOwn, gfns: indices }),
    gfns: listOf(g, { caller, fits: (gfn) => gfn > 0, gfns }),
    results: g.share(50) ? { in: 'null' } : g.buffer(caller, count),
    start: g.start(count),
  };
}

/** The generators of these operations. */
export const generators = {
  'memory.addToPhysmap': addToPhysmap,
  'memory.addRange': addRange,
  'memory.addBatch': addBatch,
};
