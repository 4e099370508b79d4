// XSA-32: a frame number beyond memory is looked up. See README.md for the story.
// A first reader may skip the edit's text.

import type { Exhibit } from '../exhibit.ts';

export const exhibit: Exhibit = {
  id: 'xsa-32',
  title: 'The look-up of a frame does not ask whether there is one',
  year: 2012,
  mechanism: 'pv',
  class: 'sequential',
  invariants: ['XEN', 'CRASH'],
  source: 'XSA-32, "several hypercalls do not validate input GFNs"; fixed in Xen by commit e662eca49c',
  edits: [
    {
      file: 'pv/frames.ts',
      before: `  isMemory(m, mfn) && m.f.frameOwner.get(mfn) === owner + 1 && owned.includes(m.f.frameRole.get(mfn));
`,
      after: `  m.f.frameOwner.get(mfn) === owner + 1 && owned.includes(m.f.frameRole.get(mfn));
`,
    },
  ],
  killedBy: ['harness/noGuestAddressesTheHypervisor', 'harness/noAssertionFails'],
  trace: 'trace.json',
  note: 'Any number will do that is too large.',
};
