// XSA-222: the frame is freed although its P2M entry could not be removed. See README.md for the story.
// A first reader may skip the edit's text.

import type { Exhibit } from '../exhibit.ts';

export const exhibit: Exhibit = {
  id: 'xsa-222',
  title: 'A failed removal from the P2M is ignored and the frame is freed',
  year: 2017,
  mechanism: 'memory',
  class: 'sequential',
  invariants: ['OWN', 'FREE'],
  source: 'XSA-222, "stale P2M mappings due to insufficient error checking"; fixed in Xen by commit a0cce6048d',
  edits: [
    {
      file: 'memory/reservation.ts',
      before: "  if (!(yield* setP2m(m, target, { gfn, order: 0, mfn: 0, type: 'none', done }))) return 'ENOMEM';\n",
      after: "  yield* setP2m(m, target, { gfn, order: 0, mfn: 0, type: 'none', done });\n",
    },
  ],
  killedBy: [
    'hap/nobodyReachesWhatIsNotTheirs',
    'hap/noLeafNamesAFreeFrame',
    'memory/inverseMapIsInverse',
    'memory/referencesEqualUses',
    'harness/bothMapsAgree',
    'harness/refusalsHaveNoOtherEffects',
    'harness/bothSidesAgree',
  ],
  trace: 'trace.json',
  note: 'Needs a removal that must split a superpage while the paging pool has no page to give, or fate refuses one.',
};
