// What a memory operation touches: its target, the gfns it names (of a list in memory only its length), and its size.
// A first reader may skip this file: it only tells kinds of situations apart.

import type { DomId, Gfn, Mfn } from '#abi/address.ts';
import type { Agent } from '#abi/agents.ts';
import { isDeviceFrame } from '#abi/geometry.ts';
import { UNRESTRICTED } from '#abi/hap.ts';
import { batchSpaces, memAccesses, memorySpaces, memTypes, type MemoryOp } from '#abi/memory.ts';
import type { Extents } from '#abi/operand.ts';
import { claimedFrames } from '../claims.ts';
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

/** What a frame named by number is to a domain: no device's 0, one that it may not have 1, one that it may 2. */
const deviceClass = (state: State, id: DomId, mfn: Mfn): number =>
  !isDeviceFrame(state.geometry, mfn) ? 0 : state.domains.get(id)?.iomem.has(mfn) === true ? 2 : 1;

/** How the log of a domain's writes stands: off or on, with something in it, with pages that could not be had, with a call unfinished. */
function logClass(state: State, id: DomId): number {
  const log = state.domains.get(id)?.log;
  if (log === undefined) return 0;
  const { on, dirty, failed, unfinished } = log;
  return (on ? 1 : 0) + (dirty.size > 0 ? 2 : 0) + (failed > 0 ? 4 : 0) + (unfinished === undefined ? 0 : 8);
}

/** Who watches a domain: whether somebody listens, or has to, and whether new entries are restricted. */
function watchClass(state: State, id: DomId): number {
  const watch = state.domains.get(id)?.watch;
  if (watch === undefined) return 0;
  return 1 + (watch.listens ? 1 : 0) + (watch.required ? 2 : 0) + (watch.leaves === UNRESTRICTED ? 0 : 4);
}

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
  'memory.addRange': (state, id, { index, gfn, count, start }) => [
    ...gfnClass(state, id, index),
    ...gfnClass(state, id, gfn),
    compared(count, start) * 3 + compared(Math.abs(gfn - index), count),
  ],
  'memory.addBatch': (state, id, { foreign, space, indices, gfns, results, start }) => [
    domainClass(state, foreign),
    batchSpaces.indexOf(space) * 4 + Math.min(start, 1) * 2 + (results.in === 'null' ? 0 : 1),
    ...extentClasses(state, id, indices),
    ...extentClasses(state, id, gfns),
  ],
  'memory.removeFromPhysmap': (state, id, { gfn }) => gfnClass(state, id, gfn),
  'memory.exchange': (state, id, { given, taken, givenOrder, takenOrder, start, before }) => [
    (compared(givenOrder, takenOrder) * 2 + Math.min(start, 1)) * 2 + Math.min(before, 1),
    ...extentClasses(state, id, given),
    taken.by === 'value' ? 0 : 1,
  ],
  'memory.increase': (state, _id, { count, order }) => [
    countClass(count, state.geometry.capacity.batch) * 4 + Math.min(order, 3),
  ],
  'memory.setMaxPages': (state, id, { maxPages }) => [compared(maxPages, state.domains.get(id)?.totalPages ?? 0)],
  'memory.setPool': (state, id, { frames }) => {
    const pool = state.domains.get(id)?.pool;
    return [compared(frames, pool?.used ?? 0) * 3 + compared(frames, pool?.frames.size ?? 0)];
  },
  'memory.enableLogDirty': (state, id) => [logClass(state, id)],
  'memory.disableLogDirty': (state, id, { resuming }) => [logClass(state, id), resuming === 'anew' ? 0 : 1],
  'memory.logDirty': (state, id, { resuming, action, bitmap, pages }) => [
    logClass(state, id) * 4 + (resuming === 'anew' ? 0 : 2) + (action === 'cleans' ? 1 : 0),
    (bitmap.in === 'null' ? 1 : 0) + Math.min(Math.floor(pages / 16), 2) * 2,
  ],
  'memory.modifiedMemory': (state, id, { gfn, count }) => [
    logClass(state, id) * 3 + Math.min(count, 2),
    ...gfnClass(state, id, gfn),
  ],
  'memory.setMemType': (state, id, { gfn, count, start, type }) => [
    memTypes.indexOf(type) * 3 + Math.min(count - start, 2),
    ...gfnClass(state, id, (gfn + start) as Gfn),
  ],
  'memory.setMemAccess': (state, id, { scope, gfn, count, start, access }) => [
    watchClass(state, id) * 2 + (scope === 'default' ? 1 : 0),
    memAccesses.indexOf(access) * 3 + Math.min(Math.max(count - start, 0), 2),
    ...gfnClass(state, id, (gfn + start) as Gfn),
  ],
  'memory.memAccess': (state, id, { scope, gfn }) => [
    watchClass(state, id) * 2 + (scope === 'default' ? 1 : 0),
    ...gfnClass(state, id, gfn),
  ],
  'memory.monitor': (state, id, { action }) => [watchClass(state, id) * 2 + (action === 'listens' ? 1 : 0)],
  'memory.setAccessRequired': (state, id, { required }) => [watchClass(state, id) * 2 + (required === 'yes' ? 1 : 0)],
  'memory.iomemPermission': (state, id, { frame, count, allow }) => [
    deviceClass(state, id, frame) * 3 + Math.min(count, 2),
    allow === 'yes' ? 1 : 0,
  ],
  'memory.mapMmio': (state, id, { gfn, frame, count, start, action }) => [
    deviceClass(state, id, frame) * 3 + Math.min(count - start, 2),
    action === 'maps' ? 1 : 0,
    ...gfnClass(state, id, (gfn + start) as Gfn),
  ],
  'memory.setPodTarget': (state, id, { pages }) => [
    compared(pages, state.domains.get(id)?.totalPages ?? 0),
    ...podClasses(state, id),
  ],
  'memory.podTarget': podClasses,
  'memory.claimPages': (state, id, { pages }) => {
    const { claim, totalPages } = state.domains.get(id) ?? { claim: 0, totalPages: 0 };
    const isOthers = claimedFrames(state) > claim;
    return [compared(pages, totalPages) * 4 + (claim > 0 ? 2 : 0) + (isOthers ? 1 : 0), Math.min(pages, 1)];
  },
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
