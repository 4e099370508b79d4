// XSA-212: an exchange looks at where its arrays begin, and not at where it goes on in them. See README.md for the story.
// A first reader may skip the edit's text.

import type { Exhibit } from '../exhibit.ts';

export const exhibit: Exhibit = {
  id: 'xsa-212',
  title: 'An exchange that is taken up again reaches beyond the arrays that were checked',
  year: 2017,
  mechanism: 'memory',
  class: 'sequential',
  invariants: ['ACT', 'XEN'],
  source:
    'XSA-212, "x86: broken check in memory_exchange() permits PV guest breakout"; fixed in Xen by commit 938fd2586e',
  edits: [
    {
      file: 'memory/exchange.ts',
      before:
        "  return extents.by === 'value' || !isParavirtual(m, caller) || isNameable(m, { buffer: extents.buffer, index });\n",
      after:
        "  return extents.by === 'value' || !isParavirtual(m, caller) || isNameable(m, { buffer: extents.buffer, index: 0 * index });\n",
    },
  ],
  killedBy: ['harness/everyActIsAuthorised', 'harness/noGuestAddressesTheHypervisor'],
  trace: 'trace.json',
  note: "Needs a forged number of elements that are done, near the end of 64 bits, with an array just above what is the hypervisor's.",
};
