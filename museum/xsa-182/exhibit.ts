// XSA-182: the fast path for entries above pages forgets who may write. See README.md for the story.
// A first reader may skip the edit's text.

import type { Exhibit } from '../exhibit.ts';

export const exhibit: Exhibit = {
  id: 'xsa-182',
  title: 'A linear entry may become writable without being looked at',
  year: 2016,
  mechanism: 'pv',
  class: 'sequential',
  invariants: ['PTW'],
  source: 'XSA-182, "x86: Privilege escalation in PV guests"; fixed in Xen by commit e1bff4c2ea',
  edits: [
    {
      file: 'pv/change.ts',
      before: `  const isKept = isThere && isPresent(old) && isHarmless(old, wanted);
`,
      after: `  const isAlike = level > 1 && frameIn(old) === frameIn(wanted);
  const isKept = isThere && isPresent(old) && (isAlike || isHarmless(old, wanted));
`,
    },
  ],
  killedBy: [
    'hap/noGuestWritesTables',
    'hap/nobodyReachesWhatIsNotTheirs',
    'harness/bothSidesAgree',
    'pv/typeCountsEqualUses',
  ],
  trace: 'trace.json',
  note: 'The sister of XSA-148 at every level above pages. For ordinary entries the missing bit is harmless; a linear table turns it into a window on itself.',
};
