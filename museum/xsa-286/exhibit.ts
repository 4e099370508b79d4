// XSA-286: entries are edited through a window that is not flushed. See README.md for the story.
// A first reader may skip the edit's text.

import type { Exhibit } from '../exhibit.ts';

export const exhibit: Exhibit = {
  id: 'xsa-286',
  title: 'The window on the lowest tables shows what was there before',
  year: 2020,
  mechanism: 'pv',
  class: 'stale',
  invariants: ['STALE', 'PTW', 'REF'],
  source: 'XSA-286, "x86 PV guest INVLPG-like flushes may leave stale TLB entries"; fixed in Xen by commit 16a20963b3',
  edits: [
    {
      file: 'pv/mapping.ts',
      before: `  const changed = isTable ? yield* changeEntry(m, { mfn, level: 1, owner: agent.domain }, entry) : 'EINVAL';
`,
      after: `  const seen = inWindow(m, agent, page) ?? mfn;
  const changed = isTable ? yield* changeEntry(m, { mfn: seen, level: 1, owner: agent.domain }, entry) : 'EINVAL';
`,
    },
    {
      file: 'pv/mapping.ts',
      before: `function* change(m: Machine, agent: VcpuAgent, op: Mapping): Step<Errno | undefined> {
`,
      after: `/** The lowest table of a page as the processor remembers it. */
function inWindow(m: Machine, agent: VcpuAgent, page: number): number | undefined {
  const { linearAsid, linearBits, linearLevel, linearMfn, linearPage, linearPcid, pcpuAsid, vcpuOn, vcpuPcid } = m.f;
  const key = keyOf(m, agent);
  const pcpu = vcpuOn.get(key) - 1;
  const size = m.geometry.capacity.cacheEntries;
  for (let slot = pcpu * size; pcpu >= 0 && slot < (pcpu + 1) * size; slot += 1) {
    if (linearLevel.get(slot) !== 2 || Math.floor(linearBits.get(slot) / 8) % 2 === 1) continue;
    if (linearAsid.get(slot) !== pcpuAsid.get(pcpu) || linearPcid.get(slot) !== vcpuPcid.get(key)) continue;
    const span = m.walker.span[2] as number;
    if (Math.floor(linearPage.getWide(slot) / span) === Math.floor(page / span)) return linearMfn.get(slot);
  }
  return undefined;
}

function* change(m: Machine, agent: VcpuAgent, op: Mapping): Step<Errno | undefined> {
`,
    },
    {
      file: 'pv/update.ts',
      before: `  if (level > 1) yield* flushNative(m, () => pcpusOf(m, owner), true);
`,
      after: `  if (level > 1 && pcpusOf(m, owner).length > 0) {
    yield* m.port.point('flush', 'cache');
    m.port.choose({ kind: 'forgotten' });
  }
`,
    },
    {
      file: 'pv/update.ts',
      before: `import { flushNative, pcpusOf } from '../tlb/flush.ts';
`,
      after: `import { pcpusOf } from '../tlb/flush.ts';
`,
    },
  ],
  killedBy: [
    'harness/everyActIsAuthorised',
    'hap/noGuestWritesTables',
    'hap/nobodyReachesWhatIsNotTheirs',
    'hap/noCacheOutlivesItsFlush',
    'tlb/nothingInvalidatedIsRemembered',
    'tlb/linearFramesAreOfThisLife',
    'pv/typeCountsEqualUses',
    'memory/referencesEqualUses',
    'harness/countersEqualTheModel',
    'harness/bothSidesAgree',
  ],
  trace: 'trace.json',
  note: 'The window is what the processor remembers of the way to the lowest table. At the time it was a self-reference in the root, through which the hypervisor read and wrote.',
};
