// Whose memory a call is about, and who may make it. A paravirtual guest changes its own, the control domain everybody's.
// A first reader may skip it. Sources: Xen arch/x86/mm.c (get_pg_owner), include/xsm/dummy.h (xsm_mmu_update, xsm_mmuext_op).

import { DOMID_CONTROL, DOMID_SELF, type DomId } from '#abi/address.ts';
import type { VcpuAgent } from '#abi/agents.ts';
import type { Call } from '../execution.ts';
import type { Machine } from '../machine.ts';
import { callerIn, exists, isParavirtual } from '../memory/target.ts';

/** The domain whose memory a call is about. Who means itself says so, and not its own id. */
export function ownerIn(m: Machine, call: Call, owner: DomId): DomId | 'ESRCH' {
  const caller = callerIn(call);
  if (owner === DOMID_SELF) return exists(m, caller) ? caller : 'ESRCH';
  return owner === caller || !exists(m, owner) ? 'ESRCH' : owner;
}

/** Whether the caller may change what is `owner`'s. */
export const mayChange = (call: Call, owner: DomId): boolean =>
  owner === callerIn(call) || callerIn(call) === DOMID_CONTROL;

/** The vCPU of a paravirtual guest that calls; undefined: another one does. */
export function paravirtualIn(m: Machine, { agent }: Call): VcpuAgent | undefined {
  return agent.kind === 'vcpu' && isParavirtual(m, agent.domain) ? agent : undefined;
}

export const keyOf = (m: Machine, { domain, vcpu }: VcpuAgent): number =>
  domain * m.geometry.capacity.vcpusPerDomain + vcpu;
