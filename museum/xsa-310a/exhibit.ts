// XSA-310A: a partial table of a dying domain is not counted. See README.md for the story.
// A first reader may skip the edit's text.

import type { Exhibit } from '../exhibit.ts';

export const exhibit: Exhibit = {
  id: 'xsa-310a',
  title: 'A table that the end of a domain leaves partial is not counted as one',
  year: 2019,
  mechanism: 'pv',
  class: 'sequential',
  invariants: ['REF', 'CRASH'],
  source: 'XSA-310, "Further issues with restartable PV type change operations"; fixed in Xen by commit 66bdc16aee',
  edits: [
    {
      file: 'memory/kill.ts',
      before: `    if (stopped !== undefined) return stopped;
    if (isAllocated) yield*`,
      after: `    if (stopped !== undefined) {
      m.f.frameTypeCount.set(mfn, 0);
      return stopped;
    }
    if (isAllocated) yield*`,
    },
  ],
  killedBy: [
    'memory/referencesEqualUses',
    'pv/typeCountsEqualUses',
    'harness/countersEqualTheModel',
    'harness/bothSidesAgree',
    'harness/noAssertionFails',
    'harness/refusalsHaveNoOtherEffects',
  ],
  trace: 'trace.json',
  note: 'The count underflowed when the rest was let go of; here it is set to 0 then.',
};
