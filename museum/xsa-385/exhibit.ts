// XSA-385: the sum of pages overflows, and the limit is passed. See README.md for the story.
// A first reader may skip the edit's text.

import type { Exhibit } from '../exhibit.ts';

export const exhibit: Exhibit = {
  id: 'xsa-385',
  title: 'The sum of pages overflows, and the limit is passed',
  year: 2021,
  mechanism: 'memory',
  class: 'sequential',
  invariants: ['REF', 'OWN'],
  source: 'XSA-385, "guests may exceed their designated memory limit"; fixed in Xen by commit 143501861d',
  edits: [
    {
      file: 'memory/heap.ts',
      before: `  if (sum < more) return 'E2BIG';
`,
      after: ``,
    },
  ],
  killedBy: ['harness/countersEqualTheModel', 'harness/bothSidesAgree'],
  trace: 'trace.json',
  note: 'Needs a domain that is near the end of the range of its counter of pages, which the header may make narrow.',
};
