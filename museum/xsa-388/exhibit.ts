// XSA-388: populate-on-demand takes every range for aligned to its size. See README.md for the story.
// A first reader may skip the edit's text.

import type { Exhibit } from '../exhibit.ts';

export const exhibit: Exhibit = {
  id: 'xsa-388',
  title: 'Populate-on-demand trusts that ranges are aligned to their order',
  year: 2021,
  mechanism: 'memory',
  class: 'sequential',
  invariants: ['M2P', 'REF', 'CRASH', 'MUST'],
  source: 'XSA-388, "PoD operations on misaligned GFNs"; fixed in Xen by commit 182c737b9b',
  edits: [
    {
      file: 'memory/pod.ts',
      before: `  let fit = 0;
  while (fit < order && gfn % pow2(fit + 1) === 0) fit += 1;
  return fit;
`,
      after: '  return gfn < 0 ? 0 : order;\n',
    },
  ],
  killedBy: [
    'hap/whatIsOwedIsReached',
    'memory/cacheIsSetAside',
    'memory/demandIsCounted',
    'memory/inverseMapIsInverse',
    'harness/countersEqualTheModel',
    'harness/bothMapsAgree',
    'harness/refusalsHaveNoOtherEffects',
    'harness/noAssertionFails',
    'harness/bothSidesAgree',
  ],
  trace: 'trace.json',
  note: 'The one function by which ranges are cut serves marking and giving back, so one edit restores both defects.',
};
