// Registers of a vCPU that say what its linear addresses mean. What cannot be so is a general protection fault and changes
// nothing. What turning a control or loading a root makes a processor forget is in ../tlb/loaded.ts.
// A first reader may skip nothing. Sources: Intel SDM vol. 2, "MOV - Move to/from Control Registers"; vol. 3A, "Paging Modes and
// Control Bits", "Process-Context Identifiers (PCIDs)"; Xen arch/x86/hvm/hvm.c (hvm_set_cr0, hvm_set_cr4).

import type { VcpuAgent } from '#abi/agents.ts';
import { controls, type Control } from '#abi/paging.ts';
import { bit, pow2, without, or } from '#lib/bits.ts';
import type { Cut } from '../cut.ts';
import { at, end, type OpOf, type Turn } from '../progress.ts';
import type { Context } from '../state.ts';
import { afterControl, invalidatePcid } from '../tlb/loaded.ts';
import { contextOf, isOn, withContext } from './context.ts';

/** PCIDs come with paging and stay within it; they are turned on from PCID 0. */
function isRefused(context: Context, control: Control, isTurnedOn: boolean): boolean {
  if (control === 'paging') return !isTurnedOn && isOn(context, 'pcids');
  return control === 'pcids' && isTurnedOn && (!isOn(context, 'paging') || context.pcid !== 0);
}

/** MOV to CR0 or CR4, or WRMSR of EFER, with one bit other than before, or none. */
export function setControl(cut: Cut, agent: VcpuAgent, op: OpOf<'paging.setControl'>): Turn {
  const context = contextOf(cut.state, agent);
  const isTurnedOn = op.to === 'on';
  if (isOn(context, op.control) === isTurnedOn) return end(cut, 'ok');
  if (isRefused(context, op.control, isTurnedOn)) return end(cut, 'generalProtection');
  const one = bit(controls.indexOf(op.control));
  const register = isTurnedOn ? or(context.controls, one) : without(context.controls, one);
  const { loaded } = afterControl(context, op.control, isTurnedOn);
  return end(at(cut, withContext(cut.state, agent, { controls: register, loaded })), 'ok');
}

/** MOV to CR3. Without PCIDs the low bits are no part of it, and bit 63 is reserved. */
export function setRoot(cut: Cut, agent: VcpuAgent, op: OpOf<'paging.setRoot'>): Turn {
  const context = contextOf(cut.state, agent);
  const hasPcids = isOn(context, 'pcids');
  const isKeeping = op.flush === 'keeping';
  const isTooWide = op.gfn >= pow2(cut.state.geometry.maxPhysAddr - 12);
  if (isTooWide || (isKeeping && !hasPcids)) return end(cut, 'generalProtection');
  const pcid = hasPcids ? op.pcid : 0;
  const { loaded } = isKeeping ? context : invalidatePcid(context, pcid);
  return end(at(cut, withContext(cut.state, agent, { root: op.gfn, pcid, loaded })), 'ok');
}
