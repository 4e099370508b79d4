// XSA-246: a split that fails is reported as done. See README.md for the story.
// A first reader may skip the edit's text.

import type { Exhibit } from '../exhibit.ts';

export const exhibit: Exhibit = {
  id: 'xsa-246',
  title: 'A large entry on demand that cannot be split is tried for ever',
  year: 2017,
  mechanism: 'memory',
  class: 'sequential',
  invariants: ['WORK'],
  source: 'XSA-246, "x86: infinite loop due to missing PoD error checking"; fixed in Xen by commit a1c6c67689',
  edits: [
    {
      file: 'memory/pod-demand.ts',
      before: `  if (order > large) return yield* split(m, dom, { gfn: first, order, into: large });
`,
      after: `  if (order > large) {
    yield* split(m, dom, { gfn: first, order, into: large });
    return true;
  }
`,
    },
    {
      file: 'memory/pod-demand.ts',
      before: `  if (mfn === 0) return yield* split(m, dom, { gfn: first, order, into: 0 });
`,
      after: `  if (mfn === 0) {
    yield* split(m, dom, { gfn: first, order, into: 0 });
    return true;
  }
`,
    },
  ],
  killedBy: ['harness/workIsBounded', 'harness/bothSidesAgree'],
  trace: 'trace.json',
  note: 'A refusal that fate orders comes once, and the next attempt succeeds: only an empty pool refuses for ever.',
};
