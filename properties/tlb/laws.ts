// What must hold of cached translations, judged on the hardware's own rings, at every pause and every return.
// Which entries a processor may use is decided by their tag alone. What is needed of an entry is the same in both formats.
// Entry layout: Intel SDM vol. 3C, "EPT Translation Mechanism"; AMD64 APM vol. 2, "Long-Mode Page Translation".

import { framesPerLeaf } from '#abi/geometry.ts';
import { frameRoles } from '#abi/roles.ts';
import type { Machine } from '#impl/machine.ts';
import { frameBelow } from '../harness/entry.ts';
import type { AlwaysLaw, Problem } from '../harness/law.ts';
import type { Leaf } from '../harness/leaf.ts';
import type { View } from '../harness/view.ts';

/** No pCPU can walk through a table page that has been given back: its next content would be taken for translations. */
export const cachedTablesAreStillTables: AlwaysLaw = {
  kind: 'always',
  id: 'tlb/cachedTablesAreStillTables',
  invariant: 'STALE',
  statement: 'While a processor may use a cached upper entry, the page it points to is the table that it was.',
  judge: (view) => judgeSlots(view, tableProblem),
};

/** No pCPU holds a way to a frame that has been handed over to somebody else. */
export const cachedFramesAreOfThisLife: AlwaysLaw = {
  kind: 'always',
  id: 'tlb/cachedFramesAreOfThisLife',
  invariant: 'STALE',
  statement: 'While a processor may use a cached translation, its frame has not been handed over anew.',
  judge: (view) => judgeSlots(view, leafProblem),
};

/** ASIDs and roots are used for one domain after another; what was loaded for one must not serve the next. */
export const cachedEntriesAreOfTheRunningDomain: AlwaysLaw = {
  kind: 'always',
  id: 'tlb/cachedEntriesAreOfTheRunningDomain',
  invariant: 'STALE',
  statement: 'While a processor may use a cached entry, it is one that was loaded for the domain it runs.',
  judge: (view) => judgeSlots(view, domainProblem),
};

/** What is wrong with the entry in `slot` of a pCPU that runs `domain`. */
type SlotJudge = (m: Machine, slot: number, domain: number) => Problem | undefined;

/** Looks at every usable ring entry of pCPUs whose entries or frames may have changed. */
function judgeSlots({ machine, touched, reach, audit, looks }: View, judge: SlotJudge): Problem | undefined {
  const { f, geometry } = machine;
  const isQuiet =
    touched.slots.size === 0 && touched.frames.size === 0 && touched.pcpus.size === 0 && touched.roots.size === 0;
  if (isQuiet && !audit) return undefined;
  const { cacheEntries } = geometry.capacity;
  for (let pcpu = 0; pcpu < geometry.capacity.pcpus; pcpu += 1) {
    const domain = reach.domainOn(pcpu);
    const tag = reach.tagOn(pcpu);
    if (tag === 0) continue;
    for (let slot = pcpu * cacheEntries; slot < (pcpu + 1) * cacheEntries; slot += 1) {
      if (f.cacheTag.get(slot) !== tag) continue;
      looks?.('tlb');
      const problem = judge(machine, slot, domain);
      if (problem !== undefined)
        return { ...problem, sentence: `pCPU ${pcpu} (running d${domain}) ${problem.sentence}` };
    }
  }
  return undefined;
}

const isLeaf = (level: number, lo: number): boolean => level === 1 || Math.floor(lo / 128) % 2 === 1;

/** Frame number in a cached entry; the first of a superpage is aligned, its bit 12 may mean something else. */
function frameOf(m: Machine, slot: number): number {
  const level = m.f.cacheLevel.get(slot);
  const lo = m.f.cacheLo.get(slot);
  const mfn = frameBelow({ lo, hi: m.f.cacheHi.get(slot) });
  return isLeaf(level, lo) ? mfn - (mfn % framesPerLeaf(m.geometry, level)) : mfn;
}

/** Whether the cached leaf in `slot` gives the frame that `now` gives for its first gfn; undefined: it is no leaf. */
export function isSameFrame(m: Machine, slot: number, now: Leaf | undefined): boolean | undefined {
  if (!isLeaf(m.f.cacheLevel.get(slot), m.f.cacheLo.get(slot))) return undefined;
  return now !== undefined && now.mfn + (m.f.cacheGfn.getWide(slot) - now.gfn) === frameOf(m, slot);
}

function tableProblem(m: Machine, slot: number): Problem | undefined {
  const { f } = m;
  if (isLeaf(f.cacheLevel.get(slot), f.cacheLo.get(slot))) return undefined;
  const mfn = frameOf(m, slot);
  if (mfn >= m.geometry.frameCount) return undefined;
  if (f.frameIsTable.get(mfn) === 1 && f.tableLife.get(mfn) === f.cacheLife.get(slot)) return undefined;
  const role = frameRoles[f.frameRole.get(mfn)] ?? 'free';
  const sentence = `can still walk through page ${mfn}, which is no longer that table (${role})`;
  return { invariant: 'STALE', mechanism: 'tlb', field: 'cache.table', sentence };
}

function leafProblem(m: Machine, slot: number): Problem | undefined {
  const { f } = m;
  if (!isLeaf(f.cacheLevel.get(slot), f.cacheLo.get(slot))) return undefined;
  const mfn = frameOf(m, slot);
  if (mfn >= m.geometry.frameCount || f.frameIncarnation.get(mfn) === f.cacheLife.get(slot)) return undefined;
  const sentence = `still holds a translation to frame ${mfn} made before it was handed over anew`;
  return { invariant: 'STALE', mechanism: 'tlb', field: 'cache.frame', sentence };
}

function domainProblem(m: Machine, slot: number, domain: number): Problem | undefined {
  const loadedFor = Math.floor((m.f.cacheVcpu.get(slot) - 1) / m.geometry.capacity.vcpusPerDomain);
  if (loadedFor === domain) return undefined;
  const sentence = `may use an entry for gfn ${m.f.cacheGfn.getWide(slot)} that was loaded for d${loadedFor}`;
  return { invariant: 'STALE', mechanism: 'tlb', field: 'cache.domain', sentence };
}

export const tlbLaws: readonly AlwaysLaw[] = [
  cachedTablesAreStillTables,
  cachedFramesAreOfThisLife,
  cachedEntriesAreOfTheRunningDomain,
];
