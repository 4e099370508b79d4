// The two modes of a paravirtual guest. Kernel and user both run in ring 3, each on a root of its own; going from one to the other is
// a write to CR3, which with PCIDs forgets nothing. Calls are made in kernel mode.
// A first reader may skip nothing. Sources: Xen arch/x86/pv/domain.c (toggle_guest_mode, toggle_guest_pt), arch/x86/pv/iret.c,
// arch/x86/flushtlb.c (switch_cr3_cr4).

import { pvPcids } from '#abi/pv.ts';
import type { Machine } from '../machine.ts';
import { forgetNative, invalidateContexts, NATIVE_ID, type Running } from '../tlb/linear-cache.ts';

/** Whether the vCPU at `key` has what it cannot run without: a root for its kernel. */
export const hasRoot = (m: Machine, key: number): boolean => m.f.vcpuRoot.getWide(key) !== 0;

/** A vCPU of a paravirtual guest comes to run on `pcpu`: nothing of such guests is remembered there, whoever's it was. */
export function arrive(m: Machine, pcpu: number): void {
  m.f.pcpuAsid.set(pcpu, NATIVE_ID);
  forgetNative(m, pcpu);
}

/** The vCPU goes on in a mode: at once. False: there is no root for the user's. */
export function enterMode(m: Machine, { pcpu, key }: Omit<Running, 'root'>, isUser: boolean): boolean {
  if (isUser && m.f.vcpuUserRoot.get(key) === 0) return false;
  if ((m.f.vcpuIsUser.get(key) !== 0) === isUser) return true;
  m.f.vcpuIsUser.set(key, isUser ? 1 : 0);
  if (m.pvPcids) m.f.vcpuPcid.set(key, isUser ? pvPcids.user : pvPcids.kernel);
  else if (pcpu >= 0) invalidateContexts(m, pcpu, true);
  return true;
}

/** The vCPU at `key` is in its kernel: a call, or an instruction that is emulated for it, comes from there. */
export function enterKernel(m: Machine, key: number): void {
  enterMode(m, { pcpu: m.f.vcpuOn.get(key) - 1, key }, false);
}
