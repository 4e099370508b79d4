// XSA-240: linear tables of any depth. See README.md for the story.
// A first reader may skip the edit's text.

import type { Exhibit } from '../exhibit.ts';

export const exhibit: Exhibit = {
  id: 'xsa-240',
  title: 'Tables of one level may lead from one to the next without end',
  year: 2017,
  mechanism: 'pv',
  class: 'sequential',
  invariants: ['WORK', 'REF'],
  source: 'XSA-240, "Unlimited recursion in linear pagetable de-typing"; fixed in Xen by commit 6987fc7558',
  edits: [
    {
      file: 'pv/linear.ts',
      before: `  if (count < 0 || count + 1 === linearLimit(m)) return false;
`,
      after: '',
    },
    {
      file: 'pv/linear.ts',
      before: `  if (count > 0 || count === -linearLimit(m)) return false;
`,
      after: '',
    },
    {
      file: 'pv/linear.ts',
      before: `  invariant(count > 0, 'a linear entry that goes was counted');
`,
      after: '',
    },
    {
      file: 'pv/linear.ts',
      before: `  invariant(count < 0, 'a linear use that ends was counted');
`,
      after: '',
    },
    {
      file: 'pv/linear.ts',
      before: `import { invariant } from '#lib/invariant.ts';
`,
      after: '',
    },
  ],
  killedBy: ['pv/linearTablesEndAtOnce', 'harness/bothSidesAgree'],
  trace: 'trace.json',
  note: 'Entries and uses are still counted here, but nobody looks at the count; at the time there was none.',
};
