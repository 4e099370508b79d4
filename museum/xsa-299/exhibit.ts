// XSA-299: of a table that holds one with a bad entry, that one is forgotten. See README.md for the story.
// A first reader may skip the edit's text.

import type { Exhibit } from '../exhibit.ts';

export const exhibit: Exhibit = {
  id: 'xsa-299',
  title: 'A table is left partial and does not hold the one below that is',
  year: 2019,
  mechanism: 'pv',
  class: 'sequential',
  invariants: ['REF'],
  source:
    'XSA-299, "Issues with restartable PV type change operations"; this one of its defects fixed in Xen by commit 3c15a2d8cc',
  edits: [
    {
      file: 'pv/types.ts',
      before: `  const isHeld = holds || current.parked !== 0;
`,
      after: `  const isHeld = holds;
`,
    },
  ],
  killedBy: [
    'memory/referencesEqualUses',
    'pv/typeCountsEqualUses',
    'harness/countersEqualTheModel',
    'harness/bothSidesAgree',
  ],
  trace: 'trace.json',
  note: 'One of eight defects. Another, that an entry in progress held no reference, was not found within 80,000 operations of the first seed: it needs two levels stopped in at once.',
};
