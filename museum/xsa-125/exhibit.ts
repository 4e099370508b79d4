// XSA-125: a mapping of devices goes on as long as there are frames. See README.md for the story.
// A first reader may skip the edit's text.

import type { Exhibit } from '../exhibit.ts';

export const exhibit: Exhibit = {
  id: 'xsa-125',
  title: 'A mapping of devices of any length is made in one call',
  year: 2015,
  mechanism: 'memory',
  class: 'sequential',
  invariants: ['WORK'],
  source: 'XSA-125, "Long latency MMIO mapping operations are not preemptible"',
  edits: [
    {
      file: 'memory/mmio.ts',
      before: '    if (left === 0) {\n',
      after: '    if (left === -m.geometry.deviceFrames) {\n',
    },
  ],
  killedBy: ['harness/workIsBounded'],
  trace: 'trace.json',
  note: 'Needs a domain that may have many devices and a mapping of them all in pieces that each cost a table or a flush.',
};
