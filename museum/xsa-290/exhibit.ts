// XSA-290: letting go of a linear table is taken to be done at once. See README.md for the story.
// A first reader may skip the edit's text.

import type { Exhibit } from '../exhibit.ts';

export const exhibit: Exhibit = {
  id: 'xsa-290',
  title: 'What is left of a linear table when letting go of it is interrupted is lost',
  year: 2019,
  mechanism: 'pv',
  class: 'sequential',
  invariants: ['WORK', 'REF', 'LIFE'],
  source: 'XSA-290, "missing preemption in x86 PV page table unvalidation"; fixed in Xen by commit 176ebf9c8b',
  edits: [
    {
      file: 'pv/release.ts',
      before: `    if (stopped !== undefined) return yield* park(m, mfn, { entries: at, holds: true, keeps });
`,
      after: `    if (stopped !== undefined && level !== 2) return yield* park(m, mfn, { entries: at, holds: true, keeps });
`,
    },
  ],
  killedBy: [
    'harness/workIsBounded',
    'memory/referencesEqualUses',
    'pv/typeCountsEqualUses',
    'harness/countersEqualTheModel',
    'harness/bothSidesAgree',
    'harness/noAssertionFails',
    'harness/refusalsHaveNoOtherEffects',
    'harness/nothingIsLeftBehind',
  ],
  trace: 'trace.json',
  note: 'Of the two patches the first. That the third level looked too seldom whether it should stop is not planted.',
};
