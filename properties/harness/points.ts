// What each kind of operation can pass on its way: points at which it can be paused, what it can be refused, and how often it looks
// for preemption. Static tables, not what a run has shown; that they are right the suite asks of the port (suite.test.ts).
// A first reader may skip them.

import type { FailureClass } from '#abi/failures.ts';
import type { Op, OpKind } from '#abi/operation.ts';
import type { ObjectKind, PointClass } from '#abi/points.ts';
import type { MmuextCommand } from '#abi/pv.ts';

/** A point by class and object. */
export type Point = readonly [PointClass, ObjectKind];

const heapTake: readonly Point[] = [
  ['allocate', 'heap'], ['lock', 'heapLock'], ['unlock', 'heapLock'], ['flush', 'cache'], ['scrub', 'frame'],
]; // prettier-ignore
const heapGive: readonly Point[] = [
  ['reference', 'frame'], ['free', 'heap'], ['lock', 'heapLock'], ['unlock', 'heapLock'], ['scrub', 'frame'],
]; // prettier-ignore
const p2m: readonly Point[] = [
  ['lock', 'p2mLock'], ['store', 'table'], ['allocate', 'pool'], ['free', 'pool'], ['unlock', 'p2mLock'], ['flush', 'cache'],
]; // prettier-ignore
const granting: readonly Point[] = [
  ['lock', 'activeLock'], ['unlock', 'activeLock'], ['store', 'active'], ['store', 'grantEntry'], ['reference', 'frame'],
]; // prettier-ignore
const claiming: readonly Point[] = [
  ...granting, ['load', 'grantEntry'], ['compareExchange', 'grantEntry'], ['load', 'active'],
]; // prettier-ignore
const track: readonly Point[] = [
  ['lock', 'maptrackLock'], ['unlock', 'maptrackLock'], ['store', 'maptrack'],
]; // prettier-ignore
const table: readonly Point[] = [['lock', 'grantLock'], ['unlock', 'grantLock'], ...heapTake]; // prettier-ignore
const life: readonly Point[] = [
  ['lock', 'domainLock'],
  ['unlock', 'domainLock'],
  ['store', 'domain'],
];
/** The lock of a P2M alone. */
const locked: readonly Point[] = [
  ['lock', 'p2mLock'],
  ['unlock', 'p2mLock'],
];
/** The look whether memory is unused. */
const looks: Point = ['load', 'frame'];
/** What an access or a call's buffer passes that meets memory on demand, RAM whose writes are logged, or what a listener has kept. */
const populating: readonly Point[] = [...p2m, looks];
const fetches: Point = ['copyFrom', 'guest'];
const answers: Point = ['copyTo', 'guest'];
/** A vCPU with paging on: its tables are read, and flags are set in them. */
const walks: readonly Point[] = [
  ['load', 'guest'],
  ['compareExchange', 'guest'],
];

/** A frame typed, and the entries of a table looked at or let go of. */
const typing: readonly Point[] = [
  ['reference', 'frame'], ['store', 'frame'], ['load', 'table'], ['store', 'table'], ['flush', 'cache'], ...heapGive,
]; // prettier-ignore
const changing: readonly Point[] = [
  ...typing, ['lock', 'pageLock'], ['unlock', 'pageLock'], ['compareExchange', 'table'],
]; // prettier-ignore

/** A mapping of a grant in a paravirtual guest's tables, and the frame used as writable. */
const inTables: readonly Point[] = [
  ['load', 'table'], ['store', 'table'], ['lock', 'pageLock'], ['unlock', 'pageLock'], ['store', 'frame'], ['flush', 'cache'],
]; // prettier-ignore

/**
 * What each kind of operation can pass on its way. What fate does to caches is indivisible, and so are accesses that meet neither
 * memory on demand, nor RAM whose writes are logged, nor tables that their guest writes.
 */
export const pointsOf: Readonly<Record<OpKind, readonly Point[]>> = {
  'memory.populate': [fetches, ...walks, ...heapTake, ...populating, answers],
  'memory.populateOnDemand': [fetches, ...walks, ...populating],
  'memory.setPodTarget': [...heapTake, ...heapGive, ...locked, ['store', 'domain']],
  'memory.podTarget': locked,
  'memory.increase': heapTake,
  'memory.decrease': [fetches, ...walks, ...p2m, ...heapGive, looks, ['store', 'domain']],
  'memory.exchange': [fetches, ...walks, answers, ...populating, ...heapTake, ...heapGive, ['flush', 'cache']],
  'memory.addToPhysmap': [...populating, ...heapGive, ...table],
  'memory.addRange': [...populating, ...heapGive],
  'memory.addBatch': [fetches, answers, ...walks, ...populating, ...heapGive, ...table],
  'memory.removeFromPhysmap': [...populating, ...heapGive],
  'memory.reservation': [],
  'memory.createDomain': [...life, ...heapTake],
  'memory.pauseDomain': [['store', 'domain']],
  'memory.unpauseDomain': [['store', 'domain']],
  'memory.killDomain': [
    ...life,
    ['lock', 'maptrackLock'],
    ['unlock', 'maptrackLock'],
    ...granting,
    ...p2m,
    ...heapGive,
    ['load', 'table'],
    ['store', 'frame'],
  ],
  'memory.setMaxPages': [['store', 'domain']],
  'memory.setPool': [...life, ...heapTake, ...heapGive, ['lock', 'p2mLock'], ['unlock', 'p2mLock']],
  'memory.enableLogDirty': [...life, ...p2m],
  'memory.disableLogDirty': [...life, ...p2m],
  'memory.logDirty': [...life, ...populating, answers, ...walks],
  'memory.modifiedMemory': p2m,
  'memory.setMemType': populating,
  'memory.setMemAccess': populating,
  'memory.memAccess': [],
  'memory.monitor': [['store', 'domain']],
  'memory.setAccessRequired': [['store', 'domain']],
  'memory.iomemPermission': life,
  'memory.mapMmio': [['lock', 'domainLock'], ['unlock', 'domainLock'], ...p2m],
  'memory.claimPages': [
    ['lock', 'heapLock'],
    ['unlock', 'heapLock'],
  ],
  'memory.scrub': [
    ['scrub', 'frame'],
    ['lock', 'heapLock'],
    ['unlock', 'heapLock'],
  ],
  'paging.read': populating,
  'paging.write': populating,
  'paging.compareExchange': populating,
  'paging.fetch': populating,
  'paging.setControl': [],
  'paging.setRoot': [...typing, ['store', 'domain']],
  'pv.mmuUpdate': [...changing, ['store', 'guest']],
  'pv.mmuext': [...typing, ['store', 'domain'], ['store', 'guest'], answers],
  'pv.updateVaMapping': changing.filter(([pointClass]) => pointClass !== 'compareExchange'),
  'pv.setContext': [...typing, ...life],
  'pv.setGdt': [...typing, ['store', 'domain']],
  'pv.setLdt': [...typing, ['store', 'domain']],
  'pv.loadSegment': [...typing, ['store', 'domain']],
  'pv.updateDescriptor': [...typing, ['store', 'guest']],
  'pv.vmAssist': [],
  'tlb.schedule': [],
  'tlb.fill': [],
  'tlb.evict': [],
  'tlb.invlpg': [['flush', 'cache']],
  'tlb.invpcid': [],
  'grants.map': [...track, ...claiming, ...populating, answers, ...walks, ...heapTake, ['free', 'heap'], ...inTables],
  'grants.unmap': [...track, ...populating, ...granting, ...heapGive, answers, ...walks, ...inTables],
  'grants.replace': [...track, ...populating, ...granting, ...heapGive, answers, ...walks, ...inTables],
  'grants.copy': [...claiming, ...heapGive, answers, ...walks, ...populating, ['store', 'frame']],
  'grants.query': [],
  'grants.setupTable': [...table, answers, ...walks, ...populating],
};

/** What accesses pass by which a paravirtual guest writes its tables. */
export const tableWritePoints: Readonly<Partial<Record<OpKind, readonly Point[]>>> = {
  'paging.write': changing.filter(([pointClass]) => pointClass !== 'compareExchange'),
  'paging.compareExchange': changing,
};

/** A frame typed or held, and let go of. */
const holding: readonly Point[] = [
  ['reference', 'frame'],
  ['store', 'frame'],
  ['load', 'table'],
  ['flush', 'cache'],
];
/** The moment before a root is another one is as good as that before a flush. */
const rooting: readonly Point[] = [...holding, ...Array.from({ length: 6 }, (): Point => ['store', 'domain'])];
const flushing: readonly Point[] = [['flush', 'cache']];

/** What each command of mmuext passes: few of all that some do. */
const commandPoints: Readonly<Record<MmuextCommand, readonly Point[]>> = {
  pinL1: typing,
  pinL2: typing,
  pinL3: typing,
  pinL4: typing,
  unpin: typing,
  newBaseptr: rooting,
  newUserBaseptr: rooting,
  tlbFlushLocal: flushing,
  invlpgLocal: flushing,
  tlbFlushMulti: flushing,
  invlpgMulti: flushing,
  tlbFlushAll: flushing,
  invlpgAll: flushing,
  flushCache: [],
  flushCacheGlobal: [],
  clearPage: [...holding, ['store', 'guest']],
  copyPage: [...holding, answers],
  markSuper: [],
  unmarkSuper: [],
  unknown: [],
};

/** What each kind can be refused on its way. */
export const failuresOf: Readonly<Partial<Record<OpKind, readonly FailureClass[]>>> = {
  'memory.populate': ['heap', 'pool'],
  'memory.populateOnDemand': ['pool'],
  'memory.setPodTarget': ['heap'],
  'memory.increase': ['heap'],
  'memory.decrease': ['pool'],
  'memory.exchange': ['heap', 'copyBack'],
  'memory.addToPhysmap': ['pool', 'heap'],
  'memory.addRange': ['pool'],
  'memory.addBatch': ['pool', 'heap', 'copyBack'],
  'memory.removeFromPhysmap': ['pool'],
  'memory.createDomain': ['heap'],
  'memory.logDirty': ['copyBack'],
  'memory.modifiedMemory': ['logDirty'],
  'memory.setMemType': ['pool'],
  'memory.setMemAccess': ['pool'],
  'memory.mapMmio': ['pool'],
  'memory.setPool': ['heap'],
  'paging.read': ['pool'],
  'paging.write': ['pool', 'logDirty'],
  'paging.compareExchange': ['pool'],
  'paging.fetch': ['pool'],
  'grants.map': ['maptrack', 'compareExchange', 'pool', 'heap', 'copyBack'],
  'grants.unmap': ['pool', 'copyBack'],
  'grants.replace': ['pool', 'copyBack'],
  'grants.copy': ['compareExchange', 'copyBack', 'pool'],
  'grants.setupTable': ['heap', 'copyBack'],
};

type Weighty = 'load:frame' | 'store:maptrack' | 'unlock:pageLock';

/** How often a point is chosen: the moments before something is forgotten, given up or let go are when others may be late. */
const weightOf: Readonly<Partial<Record<PointClass | Weighty, number>>> = {
  flush: 8,
  free: 2,
  reference: 2,
  scrub: 2,
  copyFrom: 3,
  compareExchange: 4,
  'load:frame': 4,
  'store:maptrack': 2,
  'unlock:pageLock': 5,
};

function weightFor([pointClass, object]: Point): number {
  const both = `${pointClass}:${object}`;
  return both in weightOf ? (weightOf[both as Weighty] ?? 1) : (weightOf[pointClass] ?? 1);
}

const weighted = (points: readonly Point[]): readonly Point[] =>
  points.flatMap((point) => Array.from({ length: weightFor(point) }, () => point));

const allWeighted = <K extends string>(table: Readonly<Record<K, readonly Point[]>>): typeof table =>
  Object.fromEntries(
    Object.entries<readonly Point[]>(table).map(([kind, points]) => [kind, weighted(points)]),
  ) as typeof table;

const weightedPoints = allWeighted(pointsOf);
const weightedTableWrites: typeof tableWritePoints = allWeighted(tableWritePoints as typeof pointsOf);
const weightedCommands = allWeighted(commandPoints);

/** An operation, as it starts or stands paused. */
export type Started = Op<'symbolic'> | Op<'concrete'>;

/** What an access may leave its guest for: memory on demand or a write that is logged, or a table that it writes. */
export type Leaves = 'memory' | 'tables' | undefined;

/** What an operation can pass on its way, those moments more often that matter more. */
export function pointsFor(op: Started, leaves: Leaves): readonly Point[] {
  if (op.kind === 'pv.mmuext') return op.elements.flatMap(({ command }) => weightedCommands[command]);
  return (leaves === 'tables' ? weightedTableWrites[op.kind] : undefined) ?? weightedPoints[op.kind];
}

/** Kinds that look for preemption between their parts, and how many parts they may do from one look to the next. */
export const partsPerCheck: Readonly<Partial<Record<OpKind, number>>> = {
  'memory.populate': 1,
  'memory.populateOnDemand': 1,
  'memory.setPodTarget': 1,
  'memory.increase': 1,
  'memory.decrease': 1,
  'memory.exchange': 1,
  'memory.addRange': 1,
  'memory.addBatch': 1,
  'memory.killDomain': 1,
  'memory.setPool': 1,
  'memory.setMemType': 256,
  'memory.setMemAccess': 64,
  'memory.modifiedMemory': 256,
  'memory.disableLogDirty': 1,
  'memory.logDirty': 1,
  'pv.mmuUpdate': 1,
  'pv.mmuext': 1,
  'grants.map': 1,
  'grants.unmap': 32,
  'grants.replace': 32,
  'grants.copy': 1,
};

/** Kinds that look for preemption within their parts too, if they come to what is long: rarely, so they are told to stop more often. */
export const withinParts: Readonly<Partial<Record<OpKind, true>>> = { 'pv.mmuUpdate': true, 'pv.mmuext': true };
