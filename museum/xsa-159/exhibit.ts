// XSA-159: an exchange that fails takes it that its guest can have its frames back. See README.md for the story.
// A first reader may skip the edit's text.

import type { Exhibit } from '../exhibit.ts';

export const exhibit: Exhibit = {
  id: 'xsa-159',
  title: 'An exchange that fails gives frames back to a guest that is being torn down',
  year: 2015,
  mechanism: 'memory',
  class: 'interleaved',
  invariants: ['CRASH', 'REF', 'LIFE'],
  source: 'XSA-159, "XENMEM_exchange error handling issues"; fixed in Xen by commit eedecb3cf0',
  edits: [
    {
      file: 'memory/exchange.ts',
      before: `  if (!isAlive(m, owner)) {
    yield* freeUnreferenced(m, mfn, 1);
    yield* buryIfOver(m, owner);
    return;
  }
`,
      after: "  invariant(isAlive(m, owner), 'a guest has back what was taken from it');\n",
    },
  ],
  killedBy: ['harness/noAssertionFails'],
  trace: 'trace.json',
  note: 'Not found by a hunt yet: it needs an exchange by the toolstack that fails after a page was taken, and its guest killed in between. The trace is written by hand. Locks given back that nobody had are left aside: frames of such guests have no lock here.',
};
