// XSA-318: what is left to do is taken for what is done. See README.md for the story.
// A first reader may skip the edit's text.

import type { Exhibit } from '../exhibit.ts';

export const exhibit: Exhibit = {
  id: 'xsa-318',
  title: 'A copy that is to stop before its first element says that it is done',
  year: 2020,
  mechanism: 'grants',
  class: 'sequential',
  invariants: ['STATUS', 'WORK'],
  source: 'XSA-318, "Bad continuation handling in GNTTABOP_copy"; fixed in Xen by commit d6f22d5d9e',
  edits: [
    {
      file: 'grants/copy.ts',
      before: `    if (index > op.start && m.port.preempts(index)) return 'preempted';
`,
      after: `    if (m.port.preempts(index)) return index > op.start ? 'preempted' : 'ok';
`,
    },
  ],
  killedBy: ['harness/workIsBounded', 'harness/bothSidesAgree', 'harness/statusBitsMatchTheState'],
  trace: 'trace.json',
  note: 'At the time the first element itself could come to nothing for want of a lock; here that is a check before it.',
};
