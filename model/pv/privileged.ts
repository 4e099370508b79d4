// Instructions that only a kernel in ring 0 may use: a paravirtual guest's trap, and the hypervisor does in its stead what it would
// have done by a call, or lets it hear of a general protection fault.
// A first reader may skip nothing. Sources: Xen arch/x86/pv/emul-priv-op.c (write_cr, cache_op and its like), arch/x86/mm.c
// (new_guest_cr3).

import type { Mfn } from '#abi/address.ts';
import type { VcpuAgent } from '#abi/agents.ts';
import { bit } from '#lib/bits.ts';
import { ask, type Cut } from '../cut.ts';
import { contextOf, withContext } from '../paging/context.ts';
import { at, end, go, type OpOf, type Task, type Turn } from '../progress.ts';
import { running } from './batch.ts';
import { newRoot } from './extended.ts';
import { forget, isInvalidated } from './flush.ts';
import { enterMode } from './roots.ts';
import { letGoOfParked, pvWork, type Todo } from './work.ts';

/** The trap: the processor goes on in the guest's kernel, as after a call. */
function enterKernel(cut: Cut, vcpu: VcpuAgent): Cut {
  const entered = enterMode(cut.state, vcpu, false);
  return entered === undefined ? cut : at(cut, entered);
}

/** What a paravirtual guest cannot do at all. */
export const refusePrivileged = (cut: Cut): Turn => end(cut, 'generalProtection');

/** MOV to CR3: another root for the kernel. Bit 63 makes it the number of no frame. */
export function setPvRoot(cut: Cut, task: Task<OpOf<'paging.setRoot'>>, vcpu: VcpuAgent): Turn {
  const { op, work } = task;
  if (op.flush === 'keeping') return refusePrivileged(cut);
  const entered = work.at === 'begin' ? enterKernel(cut, vcpu) : cut;
  const mfn = op.gfn as number as Mfn;
  // Nothing stops within this; what a failure leaves partial is kept all the same.
  const { oldTable } = contextOf(entered.state, vcpu);
  const old: Todo = oldTable === 0 ? [] : [{ do: 'keepOld', vcpu, mfn: 0 as Mfn }, ...letGoOfParked(oldTable)];
  const ran = running(entered, task, () => [...old, ...newRoot(entered.state, vcpu, { frame: mfn, which: 'kernel' })]);
  if (ran.todo.length > 0) return go(ran.cut, task, { at: 'next', pv: pvWork(ran.todo) });
  if (ran.failed === undefined) return end(ran.cut, 'ok');
  const { parked } = ran;
  if (parked === undefined) return refusePrivileged(ran.cut);
  return refusePrivileged(at(ran.cut, withContext(ran.cut.state, vcpu, { oldTable: parked })));
}

/** INVLPG: its processor forgets a linear frame. */
export function invalidatePvPage(cut: Cut, task: Task<OpOf<'tlb.invlpg'>>, vcpu: VcpuAgent): Turn {
  const { gfn: page } = task.op;
  // The trap comes first, and then the act: in between its processor goes on in the kernel.
  if (task.work.at === 'begin') {
    const entered = enterKernel(cut, vcpu);
    return isInvalidated(entered.state, page, true) ? go(entered, task, { at: 'next' }) : end(entered, 'ok');
  }
  const { cut: told } = ask(cut, ['forgotten']);
  return end(at(told, forget(told.state, { domain: vcpu.domain, vcpus: bit(vcpu.vcpu), page })), 'ok');
}
