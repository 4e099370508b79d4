// What happens to cached translations apart from the hypervisor's own flushes: vCPUs move between pCPUs, and fate
// fills and evicts. Caches keep everything else for ever.

import { domainField, gfnField, type OpsOf } from './field.ts';
import type { Phase } from './operand.ts';

const pcpuField = { type: 'pcpu' } as const;

export const tlbOps = {
  'tlb.schedule': {
    says: 'runs vCPU {vcpu} of {target} on pCPU {pcpu}',
    fields: { target: domainField, vcpu: { type: 'vcpu' }, pcpu: pcpuField },
  },
  'tlb.fill': { says: 'pCPU {pcpu} walks {gfn} on speculation', fields: { pcpu: pcpuField, gfn: gfnField } },
  'tlb.evict': {
    says: 'pCPU {pcpu} forgets its entry {index}',
    fields: { pcpu: pcpuField, index: { type: 'int', min: 0, max: 255 } },
  },
} as const;

export type TlbOp<P extends Phase> = OpsOf<typeof tlbOps, P>;
