// What a memory operation touches: its target, the gfns it names (of a list in memory only its length), and its size.
// A first reader may skip this file: it only tells kinds of situations apart.

import type { DomId } from '#abi/address.ts';
import type { Agent } from '#abi/agents.ts';
import { memorySpaces, type MemoryOp } from '#abi/memory.ts';
import type { Extents } from '#abi/operand.ts';
import { countClass, domainClass, gfnClass, named, relation } from '../classes.ts';
import type { OpOf } from '../progress.ts';
import { entryCount } from '../pod.ts';
import type { State } from '../state.ts';

/** Lists longer than this are classed by their beginning. */
const LOOKED_AT = 3;

function extentClasses(state: State, domain: DomId, extents: Extents<'concrete'>): readonly number[] {
  if (extents.by === 'buffer') return [4 + countClass(extents.count, state.geometry.capacity.batch)];
  const { gfns } = extents;
  const first = gfns.slice(0, LOOKED_AT).flatMap((gfn) => gfnClass(state, domain, gfn));
  return [countClass(gfns.length, state.geometry.capacity.batch), ...first];
}

function sourceClasses(state: State, id: DomId, op: OpOf<'memory.addToPhysmap'>): readonly number[] {
  const call = [domainClass(state, op.foreign), memorySpaces.indexOf(op.space), ...gfnClass(state, id, op.gfn)];
  const from = op.space === 'gmfnForeign' ? op.foreign : id;
  const isFrame = op.space === 'gmfn' || op.space === 'gmfnForeign';
  return [...call, ...(isFrame ? gfnClass(state, from, op.index) : [Math.min(op.index, 3)])];
}

/** Whether a wanted number lies below, at or above what is: 0, 1 or 2. */
const compared = (wanted: number, is: number): number => Math.sign(wanted - is) + 1;

/** Memory on demand of a domain: how much is owed, and how much of that is there. */
function podClasses(state: State, id: DomId): readonly number[] {
  const domain = state.domains.get(id);
  if (domain === undefined) return [];
  const owed = entryCount(domain);
  return [Math.min(owed, 2) * 3 + compared(domain.pod.cache.size, owed)];
}

type Targeted = Exclude<MemoryOp<'concrete'>, { kind: 'memory.scrub' }>;

const listClasses = (
  state: State,
  id: DomId,
  op: OpOf<'memory.populate' | 'memory.populateOnDemand' | 'memory.decrease'>,
): readonly number[] => [
  ...podClasses(state, id),
  Math.min(op.order, 3) * 2 + Math.min(op.start, 1),
  ...extentClasses(state, id, op.extents),
];

const noClasses = (): readonly number[] => [];

/** What an operation touches beyond its target `id`. */
const argumentClasses: {
  readonly [K in Targeted['kind']]: (state: State, id: DomId, op: OpOf<K>) => readonly number[];
} = {
  'memory.populate': listClasses,
  'memory.populateOnDemand': listClasses,
  'memory.decrease': listClasses,
  'memory.addToPhysmap': sourceClasses,
  'memory.removeFromPhysmap': (state, id, { gfn }) => gfnClass(state, id, gfn),
  'memory.exchange': (state, id, { given, givenOrder, takenOrder, start }) => [
    compared(givenOrder, takenOrder) * 2 + Math.min(start, 1),
    ...extentClasses(state, id, given),
  ],
  'memory.increase': (state, _id, { count, order }) => [
    countClass(count, state.geometry.capacity.batch) * 4 + Math.min(order, 3),
  ],
  'memory.setMaxPages': (state, id, { maxPages }) => [compared(maxPages, state.domains.get(id)?.totalPages ?? 0)],
  'memory.setPool': (state, id, { frames }) => {
    const pool = state.domains.get(id)?.pool;
    return [compared(frames, pool?.used ?? 0) * 3 + compared(frames, pool?.frames.size ?? 0)];
  },
  'memory.setPodTarget': (state, id, { pages }) => [
    compared(pages, state.domains.get(id)?.totalPages ?? 0),
    ...podClasses(state, id),
  ],
  'memory.podTarget': podClasses,
  'memory.reservation': noClasses,
  'memory.createDomain': noClasses,
  'memory.killDomain': noClasses,
  'memory.pauseDomain': noClasses,
  'memory.unpauseDomain': noClasses,
};

export function features(state: State, agent: Agent, op: MemoryOp<'concrete'>): readonly number[] {
  if (op.kind === 'memory.scrub') return [Math.min(op.frames, 2)];
  const id = named(agent, op.target);
  const classes = argumentClasses[op.kind] as (state: State, id: DomId, op: Targeted) => readonly number[];
  return [domainClass(state, id), relation(agent, op.target), ...classes(state, id, op)];
}
