// When processors forget. A change of nested tables is noted, and whoever must not use what it replaced is interrupted, so
// that it enters its guest anew; what noting and entering mean depends on the machine (ept.ts, asid.ts). A frame freed before
// such a flush is stamped with the TLB clock; at its next use only pCPUs that were not interrupted since are.
// The clock is narrow and wraps. It stands at 0 while the pCPU that wrapped it interrupts all others; meanwhile every
// stamped frame needs a flush. So a stamp in the future is from before a wrap, and settled.
// Of paravirtual guests processors remember what they combined under the number 0, and are made to forget several at once.
// A first reader may skip the wrap. Sources: Xen mm/p2m.c (p2m_unlock_and_tlb_flush), arch/x86/flushtlb.c (pre_flush,
// new_tlbflush_clock_period, guest_flush_tlb_mask), asm-x86/flushtlb.h (NEED_FLUSH).

import type { DomId, PcpuId } from '#abi/address.ts';
import type { Machine } from '../machine.ts';
import { isParavirtual } from '../memory/target.ts';
import type { Step } from '../port.ts';
import { forgetNative } from './linear-cache.ts';
import { domainOn } from './rules.ts';

/** Starts the clock: 0 is kept for wraps. */
export function initClock(m: Machine): void {
  m.f.tlbClock.set(0, 1);
}

/** The tables of `dom` have changed: every pCPU must forget before it enters `dom` again. Nobody is interrupted. */
export function markFlush(m: Machine, dom: number): void {
  m.flushing.mark(m, dom);
}

/** VM entry: `pcpu` goes on with `dom`, and uses nothing that it was to forget. */
export function enter(m: Machine, pcpu: number, dom: number): void {
  m.flushing.enter(m, pcpu, dom);
}

/** Interrupts `pcpu`: it leaves its guest, the clock ticks, and on its way back it forgets what it has to. */
function* interrupt(m: Machine, pcpu: number): Step<void> {
  yield* m.port.point('flush', 'cache');
  const before = m.f.tlbClock.get(0);
  // At 0 somebody is leading a wrap already: the clock waits.
  const time = before === 0 ? 0 : m.f.tlbClock.add(0, 1);
  const dom = domainOn(m, pcpu);
  m.flushing.interrupted(m, pcpu);
  if (dom >= 0) {
    if (isParavirtual(m, dom)) forgetNative(m, pcpu);
    else enter(m, pcpu, dom);
    m.port.choose({ kind: 'flush', pcpu: pcpu as PcpuId, domain: dom as DomId });
  }
  m.f.pcpuTime.set(pcpu, time);
  if (before !== 0 && time === 0) yield* beginPeriod(m, pcpu);
}

/** The clock has wrapped on `leader`: all others are interrupted before it goes on. */
function* beginPeriod(m: Machine, leader: number): Step<void> {
  for (let pcpu = 0; pcpu < m.pcpus; pcpu += 1) if (pcpu !== leader) yield* interrupt(m, pcpu);
  m.f.tlbClock.set(0, 1);
}

/** The pCPUs that run `dom` now. */
export function pcpusOf(m: Machine, dom: number): readonly number[] {
  const pcpus: number[] = [];
  for (let pcpu = 0; pcpu < m.pcpus; pcpu += 1) if (domainOn(m, pcpu) === dom) pcpus.push(pcpu);
  return pcpus;
}

/** Those of them that may have used a translation since the clock stood at `stamped`. */
export const usersSince = (m: Machine, dom: number, stamped: number): readonly number[] =>
  pcpusOf(m, dom).filter((pcpu) => needsFlush(m, pcpu, stamped));

/**
 * Some pCPUs, which run paravirtual guests, forget all that they have of those, in the act at hand: a tick of the clock for all of
 * them. `isTold`: the log says so.
 */
export function* forgetAll(m: Machine, pcpus: readonly number[], isTold: boolean): Step<void> {
  const [leader] = pcpus;
  if (leader === undefined) return;
  const before = m.f.tlbClock.get(0);
  const time = before === 0 ? 0 : m.f.tlbClock.add(0, 1);
  for (const pcpu of pcpus) {
    forgetNative(m, pcpu);
    m.f.pcpuTime.set(pcpu, time);
    if (isTold) m.port.choose({ kind: 'flush', pcpu: pcpu as PcpuId, domain: domainOn(m, pcpu) as DomId });
  }
  if (before !== 0 && time === 0) yield* beginPeriod(m, leader);
}

/**
 * The hypervisor has pCPUs forget all of paravirtual guests. Who they are is asked again when it happens; nobody: no act. `isAsked`: a
 * guest has changed its tables.
 */
export function* flushNative(m: Machine, whom: () => readonly number[], isAsked = false): Step<void> {
  if (whom().length === 0) return;
  yield* m.port.point('flush', 'cache');
  if (isAsked) m.port.choose({ kind: 'forgotten' });
  yield* forgetAll(m, whom(), true);
}

/** Afterwards no pCPU uses a translation of `dom` from before. */
export function* flushDomain(m: Machine, dom: number): Step<void> {
  markFlush(m, dom);
  for (let pcpu = 0; pcpu < m.pcpus; pcpu += 1) if (domainOn(m, pcpu) === dom) yield* interrupt(m, pcpu);
}

/** Notes that translations to `mfn`, which is being freed, may be in use up to now. */
export function stamp(m: Machine, mfn: number): void {
  m.f.frameStamp.set(mfn, m.f.tlbClock.get(0));
  m.f.frameNeedFlush.set(mfn, 1);
}

/** Whether `pcpu` may have used a translation to a frame with this stamp since it was interrupted last. */
function needsFlush(m: Machine, pcpu: number, stamped: number): boolean {
  const now = m.f.tlbClock.get(0);
  return now === 0 || (m.f.pcpuTime.get(pcpu) <= stamped && stamped <= now);
}

function someNeedsFlush(m: Machine, pcpu: number, run: { readonly mfn: number; readonly count: number }): boolean {
  const { frameNeedFlush, frameStamp } = m.f;
  for (let mfn = run.mfn; mfn < run.mfn + run.count; mfn += 1)
    if (frameNeedFlush.get(mfn) !== 0 && needsFlush(m, pcpu, frameStamp.get(mfn))) return true;
  return false;
}

/** Settles the debts of `count` frames from `mfn` on before they are used again. */
export function* flushForFrames(m: Machine, mfn: number, count: number): Step<void> {
  const run = { mfn, count };
  for (let pcpu = 0; pcpu < m.pcpus; pcpu += 1) if (someNeedsFlush(m, pcpu, run)) yield* interrupt(m, pcpu);
  for (let i = 0; i < count; i += 1) m.f.frameNeedFlush.set(mfn + i, 0);
}

/**
 * Makes `root` the root of `dom`, which had none. The frame may have been the root of a domain that died, and processors
 * may remember what they loaded under it then: nobody runs `dom` on it before forgetting that.
 */
export function* adoptRoot(m: Machine, dom: number, root: number): Step<void> {
  const { flushing } = m;
  markFlush(m, dom);
  for (let pcpu = flushing.pendingOn(m, dom); pcpu >= 0; pcpu = flushing.pendingOn(m, dom)) {
    yield* m.port.point('flush', 'cache');
    if (domainOn(m, pcpu) !== dom) continue;
    flushing.execute(m, pcpu, { dom, root });
    m.port.choose({ kind: 'flush', pcpu: pcpu as PcpuId, domain: dom as DomId });
  }
  m.f.domRoot.set(dom, root);
}
