// XSA-236: the end of a grant copy gives the page back before the pin. See README.md for the story.
// A first reader may skip the edit's text.

import type { Exhibit } from '../exhibit.ts';

export const exhibit: Exhibit = {
  id: 'xsa-236',
  title: 'The end of a copy drops the page reference before the pin',
  year: 2017,
  mechanism: 'grants',
  class: 'interleaved',
  invariants: ['FREE', 'CRASH'],
  source: 'XSA-236, "pin count / page reference race in grant table code"; fixed in Xen by commit e008f7619d',
  edits: [
    {
      file: 'grants/copy.ts',
      before: `  if (grip !== undefined) yield* dropPins(m, grip);
  if (isTyped) yield* putType(m, mfn);
  yield* putReference(m, mfn);
`,
      after: `  if (isTyped) yield* putType(m, mfn);
  yield* putReference(m, mfn);
  if (grip !== undefined) yield* dropPins(m, grip);
`,
    },
  ],
  killedBy: [
    'grants/pinnedFramesLive',
    'memory/referencesEqualUses',
    'harness/everyUseIsOfThePresentLife',
    'harness/noAssertionFails',
    'harness/bothSidesAgree',
  ],
  trace: 'trace.json',
  note: 'Shows only while the release stands between its two steps: a schedule must pause it there.',
};
