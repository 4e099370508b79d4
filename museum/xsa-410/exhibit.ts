// XSA-410: a pool is given back without a check. See README.md for the story.
// A first reader may skip the edit's text.

import type { Exhibit } from '../exhibit.ts';

export const exhibit: Exhibit = {
  id: 'xsa-410',
  title: 'A domain that is torn down gives its pool back in one go',
  year: 2022,
  mechanism: 'memory',
  class: 'sequential',
  invariants: ['WORK'],
  source: 'XSA-410, "P2M pool freeing may take excessively long"; fixed in Xen by commit f50a2c0e1d',
  edits: [
    {
      file: 'memory/kill.ts',
      before: `  const isLeft = m.f.poolTotal.get(dom) > 0;
  if (isLeft) yield* givePoolFrame(m, dom);
  yield* unlockP2m(m, dom);
  return isLeft;
`,
      after: `  while (m.f.poolTotal.get(dom) > 0) yield* givePoolFrame(m, dom);
  yield* unlockP2m(m, dom);
  return false;
`,
    },
  ],
  killedBy: ['harness/workIsBounded', 'harness/bothSidesAgree'],
  trace: 'trace.json',
  note: 'The tables go back to the pool in one go as it stands.',
};
