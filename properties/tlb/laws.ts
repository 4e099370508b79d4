// What must hold of cached translations, judged on the hardware's own rings, at every pause and every return.
// Entry layout: Intel SDM vol. 3C, "EPT Translation Mechanism".

import { frameRoles } from '#abi/roles.ts';
import type { AlwaysLaw, Problem } from '../harness/law.ts';
import type { View } from '../harness/view.ts';

/** No pCPU can walk through a table page that has been given back: its next content would be taken for translations. */
export const cachedTablesAreStillTables: AlwaysLaw = {
  kind: 'always',
  id: 'tlb/cachedTablesAreStillTables',
  invariant: 'STALE',
  statement: 'While a processor may use a cached upper entry, the page it points to is the table that it was.',
  judge: (view) => judgeSlots(view, 'table'),
};

/** No pCPU holds a way to a frame that has been handed over to somebody else. */
export const cachedFramesAreOfThisLife: AlwaysLaw = {
  kind: 'always',
  id: 'tlb/cachedFramesAreOfThisLife',
  invariant: 'STALE',
  statement: 'While a processor may use a cached translation, its frame has not been handed over anew.',
  judge: (view) => judgeSlots(view, 'leaf'),
};

/** Looks at every usable ring entry of pCPUs whose entries or frames may have changed. */
function judgeSlots({ machine, touched, reach, audit }: View, kind: 'table' | 'leaf'): Problem | undefined {
  const { f, geometry } = machine;
  const isQuiet =
    touched.slots.size === 0 && touched.frames.size === 0 && touched.pcpus.size === 0 && touched.roots.size === 0;
  if (isQuiet && !audit) return undefined;
  const { cacheEntries } = geometry.capacity;
  for (let pcpu = 0; pcpu < geometry.capacity.pcpus; pcpu += 1) {
    const domain = reach.domainOn(pcpu);
    const root = reach.tagOn(pcpu);
    if (root === 0) continue;
    for (let slot = pcpu * cacheEntries; slot < (pcpu + 1) * cacheEntries; slot += 1) {
      if (f.cacheTag.get(slot) !== root) continue;
      const problem = kind === 'table' ? tableProblem(machine, slot) : leafProblem(machine, slot);
      if (problem !== undefined)
        return { ...problem, sentence: `pCPU ${pcpu} (running d${domain}) ${problem.sentence}` };
    }
  }
  return undefined;
}

/** Frame number in a cached entry: bits 12..51. */
const frameOf = (lo: number, hi: number): number => Math.floor(lo / 4096) + (hi % 0x10_0000) * 0x10_0000;

const isLeaf = (level: number, lo: number): boolean => level === 1 || Math.floor(lo / 128) % 2 === 1;

function tableProblem(m: View['machine'], slot: number): Problem | undefined {
  const { f } = m;
  const lo = f.cacheLo.get(slot);
  if (isLeaf(f.cacheLevel.get(slot), lo)) return undefined;
  const mfn = frameOf(lo, f.cacheHi.get(slot));
  if (mfn >= m.geometry.frameCount) return undefined;
  if (f.frameIsTable.get(mfn) === 1 && f.tableLife.get(mfn) === f.cacheLife.get(slot)) return undefined;
  const role = frameRoles[f.frameRole.get(mfn)] ?? 'free';
  const sentence = `can still walk through page ${mfn}, which is no longer that table (${role})`;
  return { invariant: 'STALE', mechanism: 'tlb', field: 'cache.table', sentence };
}

function leafProblem(m: View['machine'], slot: number): Problem | undefined {
  const { f } = m;
  const lo = f.cacheLo.get(slot);
  if (!isLeaf(f.cacheLevel.get(slot), lo)) return undefined;
  const mfn = frameOf(lo, f.cacheHi.get(slot));
  if (mfn >= m.geometry.frameCount || f.frameIncarnation.get(mfn) === f.cacheLife.get(slot)) return undefined;
  const sentence = `still holds a translation to frame ${mfn} made before it was handed over anew`;
  return { invariant: 'STALE', mechanism: 'tlb', field: 'cache.frame', sentence };
}

export const tlbLaws: readonly AlwaysLaw[] = [cachedTablesAreStillTables, cachedFramesAreOfThisLife];
