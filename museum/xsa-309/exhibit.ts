// XSA-309: the count of linear entries is begun anew when validation is gone on with. See README.md for the story.
// A first reader may skip the edit's text.

import type { Exhibit } from '../exhibit.ts';

export const exhibit: Exhibit = {
  id: 'xsa-309',
  title: 'A table that was stopped in forgets its linear entries',
  year: 2019,
  mechanism: 'pv',
  class: 'sequential',
  invariants: ['REF', 'WORK'],
  source: 'XSA-309, "Linear pagetable use / entry miscounts"; fixed in Xen by commit 7473efd12f',
  edits: [
    {
      file: 'pv/types.ts',
      before: `  frameRefs.set(mfn, frameRefs.get(mfn) - 1);
  const table`,
      after: `  frameRefs.set(mfn, frameRefs.get(mfn) - 1);
  m.f.frameLinear.set(mfn, 0);
  const table`,
    },
  ],
  killedBy: [
    'pv/typeCountsEqualUses',
    'pv/linearTablesEndAtOnce',
    'harness/countersEqualTheModel',
    'harness/bothSidesAgree',
    'harness/noAssertionFails',
  ],
  trace: 'trace.json',
  note: 'The fix of XSA-240 met the one of XSA-299: what is gone on with had been begun, and its count with it.',
};
