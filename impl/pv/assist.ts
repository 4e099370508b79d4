// What a guest may have the hypervisor do for it unasked. Which assists there are depends on the kind of guest; of these,
// writable page tables alone are looked at by anything here (emulated-write.ts).
// A first reader may skip it. Source: Xen common/domain.c (do_vm_assist), asm/domain.h (PV64_VM_ASSIST_MASK, HVM_VM_ASSIST_MASK).

import type { PvOp } from '#abi/pv.ts';
import { reply, type Reply } from '#abi/reply.ts';
import type { Call } from '../execution.ts';
import type { Machine } from '../machine.ts';
import { callerIn, isParavirtual } from '../memory/target.ts';

type VmAssist = Extract<PvOp<'concrete'>, { kind: 'pv.vmAssist' }>;

/** Turns an assist of the caller's domain on or off, at once. */
export function vmAssist(m: Machine, call: Call, { command, assist }: VmAssist): Reply {
  const caller = callerIn(call);
  const isKnown = isParavirtual(m, caller) ? assist !== 'unknown' : assist === 'runstateUpdateFlag';
  if (!isKnown) return reply('EINVAL');
  if (command === 'unknown') return reply('ENOSYS');
  if (assist === 'writablePagetables') m.f.domWritesTables.set(caller, command === 'enable' ? 1 : 0);
  return reply('ok');
}
