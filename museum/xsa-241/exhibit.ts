// XSA-241: a stamp is read before others act and stored after it. See README.md for the story.
// A first reader may skip the edit's text.

import type { Exhibit } from '../exhibit.ts';

export const exhibit: Exhibit = {
  id: 'xsa-241',
  title: 'When a frame was used by its type last is read too early',
  year: 2017,
  mechanism: 'tlb',
  class: 'interleaved',
  invariants: ['STALE', 'PTW'],
  source: 'XSA-241, "Stale TLB entry due to page type release race"; fixed in Xen by commit 23a183607a',
  edits: [
    {
      file: 'pv/release.ts',
      before: `  yield* m.port.point('reference', 'frame');
  while (pageLock.get(mfn) !== 0 && frameTypeCount.get(mfn) === 1) {
`,
      after: `  const time = m.f.tlbClock.get(0);
  yield* m.port.point('reference', 'frame');
  while (pageLock.get(mfn) !== 0 && frameTypeCount.get(mfn) === 1) {
`,
    },
    {
      file: 'pv/release.ts',
      before: `    setCount(m, mfn, count - 1);
    return undefined;
`,
      after: `    setCount(m, mfn, count - 1, time);
    return undefined;
`,
    },
    {
      file: 'pv/release.ts',
      before: `export function setCount(m: Machine, mfn: number, count: number): void {
  m.f.frameTypeCount.set(mfn, count);
  if (count === 0) m.f.frameTypeStamp.set(mfn, m.f.tlbClock.get(0));
}
`,
      after: `export function setCount(m: Machine, mfn: number, count: number, time = m.f.tlbClock.get(0)): void {
  m.f.frameTypeCount.set(mfn, count);
  if (count === 0) m.f.frameTypeStamp.set(mfn, time);
}
`,
    },
  ],
  killedBy: [
    'tlb/nothingInvalidatedIsRemembered',
    'hap/noCacheOutlivesItsFlush',
    'hap/noGuestWritesTables',
    'harness/nothingIsUsedPastItsFlush',
    'harness/bothSidesAgree',
  ],
  trace: 'trace.json',
  note: 'Not found by any hunt yet: between two acts of one vCPU another must map the frame, be flushed, write it and unmap it again. The trace is written by hand. The stamp of a frame that is freed is left as it is: nothing leads to it any more when it is read.',
};
