// XSA-45: the last use of a tree ends without a check. See README.md for the story.
// A first reader may skip the edit's text.

import type { Exhibit } from '../exhibit.ts';

export const exhibit: Exhibit = {
  id: 'xsa-45',
  title: 'Roots and pins end without a look whether to stop',
  year: 2013,
  mechanism: 'pv',
  class: 'sequential',
  invariants: ['WORK'],
  source:
    'XSA-45, "Several long latency operations are not preemptible"; fixed in Xen by commits 6cdc9be2a5, e2e6b7b627, 918a5f17b4 and a3e049f8e8',
  edits: [
    {
      file: 'pv/extended.ts',
      before: `  const { command, frame } = element;
  if (isPinning(command)) {
`,
      after: `  const { command, frame } = element;
  if (command === 'unpin' || command === 'newBaseptr' || command === 'newUserBaseptr') running(m).stopsWithin = false;
  else if (paravirtualIn(m, call) !== undefined) running(m).stopsWithin = true;
  if (isPinning(command)) {
`,
    },
    {
      file: 'pv/extended.ts',
      before: `import { begin, conclude, type Outcome } from './parked.ts';
`,
      after: `import { running } from './frames.ts';
import { begin, conclude, type Outcome } from './parked.ts';
`,
    },
    {
      file: 'pv/roots.ts',
      before: `    const stopped = yield* putPageAndType(m, mfn);
    keep(m, key);
    return stopped ?? true;
`,
      after: `    running(m).stopsWithin = false;
    const stopped = yield* putPageAndType(m, mfn);
    running(m).stopsWithin = true;
    keep(m, key);
    return stopped ?? true;
`,
    },
  ],
  killedBy: ['harness/workIsBounded', 'harness/bothSidesAgree'],
  trace: 'trace.json',
  note: 'Four of seven paths; resetting a vCPU and giving it a context are not here or never stop, and error paths wait as they do.',
};
