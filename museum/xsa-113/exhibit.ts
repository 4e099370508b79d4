// XSA-113: a refused update of the inverse map keeps a reference. See README.md for the story.
// A first reader may skip the edit's text.

import type { Exhibit } from '../exhibit.ts';

export const exhibit: Exhibit = {
  id: 'xsa-113',
  title: 'An entry of the inverse map that is refused keeps a reference of its frame',
  year: 2014,
  mechanism: 'pv',
  class: 'sequential',
  invariants: ['REF', 'LIFE'],
  source:
    'XSA-113, "Guest effectable page reference leak in MMU_MACHPHYS_UPDATE handling"; fixed in Xen by commit 6913fa31fa',
  edits: [
    {
      file: 'pv/update.ts',
      before: `      return isParavirtual(m, owner) ? yield* name(m, one) : 'EINVAL';
`,
      after: `      return yield* name(m, one);
`,
    },
    {
      file: 'pv/update.ts',
      before: `  if (!(yield* getPage(m, frame, owner))) return 'EINVAL';
  yield* m.port.point('store', 'frame');
`,
      after: `  if (!(yield* getPage(m, frame, owner))) return 'EINVAL';
  if (!isParavirtual(m, owner)) return 'EINVAL';
  yield* m.port.point('store', 'frame');
`,
    },
  ],
  killedBy: [
    'memory/referencesEqualUses',
    'harness/countersEqualTheModel',
    'harness/bothSidesAgree',
    'harness/refusalsHaveNoOtherEffects',
    'harness/nothingIsLeftBehind',
    'harness/noAssertionFails',
  ],
  trace: 'trace.json',
  note: 'Of translated domains only the control domain may make the call here, for frames of its own.',
};
