// XSA-401: processors are flushed before a frame's new type is taken. See README.md for the story.
// A first reader may skip the edit's text.

import type { Exhibit } from '../exhibit.ts';

export const exhibit: Exhibit = {
  id: 'xsa-401',
  title: 'A change of type flushes before it is committed',
  year: 2022,
  mechanism: 'pv',
  class: 'interleaved',
  invariants: ['PTW', 'STALE'],
  source: 'XSA-401, "x86 pv: Race condition in typeref acquisition"; fixed in Xen by commit 8cc5036bc3',
  edits: [
    {
      file: 'pv/types.ts',
      before: `  const isChanged = frameType.get(mfn) !== code;
  frameTypeCount.set(mfn, 1);
`,
      after: `  const isChanged = frameType.get(mfn) !== code;
  if (isChanged) {
    const was = frameType.get(mfn);
    const user = frameOwner.get(mfn) - 1;
    yield* flushNative(m, () => usersSince(m, user, frameTypeStamp.get(mfn)));
    yield* m.port.point('reference', 'frame');
    if (frameTypeCount.get(mfn) !== 0 || frameType.get(mfn) !== was) return 'EINVAL';
  }
  frameTypeCount.set(mfn, 1);
`,
    },
    {
      file: 'pv/types.ts',
      before: `  if (isChanged) yield* flushNative(m, () => usersSince(m, owner, frameTypeStamp.get(mfn)));
`,
      after: '',
    },
  ],
  killedBy: ['tlb/nothingInvalidatedIsRemembered', 'hap/noCacheOutlivesItsFlush', 'hap/noGuestWritesTables'],
  trace: 'trace.json',
  note: 'Not found by any hunt yet: in the gap another vCPU must map the frame, write it and unmap it again. The trace is written by hand.',
};
