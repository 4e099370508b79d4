// What happens to cached translations apart from the hypervisor's own flushes: vCPUs move between pCPUs, fate fills and
// evicts, and guests invalidate what comes from their own tables. Caches keep everything else for ever.
// Sources: Intel SDM vol. 2, INVLPG, INVPCID; vol. 3A, "Operations that Invalidate TLBs and Paging-Structure Caches".

import { domainField, gfnField, type OpsOf } from './field.ts';
import type { Phase } from './operand.ts';

const pcpuField = { type: 'pcpu' } as const;

/** The four types of INVPCID in their order, and one that does not exist. */
export const invpcidTypes = ['address', 'context', 'everything', 'everythingButGlobals', 'reserved'] as const;

export const tlbOps = {
  'tlb.schedule': {
    says: 'runs vCPU {vcpu} of {target} on pCPU {pcpu}',
    replies: ['ok', 'ESRCH', 'EINVAL'],
    fields: { target: domainField, vcpu: { type: 'vcpu' }, pcpu: pcpuField },
  },
  'tlb.fill': {
    says: 'pCPU {pcpu} walks {gfn} on speculation',
    replies: ['ok'],
    fields: { pcpu: pcpuField, gfn: gfnField },
  },
  'tlb.evict': {
    says: 'pCPU {pcpu} forgets its entry {index}',
    replies: ['ok'],
    fields: { pcpu: pcpuField, index: { type: 'int', min: 0, max: 255 } },
  },
  'tlb.invlpg': { says: 'invalidates what leads from linear {gfn}', replies: ['ok'], fields: { gfn: gfnField } },
  'tlb.invpcid': {
    says: 'invalidates by PCID: type {type}, PCID {pcid}, {gfn}',
    replies: ['ok', 'generalProtection'],
    fields: {
      type: { type: 'oneOf', values: invpcidTypes },
      /** As the descriptor has it: 16 bits, of which four are reserved. */
      pcid: { type: 'int', min: 0, max: 0xffff },
      gfn: gfnField,
    },
  },
} as const;

export type TlbOp<P extends Phase> = OpsOf<typeof tlbOps, P>;
