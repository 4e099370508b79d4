// XSA-148: the fast path for entries above pages looks at too few bits. See README.md for the story.
// A first reader may skip the edit's text.

import type { Exhibit } from '../exhibit.ts';

export const exhibit: Exhibit = {
  id: 'xsa-148',
  title: 'An entry may become a superpage without being looked at',
  year: 2015,
  mechanism: 'pv',
  class: 'sequential',
  invariants: ['PTW', 'OWN'],
  source:
    'XSA-148, "x86: Uncontrolled creation of large page mappings by PV guests"; fixed in Xen by commit fe360c90ea',
  edits: [
    {
      file: 'pv/entry.ts',
      before: `  return hasAny(lo, or(or(PWT, PCD), or(superpage, global)));
`,
      after: `  return hasAny(lo, or(or(PWT, PCD), level === 2 ? global : or(superpage, global)));
`,
    },
    {
      file: 'pv/change.ts',
      before: `  const isKept = isThere && isPresent(old) && isHarmless(old, wanted);
`,
      after: `  const isAlike = level === 2 && frameIn(old) === frameIn(wanted);
  const isKept = isThere && isPresent(old) && (isAlike || isHarmless(old, wanted));
`,
    },
  ],
  killedBy: ['hap/noGuestWritesTables', 'hap/nobodyReachesWhatIsNotTheirs'],
  trace: 'trace.json',
  note: 'The classic of direct paging: one forgotten bit in a mask, two calls, the whole machine.',
};
