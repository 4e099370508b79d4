// XSA-480: table pages of the EPT are recycled before the deferred flush. See README.md for the story.
// A first reader may skip the edit's text.

import type { Exhibit } from '../exhibit.ts';

export const exhibit: Exhibit = {
  id: 'xsa-480',
  title: 'EPT table pages are recycled before the deferred flush',
  year: 2026,
  mechanism: 'hap',
  class: 'stale',
  invariants: ['STALE', 'FREE'],
  source: 'XSA-480; fixed in Xen by commit 4bc2e5333a',
  edits: [
    {
      file: 'hap/table.ts',
      before: '  if (job.orphans.length > 0) yield* flushOwed(m, dom);\n',
      after: '',
    },
    {
      file: 'hap/table.ts',
      before: `/** Flushes now what would otherwise be flushed at the unlock. */
function* flushOwed(m: Machine, dom: number): Step<void> {
  if (m.f.p2mNeedFlush.get(dom) === 0) return;
  m.f.p2mNeedFlush.set(dom, 0);
  yield* flushDomain(m, dom);
}
`,
      after: '',
    },
  ],
  killedBy: [
    'tlb/cachedTablesAreStillTables',
    'hap/noCacheOutlivesItsFlush',
    'harness/nothingIsUsedPastItsFlush',
    'hap/nobodyReachesWhatIsNotTheirs',
    'harness/bothSidesAgree',
  ],
  trace: 'trace.json',
  note: 'Needs a processor that remembers the upper entry, and a moment between the page going back and the flush.',
};
