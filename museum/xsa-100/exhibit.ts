// XSA-100: pages that the hypervisor has used itself go back to the heap with their contents. See README.md for the story.
// A first reader may skip the edit's text.

import type { Exhibit } from '../exhibit.ts';

export const exhibit: Exhibit = {
  id: 'xsa-100',
  title: "The hypervisor's own pages return to the heap unscrubbed",
  year: 2014,
  mechanism: 'memory',
  class: 'sequential',
  invariants: ['LEAK'],
  source: 'XSA-100, "Hypervisor heap contents leaked to guests"; fixed in Xen by commit 4bd78937ec',
  edits: [
    {
      file: 'memory/heap.ts',
      before: "  f.frameDirty.set(mfn, isLiveRam && policies.scrub === 'dying' ? 0 : 1);\n",
      after: `  const isOwn = role === XEN || frameRoles[role] === 'pool';
  f.frameDirty.set(mfn, isOwn || (isLiveRam && policies.scrub === 'dying') ? 0 : 1);
`,
    },
  ],
  killedBy: [
    'memory/newFramesTellNothing',
    'memory/erasedFramesAreErased',
    'harness/framesAreErasedBeforeTheyAreHandedOver',
    'harness/bothSidesAgree',
  ],
  trace: 'trace.json',
  note: 'Contents alone betray it: every table, count and right is as it should be.',
};
