// The toolstack's calls about the log of a domain's writes. The domain lock keeps them apart from each other and from changes of the
// pool; the domain is paused from the first to the last of the parts that a call may come in, and the P2M lock is held while the
// bitmap is read, so that what is told and what is cleared are the same. Writable RAM is protected again, and processors
// forget, before the domain goes on.
// A first reader may skip `begun`. Sources: Xen arch/x86/mm/paging.c (paging_domctl, paging_log_dirty_enable, _disable, _op),
// arch/x86/mm/hap/hap.c (hap_enable_log_dirty, hap_disable_log_dirty, hap_clean_dirty_bitmap), arch/x86/hvm/dm.c (modified_memory).

import type { DomId } from '#abi/address.ts';
import { framesPerBitmap } from '#abi/geometry.ts';
import type { MemoryOp } from '#abi/memory.ts';
import { reply, type Reply } from '#abi/reply.ts';
import type { Call } from '../execution.ts';
import { retype } from '../hap/retype.ts';
import { lockP2m, lookup, unlockP2m } from '../hap/table.ts';
import { dirtyActions } from '../layout.ts';
import type { Machine } from '../machine.ts';
import type { Step } from '../port.ts';
import { clearLeaf, freeBitmap, giveFirst, loadBits, markGfn } from './dirty-log.ts';
import { storeWord } from './guest.ts';
import { awaitCalls, lockDomain, unlockDomain } from './life.ts';
import { callerIn, controlled, isAlive, isParavirtual } from './target.ts';
import { servedBy } from './types.ts';

type Op<K extends MemoryOp<'concrete'>['kind']> = Extract<MemoryOp<'concrete'>, { kind: K }>;
type Action = (typeof dirtyActions)[number];

/** What is called, and of which preempted call it says that it is the continuation. */
interface Calling {
  readonly target: DomId;
  readonly resumes: Action;
  /** Whether it turns logging on, which can be done once. */
  readonly enables?: boolean;
}

/** The domain, or why the call comes to nothing. */
function objection(m: Machine, call: Call, { target, resumes, enables }: Calling): DomId | Reply {
  const dom = controlled(m, call, target);
  if (typeof dom === 'string') return reply(dom);
  if (dom === callerIn(call) || isParavirtual(m, dom)) return reply('EINVAL');
  if (!isAlive(m, dom)) return reply('ok');
  const isMine = m.f.dirtyBy.get(dom) === callerIn(call) + 1;
  const unfinished = dirtyActions[m.f.dirtyAction.get(dom)];
  if (unfinished !== resumes || (resumes !== 'none' && !isMine)) return reply('EBUSY');
  return enables === true && m.f.domLogDirty.get(dom) !== 0 ? reply('EINVAL') : dom;
}

/** Takes the domain lock and pauses the domain (whom a call goes on about is paused already); or the answer, nothing held. */
function* begun(m: Machine, call: Call, calling: Calling): Step<DomId | Reply> {
  for (;;) {
    const dom = objection(m, call, calling);
    if (typeof dom !== 'number') return dom;
    if (calling.resumes === 'none') yield* awaitCalls(m, dom);
    yield* lockDomain(m, dom);
    yield* m.port.point('store', 'domain');
    const still = objection(m, call, calling);
    const isFree = calling.resumes !== 'none' || m.slotOf(dom) === 0;
    if (typeof still === 'number' && isFree) {
      if (calling.resumes === 'none') m.f.domHeld.add(dom, 1);
      return dom;
    }
    yield* unlockDomain(m, dom);
    if (typeof still !== 'number') return still;
  }
}

/** The end of a call that is not to be continued. */
function* ended(m: Machine, dom: DomId): Step<void> {
  yield* m.port.point('store', 'domain');
  m.f.dirtyAction.set(dom, 0);
  m.f.dirtyBy.set(dom, 0);
  m.f.dirtyDone.set(dom, 0);
  m.f.domHeld.add(dom, -1);
  yield* unlockDomain(m, dom);
}

/** A call stops; the domain stays paused until it is taken up again. */
function* stopped(m: Machine, call: Call, at: { dom: DomId; action: Action; done: number }): Step<Reply> {
  const { dom, action, done } = at;
  m.f.dirtyAction.set(dom, dirtyActions.indexOf(action));
  m.f.dirtyBy.set(dom, callerIn(call) + 1);
  m.f.dirtyDone.set(dom, done);
  yield* unlockP2m(m, dom);
  yield* unlockDomain(m, dom);
  return reply('preempted', { done });
}

/** Turns logging on. */
export function* enableLogDirty(m: Machine, call: Call, op: Op<'memory.enableLogDirty'>): Step<Reply> {
  const dom = yield* begun(m, call, { target: op.target, resumes: 'none', enables: true });
  if (typeof dom !== 'number') return dom;
  yield* lockP2m(m, dom);
  yield* retype(m, dom, { from: 'ramRw', to: 'ramLogDirty' }, () => m.f.domLogDirty.set(dom, 1));
  yield* unlockP2m(m, dom);
  yield* ended(m, dom);
  return reply('ok');
}

/** Turns logging off and gives the bitmap back, in pieces. */
export function* disableLogDirty(m: Machine, call: Call, op: Op<'memory.disableLogDirty'>): Step<Reply> {
  const resumes = op.resuming === 'resuming' ? 'disables' : 'none';
  const dom = yield* begun(m, call, { target: op.target, resumes });
  if (typeof dom !== 'number') return dom;
  yield* lockP2m(m, dom);
  if (m.f.domLogDirty.get(dom) !== 0)
    yield* retype(m, dom, { from: 'ramLogDirty', to: 'ramRw' }, () => m.f.domLogDirty.set(dom, 0));
  for (const from = { gfn: 0 }; yield* giveFirst(m, dom, from);)
    if (m.port.preempts(0)) return yield* stopped(m, call, { dom, action: 'disables', done: 0 });
  yield* freeBitmap(m, dom);
  yield* unlockP2m(m, dom);
  yield* ended(m, dom);
  return reply('ok');
}

/** Tells what was written, and cleans it if asked. */
export function* logDirty(m: Machine, call: Call, op: Op<'memory.logDirty'>): Step<Reply> {
  const dom = yield* begun(m, call, { target: op.target, resumes: op.resuming === 'resuming' ? op.action : 'none' });
  if (typeof dom !== 'number') return dom;
  yield* lockP2m(m, dom);
  const count = m.f.dirtyCount.get(dom);
  const looked = m.f.dirtyFailed.get(dom) > 0 ? 'ENOMEM' : yield* look(m, call, { dom, op });
  if (typeof looked === 'number' && looked < 0)
    return yield* stopped(m, call, { dom, action: op.action, done: -looked });
  const isClean = op.action === 'cleans' && typeof looked === 'number';
  // After a fault nothing is told of what was cleared; but nobody writes without being noticed from now on.
  const isLost = op.action === 'cleans' && looked === 'EFAULT' && m.f.dirtyDone.get(dom) > 0;
  if (isClean || isLost)
    yield* retype(m, dom, { from: 'ramRw', to: 'ramLogDirty' }, () => {
      if (isClean) m.f.dirtyCount.set(dom, 0);
    });
  yield* unlockP2m(m, dom);
  yield* ended(m, dom);
  if (typeof looked !== 'number') return reply(looked, { out: [op.pages, count] });
  return reply('ok', { out: [Math.min(op.pages, looked), count] });
}

/** Goes through the bitmap; how many gfns that were, negative if it was preempted there. `dirtyDone` is how far it has come. */
function* look(
  m: Machine,
  call: Call,
  { dom, op }: { readonly dom: DomId; readonly op: Op<'memory.logDirty'> },
): Step<number | 'EFAULT'> {
  const { dirtyBits, dirtyLevels } = m.geometry.capacity;
  const leaf = framesPerBitmap(m.geometry, 0);
  const end = framesPerBitmap(m.geometry, dirtyLevels - 1);
  while (m.f.dirtyDone.get(dom) < Math.min(op.pages, end)) {
    const first = m.f.dirtyDone.get(dom);
    // A continuation that asks for more than its call may begin within a page of leaves.
    const past = first + Math.ceil(Math.min(leaf - (first % leaf), op.pages - first) / dirtyBits) * dirtyBits;
    for (let gfn = first; gfn < past && op.bitmap.in !== 'null'; gfn += dirtyBits) {
      const to = { domain: callerIn(call), buffer: op.bitmap, index: gfn / dirtyBits, ...loadBits(m, dom, gfn) };
      if (!(yield* storeWord(m, { domain: callerIn(call), purpose: 'guest' }, to))) return 'EFAULT';
    }
    if (op.action === 'cleans') yield* clearLeaf(m, dom, first);
    m.f.dirtyDone.set(dom, past);
    const isBorder = past >= op.pages || past % framesPerBitmap(m.geometry, 1) === 0;
    if (isBorder && m.port.preempts(past)) return -past;
  }
  return m.f.dirtyDone.get(dom);
}

/** A device model says what it has written. Nothing happens unless writes are logged. */
export function* modifiedMemory(m: Machine, call: Call, op: Op<'memory.modifiedMemory'>): Step<Reply> {
  const { count, start } = op;
  const target = servedBy(m, call, op.target);
  if (typeof target === 'string') return reply(target);
  if (isParavirtual(m, target)) return reply('EINVAL');
  if (m.f.domLogDirty.get(target) === 0) return reply('ok');
  // The last gfn that was ever mapped is beyond the end, as in Xen.
  if (start >= count || op.gfn + count > m.f.domMaxGfn.getWide(target)) return reply('EINVAL');
  for (let index = start; index < count; index += 1) {
    const done = index - start;
    const isDue = done > 0 && done % m.geometry.capacity.rangeCheck === 0;
    if (isDue && m.port.preempts(index)) return reply('preempted', { done: index });
    const still = servedBy(m, call, op.target);
    if (typeof still === 'string') return reply(still, { done: index });
    const found = lookup(m, target, op.gfn + index);
    const isPage = found !== undefined && found.mfn !== 0 && found.type !== 'mmioDirect';
    if (isPage) yield* markGfn(m, target, op.gfn + index);
  }
  return reply('ok', { done: count });
}
