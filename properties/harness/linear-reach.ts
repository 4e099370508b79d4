// What processors remember of guests' own tables, as ways to frames. A guest loads roots and changes PCIDs without asking
// anybody, so whatever is tagged with the VPID or ASID of the running vCPU and with its nested tables can be used.
// A first reader may skip it.

import type { Machine } from '#impl/machine.ts';
import { hasAll } from '#lib/bits.ts';
import { directSlotWays, isDirect, PAGE, type Ways } from './direct-reach.ts';
import { cachedLeaf, type Cached, type Leaf } from './leaf.ts';

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
  if (isDirect(m, domain)) return f.linearTag.get(slot) === 0;
  const root = f.domRoot.get(domain);
  return root !== 0 && (format === 'npt' || f.linearTag.get(slot) === root);
}

/**
 * A page, or a table in which flags can be set, is a way of the gfn that it was loaded through. Of a paravirtual guest it is one of
 * the frame itself, and from a table the walk goes on in present memory.
 */
export function combinedWays(m: Machine, slot: number): readonly Cached[] {
  if (!isLinearUsable(m, slot)) return [];
  const { f } = m;
  const pcpu = Math.floor(slot / m.geometry.capacity.cacheEntries);
  const domain = domainAt(m, pcpu);
  if (isDirect(m, domain)) {
    const kind = hasAll(f.linearBits.get(slot), PAGE) ? 'combined' : 'structure';
    return leavesOf(directSlotWays(m, slot), domain).map((leaf) => cachedLeaf(leaf, { pcpu, slot, kind }));
  }
  const where = {
    domain,
    gfn: f.linearGfn.getWide(slot),
    span: 1,
    mfn: f.linearMfn.get(slot),
    rights: f.linearRights.get(slot),
    type: 0,
  };
  return [cachedLeaf(where, { pcpu, slot, kind: 'combined' })];
}

/** Ways of a paravirtual guest as leaves: each frame once as memory, once as a table. */
export const leavesOf = ({ memory, tables }: Ways, domain: number): readonly Leaf[] =>
  [memory, tables].flatMap((ways) =>
    [...ways].map(([mfn, rights]): Leaf => ({ domain, gfn: mfn, span: 1, mfn, rights, type: 0 })),
  );
