// Logging which gfns of a domain are written, by write protection: turned on, all its writable RAM becomes read-only; the first
// write to a gfn is noted in a bitmap and makes that gfn writable again (paging/step.ts); whoever looks at the bitmap may clean
// it, which protects everything again. The domain is paused meanwhile, also while a call that was preempted is unfinished.
// What is told stands in the caller's memory, a word at a time: a fault ends the call, and what was cleaned by then is lost. (Then
// RAM is protected again all the same, which Xen leaves to the next clean.) A clean clears whole pages of the bitmap, even
// if it was asked about a part. One check for preemption comes after each page above the leaves.
// Left out: dirty video memory, the last round (mode FINAL), and the hardware's own log (PML).
// A first reader may skip `disableLogDirty`. Sources: Xen arch/x86/mm/paging.c (paging_domctl, paging_log_dirty_enable, _disable, _op),
// arch/x86/mm/hap/hap.c (hap_enable_log_dirty, hap_clean_dirty_bitmap), arch/x86/hvm/dm.c (modified_memory).

import type { Gfn } from '#abi/address.ts';
import { framesPerBitmap } from '#abi/geometry.ts';
import type { P2mType } from '#abi/hap.ts';
import { pow2 } from '#lib/bits.ts';
import { storeWord } from '../buffers.ts';
import { failure, preemption, wait, type Cut } from '../cut.ts';
import { setP2m, settle } from '../p2m.ts';
import { at, end, go, noting, type OpOf, type Task, type Turn } from '../progress.ts';
import { withDomain, type Domain, type State, type Unfinished } from '../state.ts';
import { freePages, hasBitmap, withLog } from './dirty-log.ts';
import { controlled } from './life.ts';
import { served } from './types.ts';

type Enable = OpOf<'memory.enableLogDirty'>;
type Disable = OpOf<'memory.disableLogDirty'>;
type Look = OpOf<'memory.logDirty'>;

/** All entries of one type become entries of another; what is left of their rights stays. */
function changeTypes(state: State, { id, p2m }: Domain, change: { from: P2mType; to: P2mType }): State {
  let now = state;
  p2m.forEach(({ mfn, type, access }, gfn) => {
    if (type === change.from) now = setP2m(now, { domain: id, gfn: gfn as Gfn }, { mfn, type: change.to, access });
  });
  return now;
}

const hold = (state: State, { id, held }: Domain, by: 1 | -1): State => withDomain(state, id, { held: held + by });

/** The domain that is to be paused for the call, or the answer at once. A call that goes on finds it paused. */
function admit(
  cut: Cut,
  task: Task<Enable | Disable | Look>,
  resumes: Unfinished['action'] | undefined,
): Turn | Domain {
  const domain = controlled(cut, task);
  if (typeof domain === 'string') return end(cut, domain);
  if (domain.id === task.caller || domain.kind === 'pv') return end(cut, 'EINVAL');
  if (domain.state !== 'running') return end(cut, 'ok');
  const { unfinished } = domain.log;
  const isMine = unfinished?.by === task.caller && unfinished.action === resumes;
  return (resumes === undefined ? unfinished !== undefined : !isMine) ? end(cut, 'EBUSY') : domain;
}

/** Pauses a domain once none of its calls is in flight. */
function pause(cut: Cut, task: Task<unknown>, domain: Domain): Turn {
  if (domain.calls > 0) return wait();
  return go(at(cut, hold(cut.state, domain, 1)), task, { at: 'check', part: 0 });
}

/** Turns logging on. */
export function enableLogDirty(cut: Cut, task: Task<Enable>): Turn {
  const { work } = task;
  if (work.at === 'begin') {
    const domain = admit(cut, task, undefined);
    if ('cut' in domain) return domain;
    return domain.log.on ? end(cut, 'EINVAL') : pause(cut, task, domain);
  }
  const domain = cut.state.domains.get(task.op.target);
  if (domain === undefined) return end(cut, 'ESRCH');
  if (work.at === 'settle') return end(at(cut, hold(settle(cut.state, task.debts), domain, -1)), 'ok');
  const on = withLog(cut.state, domain.id, { on: true });
  return go(at(cut, changeTypes(on, domain, { from: 'ramRw', to: 'ramLogDirty' })), task, { at: 'settle' });
}

/** Turns logging off; then the bitmap goes back to the pool, page above leaves by page above leaves. */
export function disableLogDirty(cut: Cut, task: Task<Disable>): Turn {
  const { op, work } = task;
  if (work.at === 'begin') {
    const resumes = op.resuming === 'resuming' ? 'disables' : undefined;
    const domain = admit(cut, task, resumes);
    if ('cut' in domain) return domain;
    return resumes === undefined ? pause(cut, task, domain) : go(cut, task, { at: 'release' });
  }
  const domain = cut.state.domains.get(op.target);
  if (domain === undefined) return end(cut, 'ESRCH');
  if (work.at === 'check') {
    const off = withLog(cut.state, domain.id, { on: false });
    const changed = domain.log.on ? changeTypes(off, domain, { from: 'ramLogDirty', to: 'ramRw' }) : off;
    return go(at(cut, changed), task, { at: 'release' });
  }
  if (work.at !== 'finish') return release(at(cut, settle(cut.state, task.debts)), task, domain);
  return end(at(cut, hold(withLog(cut.state, domain.id, { unfinished: undefined }), domain, -1)), 'ok');
}

/** Gives back one page above the leaves with what is below it; after the last all the rest. */
function release(cut: Cut, task: Task<Disable>, domain: Domain): Turn {
  const { id, log } = domain;
  const next = log.pages[1]?.keys()[0];
  if (next !== undefined && task.work.at === 'release') {
    const ratio = cut.state.geometry.wordsPerFrame;
    const freed = freePages(cut, id, (level, number) =>
      level === 0 ? Math.floor(number / ratio) === next : level === 1 && number === next,
    );
    return go(freed, task, { at: 'next' });
  }
  if (task.work.at === 'next') {
    const preempted = preemption(cut, 0);
    if (preempted === undefined) return go(cut, task, { at: 'release' });
    const unfinished: Unfinished = { by: task.caller, action: 'disables', done: 0 };
    return end(at(preempted, withLog(preempted.state, id, { unfinished })), 'preempted');
  }
  const freed = hasBitmap(domain) ? freePages(cut, id, () => true) : cut;
  const failed = hasBitmap(domain) ? 0 : log.failed;
  return go(at(freed, withLog(freed.state, id, { failed })), task, { at: 'finish' });
}

/** What the caller hears of the domain's log, whatever else. */
const told = (task: Task<Look>, pages: number) => ({ out: [pages, task.work.handle] });

/** Looks at the log, and cleans it if asked. `work.part`: gfns dealt with; `work.handle`: the count that is told. */
export function logDirty(cut: Cut, task: Task<Look>): Turn {
  const { op, work } = task;
  if (work.at === 'begin') {
    const resumes = op.resuming === 'resuming' ? op.action : undefined;
    const domain = admit(cut, task, resumes);
    if ('cut' in domain) return domain;
    if (resumes === undefined) return pause(cut, task, domain);
    return go(cut, task, { at: 'check', part: domain.log.unfinished?.done ?? 0 });
  }
  const domain = cut.state.domains.get(op.target);
  if (domain === undefined) return end(cut, 'ESRCH');
  if (work.at === 'check') {
    const begun = { ...task, work: { ...work, handle: domain.log.count } };
    if (domain.log.failed > 0) return go(cut, begun, { at: 'finish', status: 'ENOMEM' });
    return go(cut, begun, { at: 'next' });
  }
  if (work.at === 'next') return next(cut, task, domain);
  if (work.at === 'copyBack') return copyOut(cut, task, domain);
  if (work.at === 'unhook') return clear(cut, task, domain);
  return work.at === 'claim' ? border(cut, task, domain) : finish(cut, task, domain);
}

/** The end of a call that is not to be continued: the domain goes on. */
function leave(cut: Cut, task: Task<Look>, how: { domain: Domain; status: 'ok' | 'ENOMEM' | 'EFAULT' }): Turn {
  const { domain, status } = how;
  const over = withLog(cut.state, domain.id, { unfinished: undefined });
  const pages = status === 'ok' ? Math.min(task.op.pages, task.work.part) : task.op.pages;
  return end(at(cut, hold(over, domain, -1)), status, told(task, pages));
}

/** gfns that the whole bitmap is about. */
const reachOf = ({ geometry }: State): number => framesPerBitmap(geometry, geometry.capacity.dirtyLevels - 1);

/** The next page of leaves, or the end. */
function next(cut: Cut, task: Task<Look>, domain: Domain): Turn {
  const { op, work } = task;
  if (work.part < op.pages && work.part < reachOf(cut.state))
    return go(cut, task, op.bitmap.in === 'null' ? { at: 'unhook' } : { at: 'copyBack' });
  if (op.action === 'peeks') return leave(cut, task, { domain, status: 'ok' });
  const cleaned = withLog(cut.state, domain.id, { count: 0 });
  return go(at(cut, changeTypes(cleaned, domain, { from: 'ramRw', to: 'ramLogDirty' })), task, { at: 'finish' });
}

function finish(cut: Cut, task: Task<Look>, domain: Domain): Turn {
  return leave(at(cut, settle(cut.state, task.debts)), task, {
    domain,
    status: task.work.status as 'ok' | 'ENOMEM' | 'EFAULT',
  });
}

/** The bits of the gfns from `first` on, as the words of the bitmap have them. */
function wordAt({ geometry }: State, { log }: Domain, first: number): { lo: number; hi: number } {
  let lo = 0;
  let hi = 0;
  for (let i = 0; i < geometry.capacity.dirtyBits; i += 1)
    if (log.dirty.has(first + i)) {
      if (i < 32) lo += pow2(i);
      else hi += pow2(i - 32);
    }
  return { lo, hi };
}

/** Tells one word. A fault ends the call. */
function copyOut(cut: Cut, task: Task<Look>, domain: Domain): Turn {
  const { op, work } = task;
  const { dirtyBits } = cut.state.geometry.capacity;
  const index = work.part / dirtyBits;
  const failed = failure(cut, { class: 'copyBack', done: index });
  const word = wordAt(cut.state, domain, work.part);
  const stored =
    failed === undefined ? storeWord(cut, task, { buffer: op.bitmap, index, word }) : { cut: failed, ok: false };
  if (!stored.ok) return fault(stored.cut, task, domain);
  const part = work.part + dirtyBits;
  const isOver = part >= op.pages || part % framesPerBitmap(cut.state.geometry, 0) === 0;
  return go(stored.cut, task, { at: isOver ? 'unhook' : 'copyBack', part });
}

/** What was cleaned by now is not told any more; but nothing that is written from now on goes unnoticed. */
function fault(cut: Cut, task: Task<Look>, domain: Domain): Turn {
  const status = { status: 'EFAULT' } as const;
  // A page of leaves by this call, or whatever was by the calls that it goes on from.
  const isBeyond = task.work.part >= framesPerBitmap(cut.state.geometry, 0);
  const isCleaned = isBeyond || (domain.log.unfinished?.done ?? 0) > 0;
  if (task.op.action !== 'cleans' || !isCleaned) return go(cut, task, { at: 'finish', ...status });
  return go(at(cut, changeTypes(cut.state, domain, { from: 'ramRw', to: 'ramLogDirty' })), task, {
    at: 'finish',
    ...status,
  });
}

/** A page of leaves is done with: a clean clears it as a whole. */
function clear(cut: Cut, task: Task<Look>, domain: Domain): Turn {
  const { op, work } = task;
  const leaf = framesPerBitmap(cut.state.geometry, 0);
  const isTold = op.bitmap.in !== 'null';
  // Untold leaves are gone through one by one as well: up to the last word that is asked for.
  const { dirtyBits } = cut.state.geometry.capacity;
  const rest = Math.ceil(Math.min(leaf - (work.part % leaf), op.pages - work.part) / dirtyBits) * dirtyBits;
  const part = isTold ? work.part : work.part + rest;
  const first = Math.floor((part - 1) / leaf) * leaf;
  let { dirty } = domain.log;
  if (op.action === 'cleans') for (let gfn = first; gfn < first + leaf; gfn += 1) dirty = dirty.delete(gfn);
  const cleared = dirty === domain.log.dirty ? cut.state : withLog(cut.state, domain.id, { dirty });
  const isBorder = part >= op.pages || part % framesPerBitmap(cut.state.geometry, 1) === 0;
  return go(at(cut, cleared), task, { at: isBorder ? 'claim' : 'next', part });
}

/** The preemption check after each page above the leaves. */
function border(cut: Cut, task: Task<Look>, domain: Domain): Turn {
  const { op, work, caller } = task;
  const preempted = preemption(cut, work.part);
  if (preempted === undefined) return go(cut, task, { at: 'next' });
  const unfinished: Unfinished = { by: caller, action: op.action, done: work.part };
  return end(at(preempted, withLog(preempted.state, domain.id, { unfinished })), 'preempted', { done: work.part });
}

/** A device model has written: gfns that are RAM of some kind, or a grant, are marked. Nothing happens unless writes are logged. */
export function modifiedMemory(cut: Cut, task: Task<OpOf<'memory.modifiedMemory'>>): Turn {
  const { op, work } = task;
  const domain = served(cut, task);
  if (typeof domain === 'string') return end(cut, domain, { done: work.index });
  if (domain.kind === 'pv') return end(cut, 'EINVAL');
  if (work.at === 'begin' && !domain.log.on) return end(cut, 'ok');
  if (work.at === 'begin') {
    const isLegal = op.start < op.count && op.gfn + op.count <= domain.maxGfn;
    return isLegal ? go(cut, task, { at: 'next', index: op.start }) : end(cut, 'EINVAL');
  }
  if (work.index === op.count) return end(cut, 'ok', { done: work.index });
  const done = work.index - op.start;
  const isDue = done > 0 && done % cut.state.geometry.capacity.rangeCheck === 0 && work.at === 'next';
  const preempted = isDue ? preemption(cut, work.index) : undefined;
  if (preempted !== undefined) return end(preempted, 'preempted', { done: work.index });
  const gfn = (op.gfn + work.index) as Gfn;
  const entry = domain.p2m.get(gfn);
  const isPage = entry !== undefined && entry.type !== 'mmioDirect';
  const noted = isPage ? noting(cut, { domain: domain.id, gfn }) : cut;
  return go(noted, task, { at: 'next', index: work.index + 1 });
}
