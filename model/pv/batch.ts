// What calls of direct paging share: whose memory they are about, who may make them, and batches, which end with the first element
// that fails. A first reader may skip nothing.
// Sources: Xen arch/x86/mm.c (get_pg_owner, do_mmu_update, do_mmuext_op), include/xsm/dummy.h (xsm_mmu_update, xsm_mmuext_op).

import { DOMID_SELF, type DomId, type Mfn } from '#abi/address.ts';
import type { VcpuAgent } from '#abi/agents.ts';
import { preemption, type Cut } from '../cut.ts';
import { lifeOf, type Life } from '../life.ts';
import { contextOf, withContext } from '../paging/context.ts';
import { at, changedWork, end, go, type Situation, type Task, type Turn } from '../progress.ts';
import { isParavirtual, type State } from '../state.ts';
import { isHalt, prepare, runOne, type Ran } from './run.ts';
import { changedPv, letGoOfParked, NO_PV_WORK, pvWork, type Todo } from './work.ts';

/** Whose memory a call is about: SELF is the caller, who may not say so by number. */
export const ownerOf = ({ caller, op }: Task<{ readonly owner: DomId }>): DomId =>
  op.owner === DOMID_SELF ? caller : op.owner;

/** Whether there is such an owner. */
export function isOwner(state: State, task: Task<{ readonly owner: DomId }>): boolean {
  return task.op.owner !== task.caller && state.domains.has(ownerOf(task));
}

/** The life in which a batch has found its owner. */
export const lifeIn = (state: State, task: Task<{ readonly owner: DomId }>): Life =>
  task.work.at === 'begin' ? lifeOf(state, ownerOf(task)) : task.work;

/** Whether the caller may have memory of this owner changed: its own, and the control domain everybody's. */
export const mayChange = ({ caller }: Situation, owner: DomId): boolean => caller === owner || caller === 0;

/** The caller as a processor of a paravirtual guest; undefined: it is none, or nobody's processor. */
export const paravirtualCaller = ({ state }: Cut, { agent }: Situation): VcpuAgent | undefined =>
  agent.kind === 'vcpu' && isParavirtual(state, agent.domain) ? agent : undefined;

/** What is left partial is kept for the next call of the same vCPU. */
function keepOld(cut: Cut, { agent }: Situation, mfn: Mfn | undefined): Cut {
  return agent.kind !== 'vcpu' || mfn === undefined ? cut : at(cut, withContext(cut.state, agent, { oldTable: mfn }));
}

/** A call begins with what its vCPU's last one has left partial. Undefined: there is nothing. */
export function beginWithOld(cut: Cut, task: Task<Batch>): Turn | undefined {
  const vcpu = paravirtualCaller(cut, task);
  const { at: where, pv } = task.work;
  if (where === 'settle') {
    const ran = runOne(cut, pv.todo);
    if (ran.todo.length > 0) return go(ran.cut, task, { pv: pvWork(ran.todo) });
    if (isHalt(ran.failed)) return end(keepOld(ran.cut, task, ran.parked), 'preempted', { done: task.op.start });
    return go(ran.cut, task, { at: 'begin', pv: NO_PV_WORK });
  }
  const old = vcpu === undefined ? 0 : contextOf(cut.state, vcpu).oldTable;
  if (where !== 'begin' || vcpu === undefined || old === 0) return undefined;
  const taken = at(cut, withContext(cut.state, vcpu, { oldTable: 0 as Mfn }));
  return go(taken, task, { at: 'settle', pv: pvWork(prepare(taken, letGoOfParked(old as Mfn)).todo) });
}

/** Nothing more is to be done of an element. What it has left partial is let go of before the call ends. */
function ended(ran: Ran, task: Task<Batch>): Turn {
  const { index, pv } = task.work;
  const { cut, failed, parked } = ran;
  if (isHalt(failed)) {
    const kept = keepOld(cut, task, parked);
    if (pv.ends !== undefined) return end(kept, pv.ends, { done: index });
    return end(kept, 'preempted', { done: failed === 'onwards' ? index + 1 : index });
  }
  if (failed === undefined && pv.ends === undefined) return go(cut, task, { at: 'complete' });
  const errno = pv.ends ?? failed ?? 'EINVAL';
  if (parked === undefined) return end(cut, errno, { done: index });
  return go(cut, task, { pv: pvWork(prepare(cut, letGoOfParked(parked)).todo, { ends: errno }) });
}

/** What a call that is one list has come to; undefined: acts are still due. */
export const running = (cut: Cut, { work }: Situation, todo: () => Todo): Ran =>
  work.at === 'begin' ? prepare(cut, todo()) : runOne(cut, work.pv.todo);

interface Batch {
  readonly elements: readonly unknown[];
  readonly start: number;
}

/** What one element comes to. */
export type Element = (state: State, index: number) => Todo;

/** The border between two elements: the end, preemption, or what the next one comes to. */
function border(ran: Ran, task: Task<Batch>, from: { element: Element; index: number }): Turn {
  const { op } = task;
  let now = ran;
  for (let { index } = from; ; index += 1) {
    if (index >= op.elements.length) return end(now.cut, 'ok', { done: Math.max(index, op.start) });
    const preempted = index > op.start ? preemption(now.cut, index) : undefined;
    if (preempted !== undefined) return end(preempted, 'preempted', { done: index });
    now = prepare(now.cut, from.element(now.cut.state, index));
    if (now.failed !== undefined) return ended(now, { ...task, work: changedWork(task.work, { index }) });
    if (now.todo.length > 0) return go(now.cut, task, { at: 'next', index, pv: pvWork(now.todo) });
  }
}

/** A batch that may be made begins. */
export function beginBatch(cut: Cut, task: Task<Batch & { readonly owner: DomId }>, element: Element): Turn {
  const work = changedWork(task.work, lifeOf(cut.state, ownerOf(task)));
  return border({ cut, todo: [], failed: undefined }, { ...task, work }, { element, index: task.op.start });
}

/** One micro-step of a batch. */
export function nextInBatch(cut: Cut, task: Task<Batch>, element: Element): Turn {
  const { work } = task;
  if (work.at === 'complete')
    return border({ cut, todo: [], failed: undefined }, task, { element, index: work.index + 1 });
  const ran = runOne(cut, work.pv.todo);
  if (ran.todo.length > 0) return go(ran.cut, task, { pv: changedPv(work.pv, { todo: ran.todo }) });
  // Whether it is preempted is decided after the last act of an element, not with it.
  return ended(ran, task);
}

/** One micro-step of a call that is one list. */
export function inOne(cut: Cut, task: Situation, todo: () => Todo): Turn {
  const ran = running(cut, task, todo);
  const { ends } = task.work.pv;
  if (ran.todo.length > 0) return go(ran.cut, task, { at: 'next', pv: changedPv(task.work.pv, { todo: ran.todo }) });
  const errno = ends ?? (ran.failed === undefined || isHalt(ran.failed) ? undefined : ran.failed);
  if (errno === undefined || ran.parked === undefined) return end(ran.cut, errno ?? 'ok');
  return go(ran.cut, task, {
    at: 'next',
    pv: pvWork(prepare(ran.cut, letGoOfParked(ran.parked)).todo, { ends: errno }),
  });
}
