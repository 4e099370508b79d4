// Frames of devices: a bit for each domain says whether it may be given one; and putting them at gfns, in pieces as large as gfn,
// frame and the tables that are there allow. A piece is a change of its own under the P2M lock, and one call makes only so many.
// A piece that cannot be made ends the call. Permissions are looked at once: the locks of both domains keep them as they are.
// Devices have no entry in the frame table: whoever looks a gfn up asks for its type first.
// A first reader may skip `orderAt`. Sources: Xen common/domctl.c (XEN_DOMCTL_iomem_permission, XEN_DOMCTL_memory_mapping,
// iocaps_double_lock), arch/x86/mm/p2m.c (map_mmio_regions, mmio_order, set_typed_p2m_entry, clear_mmio_p2m_entry).

import { DOMID_CONTROL, type DomId } from '#abi/address.ts';
import { framesPerLeaf, gfnCount } from '#abi/geometry.ts';
import type { MemoryOp } from '#abi/memory.ts';
import { reply, type Errno, type Reply } from '#abi/reply.ts';
import { pow2 } from '#lib/bits.ts';
import type { Call } from '../execution.ts';
import { levelOf, lockP2m, lookup, unlockP2m } from '../hap/table.ts';
import type { Machine } from '../machine.ts';
import type { Step } from '../port.ts';
import { crash } from './life.ts';
import { isSpecialType, setP2m } from './p2m.ts';
import { isPermitted } from './permissions.ts';
import { callerIn, exists, isParavirtual } from './target.ts';

type Permit = Extract<MemoryOp<'concrete'>, { kind: 'memory.iomemPermission' }>;
type Mapping = Extract<MemoryOp<'concrete'>, { kind: 'memory.mapMmio' }>;

/** The level of the largest pieces. */
const PIECE_LEVEL = 2;

/** Takes the domain locks of the caller and the target, in the order of their ids. */
function* lockBoth(m: Machine, target: DomId): Step<void> {
  yield* m.port.lock('domainLock', m.f.domainLock, DOMID_CONTROL);
  if (target !== DOMID_CONTROL) yield* m.port.lock('domainLock', m.f.domainLock, target);
}

function* unlockBoth(m: Machine, target: DomId): Step<void> {
  if (target !== DOMID_CONTROL) yield* m.port.unlock('domainLock', m.f.domainLock, target);
  yield* m.port.unlock('domainLock', m.f.domainLock, DOMID_CONTROL);
}

/** Permits or forbids; nobody permits what it has not itself. */
export function* iomemPermission(m: Machine, call: Call, op: Permit): Step<Reply> {
  if (!exists(m, op.target)) return reply('ESRCH');
  if (op.count === 0 && op.frame > 0) return reply('EINVAL');
  if (callerIn(call) !== DOMID_CONTROL) return reply('EPERM');
  yield* lockBoth(m, op.target);
  const errno = yield* permit(m, op);
  yield* unlockBoth(m, op.target);
  return reply(errno ?? 'ok');
}

function* permit(m: Machine, { target, frame, count, allow }: Permit): Step<Errno | undefined> {
  const { frameCount, deviceFrames } = m.geometry;
  yield* m.port.point('store', 'domain');
  if (!exists(m, target)) return 'ESRCH';
  if (!isPermitted(m, DOMID_CONTROL, { mfn: frame, count })) return 'EPERM';
  const first = target * deviceFrames + frame - frameCount;
  for (let at = first; at < first + count; at += 1) m.f.domIomem.set(at, allow === 'yes' ? 1 : 0);
  return undefined;
}

/** Maps or unmaps, as many pieces as one call may make; `done` tells how far it came. */
export function* mapMmio(m: Machine, call: Call, op: Mapping): Step<Reply> {
  const { frame, count, start } = op;
  if (!exists(m, op.target)) return reply('ESRCH');
  if (count <= start || frame + count - 1 >= pow2(m.geometry.maxPhysAddr - 12)) return reply('EINVAL');
  if (callerIn(call) !== DOMID_CONTROL) return reply('EPERM');
  yield* lockBoth(m, op.target);
  const answer = yield* mapPieces(m, op);
  yield* unlockBoth(m, op.target);
  return answer;
}

function* mapPieces(m: Machine, op: Mapping): Step<Reply> {
  const { target, frame, count, start } = op;
  const run = { mfn: frame + start, count: count - start };
  if (!exists(m, target)) return reply('ESRCH');
  if (!isPermitted(m, DOMID_CONTROL, run) || !isPermitted(m, target, run)) return reply('EPERM');
  // The guest names device frames in its own tables.
  if (isParavirtual(m, target)) return reply('ok', { done: count });
  let done = start;
  for (let left = m.geometry.capacity.devicePieces; done < count; left -= 1) {
    if (left === 0) {
      m.port.choose({ kind: 'preempted', done });
      return reply('preempted', { done });
    }
    yield* lockP2m(m, target);
    const order = orderAt(m, op, done);
    const errno = op.action === 'maps' ? yield* map(m, op, { done, order }) : yield* unmap(m, op, { done, order });
    yield* unlockP2m(m, target);
    if (errno !== undefined) return done === start ? reply(errno, { done }) : reply('preempted', { done });
    done += pow2(order);
  }
  return reply('ok', { done });
}

/** The order of the piece that begins after `done` frames: a superpage if both numbers are aligned and no table is in the way. */
function orderAt(m: Machine, { target, gfn, frame, count }: Mapping, done: number): number {
  const size = framesPerLeaf(m.geometry, PIECE_LEVEL);
  const isAligned = (gfn + done) % size === 0 && (frame + done) % size === 0 && count - done >= size;
  if (!isAligned || !m.policies.superpages || gfn + done + size > gfnCount(m.geometry)) return 0;
  return levelOf(m, target, gfn + done) >= PIECE_LEVEL ? m.geometry.bitsPerLevel : 0;
}

interface Piece {
  readonly done: number;
  readonly order: number;
}

/** A piece appears. The very same mapping may be there; another special one stops the domain for good. */
function* map(m: Machine, { target, ...op }: Mapping, { done, order }: Piece): Step<Errno | undefined> {
  const gfn = op.gfn + done;
  const mfn = op.frame + done;
  const there = lookup(m, target, gfn);
  if (there !== undefined && isSpecialType(there.type)) {
    if (there.type === 'mmioDirect' && there.mfn === mfn) return undefined;
    crash(m, target);
    return 'EPERM';
  }
  if (gfn >= gfnCount(m.geometry)) return 'EINVAL';
  return (yield* setP2m(m, target, { gfn, order, mfn, type: 'mmioDirect', done })) ? undefined : 'ENOMEM';
}

/** A piece disappears; whichever device's it is. */
function* unmap(m: Machine, { target, ...op }: Mapping, { done, order }: Piece): Step<Errno | undefined> {
  const gfn = op.gfn + done;
  if (lookup(m, target, gfn)?.type !== 'mmioDirect') return 'EINVAL';
  return (yield* setP2m(m, target, { gfn, order, mfn: 0, type: 'none', done })) ? undefined : 'ENOMEM';
}
