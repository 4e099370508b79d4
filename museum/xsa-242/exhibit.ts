// XSA-242: a table that is locked loses its last use. See README.md for the story.
// A first reader may skip the edit's text.

import type { Exhibit } from '../exhibit.ts';

export const exhibit: Exhibit = {
  id: 'xsa-242',
  title: 'The last use of a table that is locked ends without letting go of its entries',
  year: 2017,
  mechanism: 'pv',
  class: 'interleaved',
  invariants: ['REF', 'LIFE'],
  source: 'XSA-242, "page type reference leak on x86"; fixed in Xen by commit 6410733a8a',
  edits: [
    {
      file: 'pv/release.ts',
      before: `  while (pageLock.get(mfn) !== 0 && frameTypeCount.get(mfn) === 1) {
    invariant(pageLock.get(mfn) !== ownSlot(m), 'who changes a frame does not end its last use');
    yield* m.port.wait(pageLock.get(mfn));
  }
`,
      after: '',
    },
    {
      file: 'pv/release.ts',
      before: `  if (type === WRITABLE || type === DESCRIPTORS || count > 1) {
`,
      after: `  if (type === WRITABLE || type === DESCRIPTORS || count > 1 || pageLock.get(mfn) !== 0) {
`,
    },
    {
      file: 'pv/types.ts',
      before: `    if (count === 0) break;
`,
      after: `    if (count === 0 && pageLock.get(mfn) === 0) break;
`,
    },
  ],
  killedBy: [
    'memory/referencesEqualUses',
    'pv/typeCountsEqualUses',
    'harness/countersEqualTheModel',
    'harness/bothSidesAgree',
    'harness/noAssertionFails',
    'harness/refusalsHaveNoOtherEffects',
    'harness/nothingIsLeftBehind',
  ],
  trace: 'trace.json',
  note: 'The lock counted as a use, which its end took away; here nobody gives a locked frame another type, which is the same.',
};
