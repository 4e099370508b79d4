// Law WORK: how many acts (points of the port) an operation may perform between two preemption checks, how often it must
// check, and that it stops when it is told to. The bounds are those of the interface: so many acts for an extent's frame, an
// element, a grant frame, a page of the pool; they are a quarter above the most that two thousand generated runs have shown.
// A first reader may skip the table. Source: Xen common/memory.c, common/grant_table.c (hypercall_preempt_check).

import { operandsOf } from '#abi/fields.ts';
import { framesPerBitmap, superpageOrder, tableEntries, type Geometry } from '#abi/geometry.ts';
import { invariants } from '#abi/invariants.ts';
import { mechanismOf, type Op, type OpKind } from '#abi/operation.ts';
import type { Reply } from '#abi/reply.ts';
import type { AlwaysLaw, Problem } from './law.ts';
import { partsPerCheck } from './points.ts';
import { isError } from './replies.ts';
import type { Returned, View } from './view.ts';

/** Acts between two checks: `base`, and so many for each of what there can be several of. */
interface Bound {
  readonly base: number;
  /** For each frame of an extent. */
  readonly frame?: number;
  /** For each element of a batch that is worked on without a check in between. */
  readonly element?: number;
  /** For each grant frame that there may be. */
  readonly grantFrame?: number;
  /** For each gfn of a range between two checks, and for each piece of a mapping of devices. */
  readonly range?: number;
  readonly piece?: number;
  /** For each page of a bitmap that may be given back, and each word of one that may be told. */
  readonly bitmapPage?: number;
  readonly bitmapWord?: number;
  /** For each frame that a GDT or an LDT may have. */
  readonly gdtFrame?: number;
  /** For each page that a paging pool may have. */
  readonly poolFrame?: number;
  /** For each entry of each table that there may be: only in batches of paravirtual vCPUs does it stop for preemption. */
  readonly tableEntry?: number;
}

/** Refusals and answers that need no work. */
const SMALL: Bound = { base: 4 };
/** Nothing, unless an access meets memory on demand, perhaps to learn that it is there by now. */
const ACCESS: Bound = { base: 12 };
/** The same, or the change of an entry that a paravirtual guest has written. */
const WRITE: Bound = { base: 40 };
/** What acts at once passes no point. */
const NONE: Bound = { base: 0 };

/** The bound of every kind of operation. */
export const bounds: Readonly<Record<OpKind, Bound>> = {
  'memory.populate': { base: 20, frame: 2 },
  'memory.populateOnDemand': { base: 10, frame: 8 },
  'memory.setPodTarget': { base: 24, frame: 12 },
  'memory.podTarget': SMALL,
  'memory.increase': { base: 12, frame: 2 },
  'memory.decrease': { base: 8, frame: 12 },
  'memory.exchange': { base: 20, frame: 16 },
  'memory.addToPhysmap': { base: 22, grantFrame: 4 },
  'memory.addRange': { base: 22 },
  'memory.addBatch': { base: 28, grantFrame: 4 },
  'memory.removeFromPhysmap': { base: 22 },
  'memory.reservation': NONE,
  'memory.createDomain': { base: 22, grantFrame: 6 },
  'memory.pauseDomain': SMALL,
  'memory.unpauseDomain': SMALL,
  'memory.killDomain': { base: 20, poolFrame: 1, tableEntry: 6 },
  'memory.setMaxPages': SMALL,
  'memory.setPool': { base: 18 },
  'memory.enableLogDirty': { base: 12 },
  'memory.disableLogDirty': { base: 16, bitmapPage: 1 },
  'memory.logDirty': { base: 20, bitmapWord: 2 },
  'memory.modifiedMemory': { base: 0, range: 8 },
  'memory.setMemType': { base: 0, range: 14 },
  'memory.setMemAccess': { base: 4, range: 14 },
  'memory.memAccess': NONE,
  'memory.monitor': SMALL,
  'memory.setAccessRequired': SMALL,
  'memory.iomemPermission': { base: 8 },
  'memory.mapMmio': { base: 8, piece: 9 },
  'memory.claimPages': SMALL,
  'memory.scrub': { base: 4, frame: 1 },
  'paging.read': ACCESS,
  'paging.write': WRITE,
  'paging.compareExchange': WRITE,
  'paging.fetch': ACCESS,
  'paging.setControl': NONE,
  'paging.setRoot': { base: 0, tableEntry: 12 },
  'pv.mmuUpdate': { base: 30, tableEntry: 12 },
  'pv.mmuext': { base: 30, tableEntry: 12 },
  'pv.updateVaMapping': { base: 30, tableEntry: 12 },
  'pv.setContext': { base: 20, tableEntry: 12 },
  'pv.setGdt': { base: 8, gdtFrame: 14 },
  'pv.setLdt': { base: 8, gdtFrame: 14 },
  'pv.loadSegment': { base: 24 },
  'pv.updateDescriptor': { base: 24 },
  'pv.vmAssist': NONE,
  'tlb.schedule': NONE,
  'tlb.fill': NONE,
  'tlb.evict': NONE,
  'tlb.invlpg': { base: 1 },
  'tlb.invpcid': NONE,
  'grants.map': { base: 52 },
  'grants.unmap': { base: 22, element: 32 },
  'grants.replace': { base: 22, element: 40 },
  'grants.copy': { base: 42 },
  'grants.query': NONE,
  'grants.setupTable': { base: 8, grantFrame: 4 },
};

/** Frames that one part of an operation is about: a cache for memory on demand takes in as many as the smallest superpage has. */
function framesOf(geometry: Geometry, op: Op<'concrete'>): number {
  if (op.kind === 'memory.scrub') return op.frames;
  if (op.kind === 'memory.setPodTarget') return 2 ** superpageOrder(geometry);
  if (op.kind === 'memory.exchange') return 2 ** Math.min(Math.max(op.givenOrder, op.takenOrder), 20);
  return 'order' in op ? 2 ** Math.min(op.order, 20) : 1;
}

const elementsOf = (op: Op<'concrete'>): number => ('elements' in op ? Math.max(0, op.elements.length - op.start) : 1);

/** Whether a guest's memory is fetched from or stored to. */
export const hasBuffer = (op: Op<'concrete'>): boolean =>
  operandsOf(op).some(
    (one) =>
      (one.type === 'buffer' && one.value.in === 'guest') || (one.type === 'extents' && one.value.by === 'buffer'),
  );

/** Words that are fetched or stored between two checks. */
function wordsOf(geometry: Geometry, op: Op<'concrete'>): number {
  if (op.kind === 'memory.logDirty') return toldBy(geometry, op);
  if (op.kind === 'grants.setupTable') return geometry.capacity.grantFrames;
  if (op.kind === 'memory.addBatch') return 3;
  if (op.kind === 'memory.exchange') return 3 * framesOf(geometry, op);
  return partsPerCheck[op.kind] === 1 ? 1 : elementsOf(op);
}

/** Words that are told of a bitmap between two checks. */
function toldBy(geometry: Geometry, { pages }: Extract<Op<'concrete'>, { kind: 'memory.logDirty' }>): number {
  return Math.ceil(Math.min(pages, framesPerBitmap(geometry, 1)) / geometry.capacity.dirtyBits);
}

/** Acts of noting one write: the lock, a page for each level, the bit, the flush of what else was owed at the unlock. */
const notingActs = (geometry: Geometry): number => 3 + geometry.capacity.dirtyLevels + geometry.capacity.pcpus;

/** Acts of noting writes, where a domain has them logged: of what is stored, of each frame of an extent, of each access made again. */
function logActs(geometry: Geometry, op: Op<'concrete'>): number {
  const isAccess = 'via' in op;
  const writes = isAccess
    ? 16
    : 2 * (1 + elementsOf(op)) + (op.kind === 'memory.populate' ? framesOf(geometry, op) : 0);
  const others = isAccess ? 16 * (4 + geometry.levels + geometry.capacity.pcpus) : 0;
  const walked = hasBuffer(op) ? 2 * geometry.levels * wordsOf(geometry, op) : 0;
  return notingActs(geometry) * (writes + walked) + others;
}

/** Acts of walks through guests' own tables: an entry read and marked on each level, for two pages of each word. */
function walkActs(geometry: Geometry, op: Op<'concrete'>): number {
  if (!hasBuffer(op)) return 0;
  return 4 * geometry.levels * wordsOf(geometry, op);
}

/** Acts for each frame that there is, when memory on demand is asked for: all of them may be looked at. */
const DEMAND = 12;

/** Whether memory on demand was asked for, or is being given back. That an access asked is in no log if it was refused at once. */
const isDemanding = ({ op, log }: Pick<Returned, 'op' | 'log'>): boolean =>
  'via' in op ||
  log.some(({ choice }) => choice.kind.startsWith('pod') || (choice.kind === 'failed' && (choice.done ?? 0) < 0));

/** Acts that `op` may perform between two preemption checks; `worst`: how many it has performed; `logs`: whether writes are logged. */
export function mostActs(
  geometry: Geometry,
  { op, log, worst, logs }: Pick<Returned, 'op' | 'log' | 'worst'> & { readonly logs: boolean },
): number {
  const { base, frame = 0, element = 0, grantFrame = 0, poolFrame = 0 } = bounds[op.kind];
  const { range = 0, piece = 0, bitmapPage = 0, bitmapWord = 0, tableEntry = 0, gdtFrame = 0 } = bounds[op.kind];
  const { grantFrames, poolFrames, rangeCheck, devicePieces, gdtFrames, ldtFrames } = geometry.capacity;
  const walks = worst > base ? walkActs(geometry, op) : 0;
  const told = op.kind === 'memory.logDirty' ? toldBy(geometry, op) : 0;
  const demands = worst > base && isDemanding({ op, log }) ? DEMAND * geometry.frameCount : 0;
  return (
    tableEntry * tableEntries(geometry) * geometry.frameCount +
    demands +
    walks +
    (logs && worst > base ? logActs(geometry, op) : 0) +
    bitmapPage * poolFrames +
    bitmapWord * told +
    range * rangeCheck +
    piece * devicePieces +
    base +
    frame * framesOf(geometry, op) +
    element * elementsOf(op) +
    grantFrame * grantFrames +
    poolFrame * poolFrames +
    gdtFrame * Math.max(gdtFrames, ldtFrames)
  );
}

/** Chunks of an exchange that are done when `done` elements are. */
function chunksOf(op: Extract<Op<'concrete'>, { kind: 'memory.exchange' }>, done: number): number {
  const per = 2 ** Math.max(op.takenOrder - op.givenOrder, 0);
  return Math.floor(done / per) - Math.floor((op.before > 0 ? 0 : op.start) / per);
}

/** Pages above the leaves that a call has told or cleaned from the beginning; of one that was taken up again nothing is known. */
function piecesTold(
  geometry: Geometry,
  op: Extract<Op<'concrete'>, { kind: 'memory.logDirty' }>,
  answer: Reply,
): number {
  const isWhole = op.resuming === 'anew' && answer.status === 'ok';
  return isWhole ? Math.ceil((answer.out[0] ?? 0) / framesPerBitmap(geometry, 1)) : 0;
}

/** Parts of a preemptible operation that are known to be done, from its reply or its log. */
function partsOf(geometry: Geometry, { op, reply, log }: Returned): number {
  const made = log.filter(({ choice: { kind } }) => {
    if (op.kind === 'memory.killDomain') return kind === 'poolGiven' || kind === 'podTaken';
    if (op.kind === 'memory.setPodTarget') return kind === 'frame' || kind === 'podTaken';
    return op.kind === 'memory.setPool' && (kind === 'poolGiven' || kind === 'frame');
  }).length;
  if (op.kind === 'memory.exchange') return chunksOf(op, reply.done);
  if (op.kind === 'memory.logDirty') return piecesTold(geometry, op, reply);
  return Math.max(made, 'start' in op ? reply.done - op.start : 0);
}

/** No handler works on and on without asking whether it should stop, and whoever is told to stop does. */
export const workIsBounded: AlwaysLaw = {
  kind: 'always',
  id: 'harness/workIsBounded',
  invariant: 'WORK',
  statement: invariants.WORK,
  judge: ({ machine, returned, problems, due, looks }: View): Problem | undefined => {
    const told = problems.find(({ invariant }) => invariant === 'WORK');
    if (told !== undefined || returned === undefined) return told;
    const { op, worst, reply } = returned;
    if (worst > 0) looks?.(mechanismOf(op.kind));
    const problem = (what: string, sentence: string): Problem => ({
      invariant: 'WORK',
      mechanism: mechanismOf(op.kind),
      field: `work.${what}.${op.kind}`,
      sentence: `${op.kind} ${sentence}`,
    });
    const { capacity } = machine.geometry;
    // Others can turn logging on and off meanwhile; and a clean protects RAM though nothing is logged.
    let logs = !returned.alone || 'via' in op;
    for (let id = 0; id < capacity.domains && !logs; id += 1)
      logs = machine.f.domLogDirty.get(id) !== 0 || returned.before.domains.get(id)?.log.on === true;
    const most = mostActs(machine.geometry, { op, log: returned.log, worst, logs });
    if (worst > most) return problem('acts', `performs ${worst} acts without a preemption check; ${most} are allowed`);
    const { finished } = machine;
    if (finished?.call.op !== op) return undefined;
    const { checks, call } = finished;
    const within = due(finished);
    if (checks < within)
      return problem('within', `goes through tables and asks ${checks} times whether to stop; ${within} are due`);
    // What is told to stop while it lets go of what a failure has left answers with the failure: the table waits.
    const isLeftWithin = returned.log.some(({ choice }) => choice.kind === 'preempted' && choice.within !== undefined);
    const isStopped = reply.status === 'preempted' || (isLeftWithin && isError(reply));
    if (call.preempt !== undefined && checks >= call.preempt && !isStopped)
      return problem(
        'stop',
        `is to stop at preemption check ${call.preempt}, passes ${checks}, and answers ${reply.status}`,
      );
    const per = partsPerCheck[op.kind];
    if (per === undefined) return undefined;
    const parts = partsOf(machine.geometry, returned);
    const least = Math.floor((parts - 1) / per);
    return checks < least
      ? problem('checks', `does ${parts} parts and asks ${checks} times whether to stop; ${least} are due`)
      : undefined;
  },
};
