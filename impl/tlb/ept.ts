// How processors with EPT forget. A change of tables marks all pCPUs in the same act: whichever enters the domain next
// invalidates first, whatever made it leave. So an interruption needs nothing more than the entry that follows it.
// Sources: Xen mm/p2m-ept.c (ept_sync_domain), arch/x86/hvm/vmx/vmx.c (vmx_vmenter_helper); Intel SDM vol. 3C, INVEPT.

import { bit, hasAny, pow2, without } from '#lib/bits.ts';
import type { Machine } from '../machine.ts';
import { invalidate } from './hardware.ts';
import { domainOn, type FlushRules } from './rules.ts';

const isPending = (m: Machine, pcpu: number, dom: number): boolean => hasAny(m.f.eptInvalidate.get(dom), bit(pcpu));

function mark(m: Machine, dom: number): void {
  m.f.eptInvalidate.set(dom, pow2(m.pcpus) - 1);
}

function execute(m: Machine, pcpu: number, { dom, root }: { readonly dom: number; readonly root: number }): void {
  invalidate(m, pcpu, root);
  m.f.eptInvalidate.set(dom, without(m.f.eptInvalidate.get(dom), bit(pcpu)));
}

/** Executes what is pending. Without a root it stays pending. */
function enter(m: Machine, pcpu: number, dom: number): void {
  const root = m.f.domRoot.get(dom);
  if (root !== 0 && isPending(m, pcpu, dom)) execute(m, pcpu, { dom, root });
}

function pendingOn(m: Machine, dom: number): number {
  for (let pcpu = 0; pcpu < m.pcpus; pcpu += 1) if (domainOn(m, pcpu) === dom && isPending(m, pcpu, dom)) return pcpu;
  return -1;
}

export const eptFlushing: FlushRules = {
  init: () => undefined,
  mark,
  interrupted: () => undefined,
  switched: () => undefined,
  enter,
  // It could execute what is pending as well. That it does not lets stale entries live longer, which is the harder case.
  resumed: () => undefined,
  pendingOn,
  execute,
};
