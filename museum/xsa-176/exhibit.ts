// XSA-176: the hypervisor's own walker takes a page-size bit that is reserved for an ordinary entry. See README.md for the story.
// A first reader may skip the edit's text.

import type { Exhibit } from '../exhibit.ts';

export const exhibit: Exhibit = {
  id: 'xsa-176',
  title: 'The software walker descends through entries whose page-size bit is reserved',
  year: 2016,
  mechanism: 'paging',
  class: 'sequential',
  invariants: ['WALK', 'refines'],
  source:
    'XSA-176, "x86 software guest page walk PS bit handling flaw"; fixed in Xen 4.7 by "x86/mm: fully honor PS bits in guest page table walks"',
  edits: [
    {
      file: 'paging/guest-walk.ts',
      before: '  if (level > superpageLevels && hasAll(entry.lo, superpage)) return true;\n',
      after: '',
    },
  ],
  killedBy: [
    'paging/guestTablesAreWalkedArchitecturally',
    'harness/refusalsHaveNoOtherEffects',
    'harness/bothSidesAgree',
  ],
  trace: 'trace.json',
  note: 'Needs an entry of the root table with the page-size bit set, and a hypercall that finds its memory through it.',
};
