// When operations are paused, made to fail, or preempted. Points come from a static table of what each kind of operation can
// pass, not from what a run has shown, so a schedule can name a point that an edited implementation alone reaches.
// After "A Randomized Scheduler with Probabilistic Guarantees of Finding Bugs" (Burckhardt et al., PCT): few change points
// at random places find most bugs; here an episode of one or two operations with one to three points, several per run.
// A first reader may skip the table.

import type { Agent } from '#abi/agents.ts';
import type { Label } from '#abi/operand.ts';
import type { Failure, FailureClass } from '#abi/failures.ts';
import { mechanismOf, type Op, type OpKind } from '#abi/operation.ts';
import type { MmuextCommand } from '#abi/pv.ts';
import type { ObjectKind, Pause, PointClass } from '#abi/points.ts';
import type { Prng } from '#lib/prng.ts';
import type { State } from '#model/state.ts';

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
/** What an access passes that meets memory on demand, or RAM whose writes are logged. */
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

/**
 * What each kind of operation can pass on its way. What fate does to caches is indivisible, and so are accesses that meet neither
 * memory on demand, nor RAM whose writes are logged, nor tables that their guest writes.
 */
export const pointsOf: Readonly<Record<OpKind, readonly Point[]>> = {
  'memory.populate': [fetches, ...walks, ...heapTake, ...p2m, answers],
  'memory.populateOnDemand': [fetches, ...walks, ...p2m],
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
  'memory.logDirty': [...life, ...p2m, answers, ...walks],
  'memory.modifiedMemory': p2m,
  'memory.setMemType': populating,
  'memory.iomemPermission': life,
  'memory.mapMmio': [['lock', 'domainLock'], ['unlock', 'domainLock'], ...p2m],
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
  'pv.vmAssist': [],
  'tlb.schedule': [],
  'tlb.fill': [],
  'tlb.evict': [],
  'tlb.invlpg': [['flush', 'cache']],
  'tlb.invpcid': [],
  'grants.map': [...track, ...claiming, ...p2m, answers, ...walks, ...heapTake, ['free', 'heap']],
  'grants.unmap': [...track, ...p2m, ...granting, ...heapGive, answers, ...walks],
  'grants.copy': [...claiming, ...heapGive, answers, ...walks, ...populating],
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
  'memory.mapMmio': ['pool'],
  'memory.setPool': ['heap'],
  'paging.read': ['pool'],
  'paging.write': ['pool', 'logDirty'],
  'paging.compareExchange': ['pool'],
  'paging.fetch': ['pool'],
  'grants.map': ['maptrack', 'compareExchange', 'pool', 'heap', 'copyBack'],
  'grants.unmap': ['pool', 'copyBack'],
  'grants.copy': ['compareExchange', 'copyBack', 'pool'],
  'grants.setupTable': ['heap', 'copyBack'],
};

/** How often a point is chosen: the moments before something is forgotten, given up or let go are when others may be late. */
const weightOf: Readonly<Partial<Record<PointClass | 'load:frame' | 'store:maptrack', number>>> = {
  flush: 8,
  free: 2,
  reference: 2,
  scrub: 2,
  copyFrom: 3,
  compareExchange: 4,
  'load:frame': 4,
  'store:maptrack': 2,
};

function weightFor([pointClass, object]: Point): number {
  const both = `${pointClass}:${object}`;
  return weightOf[both === 'load:frame' || both === 'store:maptrack' ? both : pointClass] ?? 1;
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

/** What an operation can pass on its way, those moments more often that matter more. */
function pointsFor(op: Started, leaves: Circumstances['leaves']): readonly Point[] {
  if (op.kind === 'pv.mmuext') return op.elements.flatMap(({ command }) => weightedCommands[command]);
  return (leaves === 'tables' ? weightedTableWrites[op.kind] : undefined) ?? weightedPoints[op.kind];
}

/** Which of several such acts: mostly the first. Few operations interrupt more than two processors. */
const nths = (pointClass: PointClass): readonly number[] =>
  pointClass === 'flush' ? [1, 1, 1, 2] : [1, 1, 1, 1, 2, 3];

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
  'memory.modifiedMemory': 256,
  'memory.disableLogDirty': 1,
  'memory.logDirty': 1,
  'pv.mmuUpdate': 1,
  'pv.mmuext': 1,
  'grants.map': 1,
  'grants.unmap': 32,
  'grants.copy': 1,
};

/** What fate adds to a step. */
export interface Fate {
  readonly pause?: Pause;
  readonly failures?: readonly Failure[];
  readonly preempt?: number;
}

/** An episode holds no more operations and points than this, both counted. */
const EPISODE_MAX = 6;

/** What a schedule knows of the moment at which an operation starts. */
export interface Circumstances {
  /** How many others stand paused. */
  readonly paused: number;
  /** Whether somebody else can act meanwhile on a domain that the operation is about. */
  readonly contested: boolean;
  /** What an access may leave its guest for: memory on demand or a write that is logged, or a table that it writes. */
  readonly leaves: 'memory' | 'tables' | undefined;
}

type Started = Op<'symbolic'> | Op<'concrete'>;

/** An operation that stands paused. */
interface Standing {
  readonly label: Label;
  readonly op: Started;
  readonly agent: Agent;
}

/** What a paused access has left its guest for. */
const leftFor = ({ agent }: Standing, state: State): Circumstances['leaves'] =>
  agent.kind === 'vcpu' && state.domains.get(agent.domain)?.kind === 'pv' ? 'tables' : 'memory';

/** Decides when to pause, fail, preempt and resume in one run. */
export class Schedule {
  readonly #prng: Prng;
  readonly #interleaves: boolean;
  readonly #fails: boolean;
  readonly #preempts: boolean;
  /** Of the present episode: operations still to be paused, points still to be used, steps of others before the next resume. */
  #operations = 0;
  #points = 0;
  #wait = 0;

  constructor(prng: Prng) {
    this.#prng = prng;
    this.#interleaves = prng.chance(1, 2);
    this.#fails = prng.chance(1, 3);
    this.#preempts = prng.chance(1, 3);
  }

  /** What happens to an operation that starts now. */
  onStart(op: Op<'symbolic'>, at: Circumstances): Fate {
    const isIdle = mechanismOf(op.kind) === 'paging' && at.leaves === undefined;
    const pause = isIdle ? undefined : this.#opening(op, at);
    const classes = isIdle ? undefined : failuresOf[op.kind];
    const failing = this.#fails && classes !== undefined && this.#prng.chance(1, 4);
    const preempting = this.#preempts && op.kind in partsPerCheck && this.#prng.chance(1, 2);
    return {
      ...(pause === undefined ? {} : { pause }),
      ...(failing ? { failures: [{ class: this.#prng.pick(classes), nth: 1 + this.#prng.below(2) }] } : {}),
      ...(preempting ? { preempt: 1 + this.#prng.below(3) } : {}),
    };
  }

  /** An operation was to be paused and has not come by the point: the episode is left to the next one. */
  missed(): void {
    if (this.#operations + this.#points >= EPISODE_MAX) return;
    this.#operations += 1;
    this.#points += 1;
  }

  /** Which paused operation goes on now, perhaps to a further point; undefined: somebody else acts. */
  toResume(flights: readonly Standing[], state: State): { readonly resume: Label; readonly pause?: Pause } | undefined {
    if (flights.length === 0) return undefined;
    if (this.#wait > 0) {
      this.#wait -= 1;
      return undefined;
    }
    const flight = this.#prng.pick(flights);
    const pause = this.#points > 0 ? this.#point(flight.op, leftFor(flight, state)) : undefined;
    return { resume: flight.label, ...(pause === undefined ? {} : { pause }) };
  }

  /** A point at which to stop an operation that starts, if an episode wants one. Episodes do not overlap. */
  #opening(op: Started, { paused, contested, leaves }: Circumstances): Pause | undefined {
    if (!this.#interleaves || pointsOf[op.kind].length === 0) return undefined;
    if (this.#operations === 0 && paused === 0 && this.#prng.chance(contested ? 4 : 1, 6)) {
      this.#operations = 1 + this.#prng.below(2);
      this.#points = this.#operations + this.#prng.below(4 - this.#operations);
    }
    if (this.#operations === 0) return undefined;
    this.#operations -= 1;
    return this.#point(op, leaves);
  }

  #point(op: Started, leaves: Circumstances['leaves']): Pause | undefined {
    const points = pointsFor(op, leaves);
    if (points.length === 0) return undefined;
    this.#points -= 1;
    this.#wait = 2 + this.#prng.below(4);
    const [pointClass, object] = this.#prng.pick(points);
    return { class: pointClass, object, nth: this.#prng.pick(nths(pointClass)) };
  }
}
