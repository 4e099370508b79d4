// What processors remember of guests' own tables, as ways to frames. A guest loads roots and changes PCIDs without asking
// anybody, so whatever is tagged with the VPID or ASID of the running vCPU and with its nested tables can be used.
// A first reader may skip it.

import type { Machine } from '#impl/machine.ts';
import type { Cached } from './reach.ts';

/** The domain whose vCPU runs on the pCPU of a slot; -1: none. */
function domainAt(m: Machine, pcpu: number): number {
  const vcpu = m.f.pcpuVcpu.get(pcpu);
  return vcpu === 0 ? -1 : Math.floor((vcpu - 1) / m.geometry.capacity.vcpusPerDomain);
}

/** Whether the pCPU of a slot of these rings can use what is in it. */
export function isLinearUsable(m: Machine, slot: number): boolean {
  const { f, format, geometry } = m;
  const pcpu = Math.floor(slot / geometry.capacity.cacheEntries);
  const domain = domainAt(m, pcpu);
  if (domain < 0 || f.linearLevel.get(slot) === 0 || f.linearAsid.get(slot) !== f.pcpuAsid.get(pcpu)) return false;
  const root = f.domRoot.get(domain);
  return root !== 0 && (format === 'npt' || f.linearTag.get(slot) === root);
}

/** A page, or a table in which flags can be set, is a way of the gfn that it was loaded through. */
export function combinedWays(m: Machine, slot: number): readonly Cached[] {
  if (!isLinearUsable(m, slot)) return [];
  const { f } = m;
  const pcpu = Math.floor(slot / m.geometry.capacity.cacheEntries);
  const where = {
    gfn: f.linearGfn.getWide(slot),
    span: 1,
    mfn: f.linearMfn.get(slot),
    rights: f.linearRights.get(slot),
  };
  return [{ ...where, pcpu, slot, domain: domainAt(m, pcpu), kind: 'combined', type: 0 }];
}
