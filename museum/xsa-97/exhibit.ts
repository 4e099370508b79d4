// XSA-97: the log of writes is worked on in one go. See README.md for the story.
// A first reader may skip the edit's text.

import type { Exhibit } from '../exhibit.ts';

export const exhibit: Exhibit = {
  id: 'xsa-97',
  title: 'The log of writes is told, cleaned and given back in one go',
  year: 2014,
  mechanism: 'memory',
  class: 'sequential',
  invariants: ['WORK'],
  source: 'XSA-97, "Long latency virtual-mmu operations are not preemptible"; fixed in Xen by commit 95e6d82224',
  edits: [
    {
      file: 'memory/log-dirty.ts',
      before: `    const isBorder = past >= op.pages || past % framesPerBitmap(m.geometry, 1) === 0;
    if (isBorder && m.port.preempts(past)) return -past;
`,
      after: '',
    },
    {
      file: 'memory/log-dirty.ts',
      before: `import { clearLeaf, freeBitmap, giveFirst, loadBits, markGfn } from './dirty-log.ts';
`,
      after: `import { clearLeaf, freeBitmap, loadBits, markGfn } from './dirty-log.ts';
`,
    },
    {
      file: 'memory/log-dirty.ts',
      before: `  for (const from = { gfn: 0 }; yield* giveFirst(m, dom, from);)
    if (m.port.preempts(0)) return yield* stopped(m, call, { dom, action: 'disables', done: 0 });
`,
      after: '',
    },
  ],
  killedBy: [
    'harness/workIsBounded',
    'harness/bothSidesAgree',
    'harness/countersEqualTheModel',
    'harness/refusalsHaveNoOtherEffects',
  ],
  trace: 'trace.json',
  note: 'No call is ever left unfinished then, so all that keeps others from such a domain has nothing to do.',
};
