// XSA-292: what processors pick up between a flush and the load of another root stays. See README.md for the story.
// A first reader may skip the edit's text.

import type { Exhibit } from '../exhibit.ts';

export const exhibit: Exhibit = {
  id: 'xsa-292',
  title: 'The root is loaded without a flush, for one came just before',
  year: 2019,
  mechanism: 'pv',
  class: 'interleaved',
  invariants: ['STALE'],
  source: 'XSA-292, "x86: insufficient TLB flushing when using PCID"; fixed in Xen by commit 6e5f22ba43',
  edits: [
    {
      file: 'pv/roots.ts',
      before: `  yield* m.port.point('store', 'domain');
  const old = m.f.vcpuRoot.getWide(key);
  m.f.vcpuRoot.setWide(key, mfn);
  yield* forgetOf(m, key);
`,
      after: `  if (m.pvPcids) yield* forgetOf(m, key);
  yield* m.port.point('store', 'domain');
  const old = m.f.vcpuRoot.getWide(key);
  m.f.vcpuRoot.setWide(key, mfn);
  if (!m.pvPcids) yield* forgetOf(m, key);
`,
    },
  ],
  killedBy: ['tlb/nothingInvalidatedIsRemembered', 'harness/bothSidesAgree'],
  trace: 'trace.json',
  note: 'A flush and what it is for, in the wrong order. Not found by any hunt yet: in the gap, which is a few instructions wide, the processor must walk ahead. The trace is written by hand.',
};
