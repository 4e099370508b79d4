// Synthetic mutants of the rules by which processors are made to forget (impl/tlb). One rule each.
// What synthetic mutants are is in synthetic.ts. A first reader may skip the edits.
// Sources of the rules: AMD64 APM vol. 2, "TLB Control"; Intel SDM vol. 3C, "Operations that Invalidate Cached Mappings"; Xen
// arch/x86/flushtlb.c, arch/x86/hvm/asid.c, mm/p2m-ept.c.

import type { Mutant } from './synthetic.ts';

/** Laws about what processors remember, and those that see what comes of it. */
const killedBy = [
  'tlb/cachedTablesAreStillTables',
  'tlb/cachedFramesAreOfThisLife',
  'tlb/cachedEntriesAreOfTheRunningDomain',
  'hap/noCacheOutlivesItsFlush',
  'hap/nobodyReachesWhatIsNotTheirs',
  'harness/nothingIsUsedPastItsFlush',
  'harness/bothSidesAgree',
] as const;

const mutant = (name: string, title: string, edit: readonly [file: string, before: string, after: string]): Mutant => ({
  id: `synthetic-${name}`,
  title,
  mechanism: 'tlb',
  breaks: 'flushes',
  by: 'runs',
  edits: [{ file: `tlb/${edit[0]}.ts`, before: edit[1], after: edit[2] }],
  killedBy,
});

/** All of them. */
export const flushMutants: readonly Mutant[] = [
  mutant('asid-interrupted', 'An interruption does not end the generation of a core', ['asid', 'interrupted: flushCore,', 'interrupted: () => undefined,']), // prettier-ignore
  mutant('asid-switch', 'A core that changes vCPUs goes on with the same generation', ['asid', '  flushCore(m, pcpu);\n  if (m.f.vcpuCore', '  if (m.f.vcpuCore']), // prettier-ignore
  mutant('asid-migration', 'A vCPU takes its ASID to another core', ['asid', '.get(key) === pcpu + 1) return;', '.get(key) !== 0) return;']), // prettier-ignore
  mutant('asid-wrap', 'A generation that wraps goes on', ['asid', 'if (m.f.asidGeneration.add(pcpu, 1) === NO_GENERATION) m.f.asidDisabled.set(pcpu, 1);', 'm.f.asidGeneration.add(pcpu, 1);']), // prettier-ignore
  mutant('asid-disabled', 'Without ASIDs of its own a core flushes nothing at entry', ['asid', "{ asid: FIRST_ASID, forget: 'asid' }", "{ asid: FIRST_ASID, forget: 'nothing' }"]), // prettier-ignore
  mutant('ept-mark-one', 'A change of tables marks the first pCPU alone', ['ept', 'pow2(m.pcpus) - 1', 'bit(0)']),
  mutant('ept-execute-all', 'A pCPU that invalidates settles the marks of all', ['ept', 'without(m.f.eptInvalidate.get(dom), bit(pcpu))', 'without(0, bit(pcpu))']), // prettier-ignore
  mutant('ept-enter', 'VM entry does not look at what is marked', ['ept', '  if (root !== 0 && isPending(m, pcpu, dom)) execute', '  if (root === 0 && isPending(m, pcpu, dom)) execute']), // prettier-ignore
  mutant('domain-first', 'A flush of a domain leaves out the first pCPU', ['flush', 'for (let pcpu = 0; pcpu < m.pcpus; pcpu += 1) if (domainOn(m, pcpu) === dom) yield* interrupt', 'for (let pcpu = 1; pcpu < m.pcpus; pcpu += 1) if (domainOn(m, pcpu) === dom) yield* interrupt']), // prettier-ignore
  mutant('stamp-equal', 'A pCPU interrupted at the time of the stamp counts as settled', ['flush', 'm.f.pcpuTime.get(pcpu) <= stamped', 'm.f.pcpuTime.get(pcpu) < stamped']), // prettier-ignore
  mutant('stamp-first', 'Of a run of frames only the first one is looked at', ['flush', 'mfn < run.mfn + run.count', 'mfn < run.mfn + 1']), // prettier-ignore
  mutant('clock-wrap', 'The clock wraps without anybody being interrupted', ['flush', 'if (before !== 0 && time === 0) yield* beginPeriod(m, pcpu);', 'if (before !== 0 && time === 0) m.f.tlbClock.set(0, 1);']), // prettier-ignore
  mutant('schedule-switch', 'Flush rules are not told of a vCPU that comes', ['step', '  m.flushing.switched(m, pcpu, key);\n', '']), // prettier-ignore
];
