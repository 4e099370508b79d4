// XSA-252: giving a frame back unpins it. See README.md for the story.
// A first reader may skip the edit's text.

import type { Exhibit } from '../exhibit.ts';

export const exhibit: Exhibit = {
  id: 'xsa-252',
  title: 'A table that is given back is unpinned on the way',
  year: 2018,
  mechanism: 'memory',
  class: 'sequential',
  invariants: ['WORK', 'REF'],
  source: 'XSA-252, "DoS via non-preemptable L3/L4 pagetable freeing"; fixed in Xen by commit d798a09529',
  edits: [
    {
      file: 'memory/reservation.ts',
      before: `    // What the hypervisor shares with the guest stays the hypervisor's.
`,
      after: `    if (m.f.framePinned.get(mfn) !== 0) {
      m.f.framePinned.set(mfn, 0);
      yield* putPageAndType(m, mfn);
    }
    // What the hypervisor shares with the guest stays the hypervisor's.
`,
    },
    {
      file: 'memory/reservation.ts',
      before: `import { getPage, isMemory } from '../pv/frames.ts';
`,
      after: `import { getPage, isMemory } from '../pv/frames.ts';
import { putPageAndType } from '../pv/release.ts';
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
  ],
  trace: 'trace.json',
  note: 'The call does not stop within tables, so all of a tree is let go of at once.',
};
