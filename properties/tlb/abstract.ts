// How the implementation's scheduling and the registers of vCPUs represent the model's. Caches have no abstraction: they are hardware, and the
// model states only which of their answers may still be used.

import type { DomId } from '#abi/address.ts';
import type { Machine } from '#impl/machine.ts';
import { RESET } from '#model/paging/context.ts';
import { placeOfVcpu, type State } from '#model/state.ts';
import { firstDifference, type Relation } from '../harness/difference.ts';
import type { Problem } from '../harness/law.ts';

const { gdt: NO_GDT, ldt: NO_LDT } = RESET;

/** A vCPU on both sides, by its key: domain * vcpusPerDomain + vcpu. */
interface Sides {
  readonly m: Machine;
  readonly state: State;
  readonly domain: DomId;
  readonly vcpu: number;
  readonly key: number;
}

const vcpus: Relation<Sides> = {
  mechanism: 'tlb',
  kind: 'vcpu',
  thing: ({ domain, vcpu }) => `vCPU ${vcpu} of d${domain}`,
  rows: [
    {
      name: 'pcpu',
      breaks: 'refines',
      model: ({ state, domain, vcpu }) => placeOfVcpu(state, domain, vcpu),
      machine: ({ m, key }) => m.f.vcpuOn.get(key) - 1,
    },
    {
      name: 'controls',
      breaks: 'refines',
      model: ({ state, key }) => state.contexts.get(key)?.controls ?? 0,
      machine: ({ m, key }) => m.f.vcpuControls.get(key),
    },
    {
      name: 'root',
      breaks: 'refines',
      model: ({ state, key }) => state.contexts.get(key)?.root ?? 0,
      machine: ({ m, key }) => m.f.vcpuRoot.getWide(key),
    },
    {
      name: 'pcid',
      breaks: 'refines',
      model: ({ state, key }) => state.contexts.get(key)?.pcid ?? 0,
      machine: ({ m, key }) => m.f.vcpuPcid.get(key),
    },
    {
      name: 'userRoot',
      breaks: 'refines',
      model: ({ state, key }) => state.contexts.get(key)?.userRoot ?? 0,
      machine: ({ m, key }) => m.f.vcpuUserRoot.get(key),
    },
    {
      name: 'oldTable',
      breaks: 'REF',
      model: ({ state, key }) => state.contexts.get(key)?.oldTable ?? 0,
      machine: ({ m, key }) => m.f.vcpuOldTable.get(key),
    },
    {
      name: 'gdt',
      breaks: 'REF',
      model: ({ state, key }) => {
        const { frames, entries } = state.contexts.get(key)?.gdt ?? NO_GDT;
        return [entries, ...frames].join();
      },
      machine: ({ m, key }) => {
        const { gdtFrames } = m.geometry.capacity;
        const frames = Array.from({ length: gdtFrames }, (_, at) => m.f.vcpuGdt.get(key * gdtFrames + at));
        return [m.f.vcpuGdtEntries.get(key), ...frames.filter((mfn) => mfn !== 0)].join();
      },
    },
    {
      name: 'ldt',
      breaks: 'REF',
      model: ({ state, key }) => {
        const { frames, entries, base } = state.contexts.get(key)?.ldt ?? NO_LDT;
        const { ldtFrames } = state.geometry.capacity;
        return [entries, base, ...Array.from({ length: ldtFrames }, (_, at) => frames[at] ?? 0)].join();
      },
      machine: ({ m, key }) => {
        const { ldtFrames } = m.geometry.capacity;
        const frames = Array.from({ length: ldtFrames }, (_, at) => m.f.vcpuLdt.get(key * ldtFrames + at));
        return [m.f.vcpuLdtEntries.get(key), m.f.vcpuLdtBase.getWide(key), ...frames].join();
      },
    },
    {
      name: 'isUser',
      breaks: 'refines',
      model: ({ state, key }) => state.contexts.get(key)?.isUser ?? false,
      machine: ({ m, key }) => m.f.vcpuIsUser.get(key) === 1,
    },
  ],
};

/** Compares where the vCPU at `key` runs. */
export function placeProblem(m: Machine, state: State, key: number): Problem | undefined {
  const { vcpusPerDomain } = m.geometry.capacity;
  const domain = Math.floor(key / vcpusPerDomain) as DomId;
  return firstDifference(vcpus, { m, state, domain, vcpu: key % vcpusPerDomain, key });
}
