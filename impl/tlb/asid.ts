// How processors with NPT forget: not at all, mostly. What a vCPU loads is tagged with its ASID, and it forgets by being
// given another one. ASIDs belong to a core and are given in turn; one is valid while its generation is the core's. To
// forget what its guests had, a core goes on to the next generation. When ASIDs have run out they begin again at 1, in a
// generation of their own, and the processor forgets everything: the numbers are about to mean something else.
// A generation that wraps would make old ASIDs valid again, so it ends their use on that core: from then on every entry
// runs under ASID 1 and flushes that.
// Sources: Xen arch/x86/hvm/asid.c (hvm_asid_flush_core, hvm_asid_handle_vmenter), arch/x86/hvm/svm/asid.c
// (svm_asid_handle_vmrun), arch/x86/hvm/svm/svm.c (svm_do_resume, migration), arch/x86/flushtlb.c (switch_cr3_cr4,
// FLUSH_HVM_ASID_CORE); AMD64 APM vol. 2, "TLB Control".

import { pow2 } from '#lib/bits.ts';
import type { Machine } from '../machine.ts';
import { run } from './hardware.ts';
import type { FlushRules } from './rules.ts';

/** The generation of a vCPU that has no valid ASID anywhere. */
const NO_GENERATION = 0;
const FIRST_ASID = 1;

/** Whether a core has done with ASIDs. */
export const isDisabled = (m: Machine, pcpu: number): boolean => m.f.asidDisabled.get(pcpu) !== 0;

/** Every core begins with its first ASID. */
export function initIds(m: Machine): void {
  for (let pcpu = 0; pcpu < m.pcpus; pcpu += 1) {
    m.f.asidGeneration.set(pcpu, NO_GENERATION + 1);
    m.f.asidNext.set(pcpu, FIRST_ASID);
  }
}

/** The vCPU at `key` goes on under another ASID when it enters next: what it loaded so far serves it no more. */
export function forgetVcpu(m: Machine, key: number): void {
  m.f.vcpuGeneration.set(key, NO_GENERATION);
}

/** No ASID that was given on this core so far is valid any more. */
export function flushCore(m: Machine, pcpu: number): void {
  if (isDisabled(m, pcpu)) return;
  if (m.f.asidGeneration.add(pcpu, 1) === NO_GENERATION) m.f.asidDisabled.set(pcpu, 1);
}

/** Gives the vCPU at `key` the next ASID of the core; false: the generation has wrapped over it. */
function renew(m: Machine, pcpu: number, key: number): boolean {
  const { f } = m;
  if (f.asidNext.get(pcpu) >= pow2(m.geometry.width.asid)) {
    flushCore(m, pcpu);
    f.asidNext.set(pcpu, FIRST_ASID);
    if (isDisabled(m, pcpu)) return false;
  }
  f.vcpuAsid.set(key, f.asidNext.get(pcpu));
  f.asidNext.add(pcpu, 1);
  f.vcpuGeneration.set(key, f.asidGeneration.get(pcpu));
  return true;
}

/** Under which ASID the vCPU on `pcpu` is to run, its own if that is valid, else a new one; 0: this core has done with them. */
export function idToRun(m: Machine, pcpu: number): { readonly asid: number; readonly isFirst: boolean } {
  const { f } = m;
  const key = f.pcpuVcpu.get(pcpu) - 1;
  if (isDisabled(m, pcpu)) return { asid: 0, isFirst: false };
  if (f.vcpuGeneration.get(key) === f.asidGeneration.get(pcpu)) return { asid: f.vcpuAsid.get(key), isFirst: false };
  if (!renew(m, pcpu, key)) return { asid: 0, isFirst: false };
  return { asid: f.vcpuAsid.get(key), isFirst: f.vcpuAsid.get(key) === FIRST_ASID };
}

/** VM entry of whatever vCPU is on `pcpu`. */
function enter(m: Machine, pcpu: number): void {
  const { asid, isFirst } = idToRun(m, pcpu);
  if (asid === 0) run(m, pcpu, { asid: FIRST_ASID, forget: 'asid' });
  // With the first ASID a new round of them begins, and all that are remembered from the last one are stale.
  else run(m, pcpu, { asid, forget: isFirst ? 'all' : 'nothing' });
}

/** The core changes page tables, which ends a generation. A vCPU that comes from another core has no ASID of this one. */
export function switched(m: Machine, pcpu: number, key: number): void {
  flushCore(m, pcpu);
  if (m.f.vcpuCore.get(key) === pcpu + 1) return;
  m.f.vcpuCore.set(key, pcpu + 1);
  m.f.vcpuGeneration.set(key, NO_GENERATION);
}

export const asidFlushing: FlushRules = {
  init: initIds,
  mark: () => undefined,
  interrupted: flushCore,
  switched,
  enter,
  resumed: enter,
  // Nothing is marked. Nor need it be for a new root: nothing was ever loaded under the ASID of a vCPU that had no tables.
  pendingOn: () => -1,
  execute: () => undefined,
};
