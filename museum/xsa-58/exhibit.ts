// XSA-58: a table that a pin could not look through loses the reference that it needs. See README.md for the story.
// A first reader may skip the edit's text.

import type { Exhibit } from '../exhibit.ts';

export const exhibit: Exhibit = {
  id: 'xsa-58',
  title: 'The error path of a pin drops the reference of a parked table',
  year: 2013,
  mechanism: 'pv',
  class: 'sequential',
  invariants: ['REF', 'FREE'],
  source:
    'XSA-58, "Page reference counting error due to XSA-45/CVE-2013-1918 fixes"; fixed in Xen by commit 9b167bd2f3',
  edits: [
    {
      file: 'pv/pins.ts',
      before: `    if (running(m).parked !== frame) yield* putReference(m, frame);
`,
      after: `    yield* putReference(m, frame);
`,
    },
    {
      file: 'pv/pins.ts',
      before: `import { getPage, isOwned, running } from './frames.ts';
`,
      after: `import { getPage, isOwned } from './frames.ts';
`,
    },
  ],
  killedBy: [
    'memory/referencesEqualUses',
    'harness/countersEqualTheModel',
    'harness/bothSidesAgree',
    'harness/noAssertionFails',
  ],
  trace: 'trace.json',
  note: 'The fix of another advisory had made validation preemptible, and given what it leaves a reference that this path did not know of.',
};
