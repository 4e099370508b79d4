// XSA-30: a refused mark keeps the lock. See README.md for the story.
// A first reader may skip the edit's text.

import type { Exhibit } from '../exhibit.ts';

export const exhibit: Exhibit = {
  id: 'xsa-30',
  title: 'A refusal to mark memory as on demand keeps the P2M lock',
  year: 2012,
  mechanism: 'memory',
  class: 'sequential',
  invariants: ['LOCK'],
  source:
    'XSA-30, "Broken error handling in guest_physmap_mark_populate_on_demand()"; fixed in Xen by commit 54c82f9962',
  edits: [
    {
      file: 'memory/pod.ts',
      before: `    yield* unlockP2m(m, dom);
    if (errno !== undefined) return errno;
  }
`,
      after: `    if (errno === 'EBUSY') return errno;
    yield* unlockP2m(m, dom);
    if (errno !== undefined) return errno;
  }
`,
    },
  ],
  killedBy: ['harness/noLockIsKept', 'harness/bothSidesAgree', 'harness/noAssertionFails'],
  trace: 'trace.json',
  note: 'The fix also kept guests from asking for themselves, to be sure: that refusal is left standing.',
};
