// What a run must see of ASIDs for the laws about caches to mean something on machines with NPT: flushes that give new ones,
// rounds that end, generations that wrap, and stale entries that nothing but their old ASID keeps from being used.
// A first reader may skip it.

import { isSameFrame } from './laws.ts';
import type { Returned, View } from '../harness/view.ts';

/** Whether `pcpu` was flushed in the operation and goes on under an ASID of the present generation. */
function isRenewed({ machine, reach }: View, { log }: Returned): boolean {
  const { f } = machine;
  return log.some(({ choice }) => {
    if (choice.kind !== 'flush' || reach.domainOn(choice.pcpu) !== choice.domain) return false;
    const key = f.pcpuVcpu.get(choice.pcpu) - 1;
    return f.asidDisabled.get(choice.pcpu) === 0 && f.vcpuGeneration.get(key) === f.asidGeneration.get(choice.pcpu);
  });
}

/** Whether the ring of `pcpu` holds, under another ASID, a leaf of the domain it runs that the tables give no more. */
function holdsStale({ machine, reach }: View, pcpu: number): boolean {
  const { f, geometry } = machine;
  const { cacheEntries, vcpusPerDomain } = geometry.capacity;
  const domain = reach.domainOn(pcpu);
  const tag = reach.tagOn(pcpu);
  if (tag === 0) return false;
  for (let slot = pcpu * cacheEntries; slot < (pcpu + 1) * cacheEntries; slot += 1) {
    const old = f.cacheTag.get(slot);
    if (old === 0 || old === tag || Math.floor((f.cacheVcpu.get(slot) - 1) / vcpusPerDomain) !== domain) continue;
    const now = reach.leafAt(domain, f.cacheGfn.getWide(slot));
    if (isSameFrame(machine, slot, now) === false) return true;
  }
  return false;
}

/** Leaves the marks of what has been reached. */
export function markAsids(view: View): void {
  const { machine, touched, returned, mark } = view;
  if (machine.format !== 'npt' || returned === undefined || touched.pcpus.size === 0) return;
  const { f } = machine;
  if (isRenewed(view, returned)) mark('asid:renewed');
  for (let pcpu = 0; pcpu < machine.pcpus; pcpu += 1) {
    if (f.pcpuRounds.get(pcpu) > 1) mark('asid:round');
    if (f.asidDisabled.get(pcpu) !== 0) mark('asid:wrapped');
    if (holdsStale(view, pcpu)) mark('asid:stale');
  }
}
