// How the implementation's scheduling represents the model's. Caches have no abstraction: they are hardware, and the
// model states only which of their answers may still be used.

import type { DomId } from '#abi/address.ts';
import type { Machine } from '#impl/machine.ts';
import { placeOfVcpu, type State } from '#model/state.ts';
import { firstDifference } from '../harness/difference.ts';
import type { Problem } from '../harness/law.ts';

/** Compares where the vCPU at `key` (domain * vcpusPerDomain + vcpu) runs. */
export function placeProblem(m: Machine, state: State, key: number): Problem | undefined {
  const { vcpusPerDomain } = m.geometry.capacity;
  const domain = Math.floor(key / vcpusPerDomain);
  const vcpu = key % vcpusPerDomain;
  return firstDifference({ invariant: 'refines', mechanism: 'tlb', thing: `vCPU ${vcpu} of d${domain}` }, 'vcpu', [
    ['pcpu', placeOfVcpu(state, domain as DomId, vcpu), m.f.vcpuOn.get(key) - 1],
  ]);
}
