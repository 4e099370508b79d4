// Frames put at gfns by range and by batch, one after the other, each as by a call of its own. A range is moved upwards from its end if it would
// meet itself otherwise. A batch goes on after an element that fails, and tells what became of each.
// A first reader may skip the checks. Source: Xen common/memory.c (xenmem_add_to_physmap, xenmem_add_to_physmap_batch).

import { type DomId, type Gfn, INVALID_GFN } from '#abi/address.ts';
import type { MemoryOp } from '#abi/memory.ts';
import { errnoNumbers, reply, type ElementReply, type Errno, type Reply, type Status } from '#abi/reply.ts';
import { low32, pow2 } from '#lib/bits.ts';
import type { Call } from '../execution.ts';
import type { Machine } from '../machine.ts';
import type { Step } from '../port.ts';
import { storeWord } from './guest.ts';
import { addToPhysmap, placesOf } from './physmap.ts';
import { countOf, fetchGfn } from './reservation.ts';
import { callerIn } from './target.ts';

type Range = Extract<MemoryOp<'concrete'>, { kind: 'memory.addRange' }>;
type Batch = Extract<MemoryOp<'concrete'>, { kind: 'memory.addBatch' }>;

/** Whether a number is that of no gfn: all 64 bits are set. */
const isNone = (gfn: number): boolean => gfn === INVALID_GFN || gfn >= pow2(64);

/** Why no page of a range is moved. */
function objectionTo(m: Machine, call: Call, { target: named, index, gfn, count, start }: Range): Status | undefined {
  const target = placesOf(m, call, { target: named, space: 'gmfn' });
  if (typeof target === 'string') return target;
  if (isNone(gfn)) return 'EINVAL';
  if (start > count) return 'EILSEQ';
  return isNone(index) && count > 0 ? 'EOVERFLOW' : undefined;
}

/** Moves a range of the target's own gfns. */
export function* addRange(m: Machine, call: Call, op: Range): Step<Reply> {
  const errno = objectionTo(m, call, op);
  if (errno !== undefined) return reply(errno, { done: op.start });
  const overlaps = op.index < op.gfn && op.gfn < op.index + op.count;
  for (let moved = op.start; moved < op.count; moved += 1) {
    if (moved > op.start && m.port.preempts(moved)) return reply('preempted', { done: moved });
    const by = overlaps ? op.count - 1 - moved : moved;
    const place = { index: (op.index + by) as Gfn, gfn: (op.gfn + by) as Gfn };
    const { target } = op;
    const one = { kind: 'memory.addToPhysmap', target, space: 'gmfn', foreign: target, ...place } as const;
    const { status } = yield* addToPhysmap(m, call, one, moved);
    if (status !== 'ok') return reply(status, { done: moved });
  }
  return reply('ok', { done: op.count });
}

/** Why no element of a batch is looked at. */
function refusal(m: Machine, call: Call, op: Batch): Reply | undefined {
  const done = { done: op.start };
  const size = countOf(op.indices);
  if (op.space === 'gmfnRange') return reply('EOPNOTSUPP', done);
  if (size > m.geometry.capacity.batch) return reply('E2BIG');
  const target = placesOf(m, call, op);
  if (typeof target === 'string') return reply(target, done);
  if (op.start < size) return undefined;
  return reply(op.start === 0 ? 'ok' : 'EILSEQ', done);
}

/** Puts frames at gfns, as listed. */
export function* addBatch(m: Machine, call: Call, op: Batch): Step<Reply> {
  const refused = refusal(m, call, op);
  if (refused !== undefined) return refused;
  const elements: ElementReply[] = [];
  for (let index = op.start; index < countOf(op.indices); index += 1) {
    if (index > op.start && m.port.preempts(index)) return reply('preempted', { done: index, elements });
    const status = yield* element(m, call, { op, index });
    if (status === 'aborted') return reply('EINVAL', { done: index, elements });
    const isTold = status !== undefined && (yield* tell(m, callerIn(call), { op, index, status }));
    if (!isTold) return reply('EFAULT', { done: index, elements });
    elements.push({ status, out: [] });
  }
  return reply('ok', { done: countOf(op.indices), elements });
}

/** What becomes of an element; undefined: it cannot be fetched. */
function* element(
  m: Machine,
  call: Call,
  { op, index }: { readonly op: Batch; readonly index: number },
): Step<Status | 'aborted' | undefined> {
  const { target, foreign, space } = op;
  const from = yield* fetchGfn(m, callerIn(call), { extents: op.indices, index });
  if (from < 0) return undefined;
  const to = yield* fetchGfn(m, callerIn(call), { extents: op.gfns, index });
  if (to < 0) return undefined;
  if (isNone(to) || space === 'gmfnRange') return 'aborted';
  const place = { index: from as Gfn, gfn: to as Gfn };
  const one = { kind: 'memory.addToPhysmap', target, space, foreign, ...place } as const;
  return (yield* addToPhysmap(m, call, one, index)).status;
}

const numberOf = (status: Status): number => (status === 'ok' ? 0 : -errnoNumbers[status as Errno]);

/** Stores what became of an element; false: a fault. */
function* tell(
  m: Machine,
  domain: DomId,
  { op, index, status }: { readonly op: Batch; readonly index: number; readonly status: Status },
): Step<boolean> {
  if (op.results.in === 'null') return true;
  const number = numberOf(status);
  const word = { lo: low32(number), hi: number < 0 ? low32(-1) : 0 };
  return yield* storeWord(m, { domain, purpose: 'guest' }, { domain, buffer: op.results, index, ...word });
}
