// How processors with EPT forget. A change of tables marks all pCPUs in the same act: whichever enters the domain next
// invalidates first, whatever made it leave. So an interruption needs nothing more than the entry that follows it.
// What is loaded through a guest's own tables is tagged with a VPID, too. VPIDs are given as ASIDs are (asid.ts), by the same
// generations; a change of nested tables leaves them alone, since INVEPT forgets what was combined with those.
// Sources: Xen mm/p2m-ept.c (ept_sync_domain), arch/x86/hvm/vmx/vmx.c (vmx_vmenter_helper, vmx_do_resume),
// arch/x86/hvm/asid.c; Intel SDM vol. 3C, INVEPT, INVVPID.

import { bit, hasAny, pow2, without } from '#lib/bits.ts';
import type { Machine } from '../machine.ts';
import { idToRun, initIds, switched } from './asid.ts';
import { invalidate, invvpidAll, vmEntry } from './hardware.ts';
import { domainOn, type FlushRules } from './rules.ts';

const isPending = (m: Machine, pcpu: number, dom: number): boolean => hasAny(m.f.eptInvalidate.get(dom), bit(pcpu));

function mark(m: Machine, dom: number): void {
  m.f.eptInvalidate.set(dom, pow2(m.pcpus) - 1);
}

function execute(m: Machine, pcpu: number, { dom, root }: { readonly dom: number; readonly root: number }): void {
  invalidate(m, pcpu, root);
  m.f.eptInvalidate.set(dom, without(m.f.eptInvalidate.get(dom), bit(pcpu)));
}

/** VM entry under the VPID of the vCPU on `pcpu`. The first of a round: all VPIDs are given anew. */
function enterUnderId(m: Machine, pcpu: number): void {
  const { asid, isFirst } = idToRun(m, pcpu);
  if (isFirst) invvpidAll(m, pcpu);
  vmEntry(m, pcpu, asid);
}

/** Executes what is pending. Without a root it stays pending. */
function enter(m: Machine, pcpu: number, dom: number): void {
  enterUnderId(m, pcpu);
  const root = m.f.domRoot.get(dom);
  if (root !== 0 && isPending(m, pcpu, dom)) execute(m, pcpu, { dom, root });
}

function pendingOn(m: Machine, dom: number): number {
  for (let pcpu = 0; pcpu < m.pcpus; pcpu += 1) if (domainOn(m, pcpu) === dom && isPending(m, pcpu, dom)) return pcpu;
  return -1;
}

export const eptFlushing: FlushRules = {
  init: initIds,
  mark,
  interrupted: () => undefined,
  switched,
  enter,
  // The VPID is looked at. It could execute what is pending as well. That it does not lets stale entries live longer, which is the harder case.
  resumed: enterUnderId,
  pendingOn,
  execute,
};
