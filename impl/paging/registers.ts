// Registers of a vCPU that say what its linear addresses mean. Changing a control leaves the guest: the hypervisor checks it and
// gives the vCPU another VPID or ASID where the processor would have had to forget. Loading a root does not: the processor does it.
// A first reader may skip nothing. Sources: Xen arch/x86/hvm/hvm.c (hvm_set_cr0, hvm_set_cr4, hvm_set_efer),
// arch/x86/mm/hap/hap.c (hap_update_paging_modes, hap_update_cr3), arch/x86/hvm/vmx/vmx.c (vmx_update_guest_cr); Intel SDM vol. 2,
// "MOV - Move to/from Control Registers".

import { controls, type Control, type PagingOp } from '#abi/paging.ts';
import { reply, type Reply } from '#abi/reply.ts';
import { bit, hasAll, or, pow2, without } from '#lib/bits.ts';
import type { Machine } from '../machine.ts';
import { forgetVcpu } from '../tlb/asid.ts';
import { invalidatePcid, type Running } from '../tlb/linear-cache.ts';

type Op<K extends PagingOp<'concrete'>['kind']> = Extract<PagingOp<'concrete'>, { kind: K }>;

/** Whether a control of the vCPU at `key` is on. */
export const hasControl = (m: Machine, key: number, control: Control): boolean =>
  hasAll(m.f.vcpuControls.get(key), bit(controls.indexOf(control)));

/** A vCPU as it begins. */
export function resetRegisters(m: Machine, key: number): void {
  m.f.vcpuControls.set(key, 0);
  m.f.vcpuRoot.setWide(key, 0);
  m.f.vcpuPcid.set(key, 0);
  m.f.vcpuUserRoot.set(key, 0);
  m.f.vcpuIsUser.set(key, 0);
  m.f.vcpuLdtEntries.set(key, 0);
  m.f.vcpuLdtBase.setWide(key, 0);
}

/** Whether a change of the control makes what was loaded under it unusable. */
const endsTranslations = (control: Control, isTurnedOn: boolean): boolean =>
  control === 'paging' || control === 'globalPages' || control === 'smep' || (control === 'pcids' && !isTurnedOn);

/** One control of the vCPU at `key` is turned on or off, by MOV to CR0 or CR4 or by WRMSR. */
export function setControl(m: Machine, key: number, { control, to }: Op<'paging.setControl'>): Reply {
  const isTurnedOn = to === 'on';
  if (hasControl(m, key, control) === isTurnedOn) return reply('ok');
  if (control === 'paging' && !isTurnedOn && hasControl(m, key, 'pcids')) return reply('generalProtection');
  const mayHavePcids = hasControl(m, key, 'paging') && m.f.vcpuPcid.get(key) === 0;
  if (control === 'pcids' && isTurnedOn && !mayHavePcids) return reply('generalProtection');
  const old = m.f.vcpuControls.get(key);
  const one = bit(controls.indexOf(control));
  m.f.vcpuControls.set(key, isTurnedOn ? or(old, one) : without(old, one));
  if (endsTranslations(control, isTurnedOn)) forgetVcpu(m, key);
  return reply('ok');
}

/** MOV to CR3, as the processor performs it. */
export function setRoot(m: Machine, of: Running, { gfn, pcid, flush }: Op<'paging.setRoot'>): Reply {
  const hasPcids = hasControl(m, of.key, 'pcids');
  if (gfn >= pow2(m.geometry.maxPhysAddr - 12) || (flush === 'keeping' && !hasPcids)) return reply('generalProtection');
  m.f.vcpuRoot.setWide(of.key, gfn);
  m.f.vcpuPcid.set(of.key, hasPcids ? pcid : 0);
  if (flush === 'flushing') invalidatePcid(m, of.pcpu, hasPcids ? pcid : 0);
  return reply('ok');
}
