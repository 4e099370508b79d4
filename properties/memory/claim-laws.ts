// What must hold of claims, judged on the implementation's counters: a recount, and that what is kept back is there.
// A first reader may read the statements alone. Source: Xen common/page_alloc.c (outstanding_claims).

import { frameRoles } from '#abi/roles.ts';
import type { Machine } from '#impl/machine.ts';
import type { AlwaysLaw, Problem } from '../harness/law.ts';
import type { View } from '../harness/view.ts';

const FREE = frameRoles.indexOf('free');

function claimsOf({ f, geometry }: Machine): number {
  let sum = 0;
  for (let id = 0; id < geometry.capacity.domains; id += 1) sum += f.domClaim.get(id);
  return sum;
}

function freeOf({ f, geometry }: Machine): number {
  let count = 0;
  for (let mfn = 0; mfn < geometry.frameCount; mfn += 1) if (f.frameRole.get(mfn) === FREE) count += 1;
  return count;
}

/** The heap keeps back what domains have claimed, no more and no less. */
export const claimsAreCounted: AlwaysLaw = {
  kind: 'always',
  id: 'memory/claimsAreCounted',
  invariant: 'REF',
  statement: 'As many frames are kept back as domains have claimed and not taken.',
  judge: ({ machine, looks }: View): Problem | undefined => {
    const kept = machine.f.heapClaimed.get(0);
    const claimed = claimsOf(machine);
    if (kept > 0 || claimed > 0) looks?.('memory');
    if (kept === claimed) return undefined;
    const sentence = `${kept} frames are kept back, and ${claimed} are claimed`;
    return { invariant: 'REF', mechanism: 'memory', field: 'claim.sum', sentence };
  },
};

/** Nobody is given what others have claimed. */
export const claimedFramesAreThere: AlwaysLaw = {
  kind: 'always',
  id: 'memory/claimedFramesAreThere',
  invariant: 'MUST',
  statement: 'With nothing in flight, as many frames are free as domains have claimed and not taken.',
  judge: ({ machine, quiescent, looks }: View): Problem | undefined => {
    const claimed = quiescent ? claimsOf(machine) : 0;
    if (claimed === 0) return undefined;
    looks?.('memory');
    const free = freeOf(machine);
    if (claimed <= free) return undefined;
    const sentence = `${claimed} frames are claimed, and ${free} are free`;
    return { invariant: 'MUST', mechanism: 'memory', field: 'claim.free', sentence };
  },
};

export const claimLaws: readonly AlwaysLaw[] = [claimsAreCounted, claimedFramesAreThere];
