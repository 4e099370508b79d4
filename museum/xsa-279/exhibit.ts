// XSA-279: a refused update is followed by its flush. See README.md for the story.
// A first reader may skip the edit's text.

import type { Exhibit } from '../exhibit.ts';

export const exhibit: Exhibit = {
  id: 'xsa-279',
  title: 'A flush is made though what it was for was refused',
  year: 2018,
  mechanism: 'pv',
  class: 'sequential',
  invariants: ['CRASH', 'ERR'],
  source:
    'XSA-279, "x86: DoS from attempting to use INVPCID with a non-canonical addresses"; fixed in Xen by commit 6c8d502887',
  edits: [
    {
      file: 'pv/mapping.ts',
      before: `  const errno = yield* change(m, agent, op);
  if (errno !== undefined) return reply(errno);
  if (op.flush`,
      after: `  const errno = yield* change(m, agent, op);
  if (op.flush`,
    },
    {
      file: 'pv/mapping.ts',
      before: `    yield* flushFor(m, agent, { whose: whose(op), what });
  }
  return reply('ok');
`,
      after: `    yield* flushFor(m, agent, { whose: whose(op), what });
  }
  return reply(errno ?? 'ok');
`,
    },
    {
      file: 'pv/flush.ts',
      before: `  if (!isCanonical(m, page)) return true;
  const { levels }`,
      after: `  if (!isCanonical(m, page)) return false;
  const { levels }`,
    },
    {
      file: 'pv/flush.ts',
      before: `  if (what === 'everything') yield* forgetAll(m, pcpus, false);
`,
      after: `  if (what !== 'everything' && m.pvPcids) invariant(isCanonical(m, what.page), 'INVPCID names what is an address');
  if (what === 'everything') yield* forgetAll(m, pcpus, false);
`,
    },
    {
      file: 'pv/flush.ts',
      before: `import { bit, hasAll } from '#lib/bits.ts';
`,
      after: `import { bit, hasAll } from '#lib/bits.ts';
import { invariant } from '#lib/invariant.ts';
`,
    },
  ],
  killedBy: [
    'harness/noAssertionFails',
    'harness/bothSidesAgree',
    'harness/refusalsHaveNoOtherEffects',
    'paging/guestTablesAreWalkedArchitecturally',
    'harness/nothingIsUsedPastItsFlush',
  ],
  trace: 'trace.json',
  note: 'That the instruction faults is an assertion of the copy: processors here take any address.',
};
