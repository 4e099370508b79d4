// XSA-277: what is not there is refused with the lock kept. See README.md for the story.
// A first reader may skip the edit's text.

import type { Exhibit } from '../exhibit.ts';

export const exhibit: Exhibit = {
  id: 'xsa-277',
  title: 'Nothing at a gfn that is given back keeps the P2M lock',
  year: 2018,
  mechanism: 'memory',
  class: 'sequential',
  invariants: ['LOCK'],
  source: 'XSA-277, "x86: incorrect error handling for guest p2m page removals"; fixed in Xen by commit d80988cfc0',
  edits: [
    {
      file: 'memory/reservation.ts',
      before: `    yield* unlockP2m(m, target);
    if (errno === 'ENOENT' && gone > 0) gone -= 1;
`,
      after: `    if (errno !== 'ENOENT') yield* unlockP2m(m, target);
    if (errno === 'ENOENT' && gone > 0) gone -= 1;
`,
    },
  ],
  killedBy: ['harness/noLockIsKept', 'harness/bothSidesAgree', 'harness/noAssertionFails', 'harness/noLockIsKept'],
  trace: 'trace.json',
  note: 'The second of its patches is about alternate P2Ms, which are not here.',
};
