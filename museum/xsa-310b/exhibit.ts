// XSA-310B: a root is let go of again as if it were whole. See README.md for the story.
// A first reader may skip the edit's text.

import type { Exhibit } from '../exhibit.ts';

export const exhibit: Exhibit = {
  id: 'xsa-310b',
  title: 'The end of a vCPU begins anew with a root that is partial by now',
  year: 2019,
  mechanism: 'pv',
  class: 'sequential',
  invariants: ['CRASH', 'REF'],
  source: 'XSA-310, "Further issues with restartable PV type change operations"; fixed in Xen by commit ececa12b2c',
  edits: [
    {
      file: 'pv/roots.ts',
      before: `    if (root === 0) vcpuUserRoot.set(key, 0);
    else vcpuRoot.setWide(key, 0);
    const stopped = yield* putPageAndType(m, mfn);
    keep(m, key);
    return stopped ?? true;
`,
      after: `    const stopped = yield* putPageAndType(m, mfn);
    if (stopped !== undefined) return stopped;
    if (root === 0) vcpuUserRoot.set(key, 0);
    else vcpuRoot.setWide(key, 0);
    return true;
`,
    },
  ],
  killedBy: [
    'memory/referencesEqualUses',
    'pv/typeCountsEqualUses',
    'harness/countersEqualTheModel',
    'harness/bothSidesAgree',
    'harness/noAssertionFails',
    'harness/refusalsHaveNoOtherEffects',
  ],
  trace: 'trace.json',
  note: 'Roots are taken from the vCPU only when nothing is left of them, as they were at the time.',
};
