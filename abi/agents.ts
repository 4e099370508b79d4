// Who acts. An agent is data in every step; the authority of what it does is the model's to state.
// A first reader may skip devices (they have no operations in this version) and device models (they call as their domain).

import type { DomId, PcpuId, VcpuId } from './address.ts';

/** A virtual processor of a guest; its hypercalls and accesses are the domain's. */
export interface VcpuAgent {
  readonly kind: 'vcpu';
  readonly domain: DomId;
  readonly vcpu: VcpuId;
}

/** A device driven by a persistent program, known to its IOMMU by requester ids (bus, device, function). */
export interface DeviceAgent {
  readonly kind: 'device';
  readonly device: number;
  readonly requester: number;
}

/** A process that emulates hardware for a guest; acts with the rights of the domain it runs in. */
export interface DeviceModelAgent {
  readonly kind: 'deviceModel';
  readonly domain: DomId;
  readonly serves: DomId;
}

/**
 * Every source of steps. toolstack: the control domain's management calls. background: the hypervisor's own chores
 * (scrubber, deferred free). fate: cache fill and eviction, scheduling, failures.
 */
export type Agent =
  | VcpuAgent
  | DeviceAgent
  | DeviceModelAgent
  | { readonly kind: 'toolstack' }
  | { readonly kind: 'background' }
  | { readonly kind: 'fate' };

export const agentKinds = ['vcpu', 'device', 'deviceModel', 'toolstack', 'background', 'fate'] as const;

/** The domain in whose name `agent` calls; the toolstack calls as the control domain; undefined for the rest. */
export function callerOf(agent: Agent): DomId | undefined {
  if (agent.kind === 'vcpu' || agent.kind === 'deviceModel') return agent.domain;
  return agent.kind === 'toolstack' ? (0 as DomId) : undefined;
}

/**
 * Whether what is answered to an agent comes to anybody. Fate asks for nothing: its replies are for those who read traces. The
 * background's count as heard, for what the hypervisor does of itself must not depend on what a guest holds.
 */
export const hearsReplies: Readonly<Record<Agent['kind'], boolean>> = {
  vcpu: true,
  device: true,
  deviceModel: true,
  toolstack: true,
  background: true,
  fate: false,
};

/** An agent in words. */
export function describeAgent(agent: Agent): string {
  switch (agent.kind) {
    case 'vcpu':
      return `d${agent.domain}v${agent.vcpu}`;
    case 'device':
      return `device ${agent.device} (requester ${agent.requester.toString(16)})`;
    case 'deviceModel':
      return `device model of d${agent.serves} in d${agent.domain}`;
    case 'toolstack':
    case 'background':
    case 'fate':
      return agent.kind;
  }
}

/** A pCPU index; -1 means "on no pCPU". */
export const NOWHERE: PcpuId = -1 as PcpuId;
