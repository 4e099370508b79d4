// What must hold of what processors remember of guests' own tables, judged on their rings at every pause and return: whatever
// can be used by the vCPU that runs was loaded for it, leads to frames as they are now, and was not invalidated.
// A first reader may skip the first function. Sources: Intel SDM vol. 3A, "Operations that Invalidate TLBs and Paging-Structure
// Caches"; vol. 3C, "VPIDs and EPT"; AMD64 APM vol. 2, "TLB Control".

import { and } from '#lib/bits.ts';
import type { Machine } from '#impl/machine.ts';
import type { State } from '#model/state.ts';
import type { AlwaysLaw, Problem } from '../harness/law.ts';
import { hasDirect } from '../harness/direct-reach.ts';
import { isLinearUsable } from '../harness/linear-reach.ts';
import type { View } from '../harness/view.ts';

/** What is wrong with the entry in a slot that the vCPU at `key` can use. */
type SlotJudge = (m: Machine, slot: number, key: number) => Problem | undefined;

/** Looks at every usable entry of pCPUs, if any may have changed. */
function judgeSlots({ machine, touched, audit, looks }: View, judge: SlotJudge): Problem | undefined {
  const { f, geometry } = machine;
  const isQuiet =
    touched.linear.size === 0 && touched.frames.size === 0 && touched.pcpus.size === 0 && touched.roots.size === 0;
  if (isQuiet && touched.vcpus.size === 0 && !audit) return undefined;
  const { cacheEntries } = geometry.capacity;
  for (let slot = 0; slot < machine.pcpus * cacheEntries; slot += 1) {
    if (f.linearLevel.get(slot) === 0 || !isLinearUsable(machine, slot)) continue;
    looks?.('tlb');
    const pcpu = Math.floor(slot / cacheEntries);
    const key = f.pcpuVcpu.get(pcpu) - 1;
    const problem = judge(machine, slot, key);
    if (problem === undefined) continue;
    const { vcpusPerDomain } = geometry.capacity;
    const whose = `pCPU ${pcpu} (running d${Math.floor(key / vcpusPerDomain)}v${key % vcpusPerDomain})`;
    return { ...problem, sentence: `${whose} ${problem.sentence}` };
  }
  return undefined;
}

const stale = (field: string, sentence: string): Problem => ({ invariant: 'STALE', mechanism: 'tlb', field, sentence });

/** VPIDs and ASIDs are given to one vCPU after another. */
export const linearEntriesAreOfTheRunningVcpu: AlwaysLaw = {
  kind: 'always',
  id: 'tlb/linearEntriesAreOfTheRunningVcpu',
  invariant: 'STALE',
  statement: 'While a processor may use what was loaded through a guest\'s own tables, it was loaded for the vCPU that runs.', // prettier-ignore
  judge: (view) =>
    judgeSlots(view, ({ f }, slot, key) =>
      f.linearVcpu.get(slot) === key + 1
        ? undefined
        : stale('linear.vcpu', `may use linear frame ${f.linearPage.getWide(slot)} as loaded for another vCPU`),
    ),
};

/** Pages and tables of a guest are frames like others: freed, and given to somebody else. */
export const linearFramesAreOfThisLife: AlwaysLaw = {
  kind: 'always',
  id: 'tlb/linearFramesAreOfThisLife',
  invariant: 'STALE',
  statement: 'While a processor may use what was loaded through a guest\'s own tables, its frame has not been handed over anew.', // prettier-ignore
  judge: (view) =>
    judgeSlots(view, ({ f, geometry }, slot) => {
      const mfn = f.linearMfn.get(slot);
      if (mfn >= geometry.frameCount || f.frameIncarnation.get(mfn) === f.linearLife.get(slot)) return undefined;
      return stale('linear.frame', `still reaches frame ${mfn} as it was before it was handed over anew`);
    }),
};

const PAGE = 8;
const GLOBAL = 16;

/** Whether the model lets the vCPU at `key` remember what is in the slot. */
function isLoaded({ f }: Machine, state: State, slot: number, key: number): boolean {
  const bits = f.linearBits.get(slot);
  return (state.contexts.get(key)?.loaded ?? []).some(
    (one) =>
      one.mfn === f.linearMfn.get(slot) &&
      one.gfn === f.linearGfn.getWide(slot) &&
      one.page === f.linearPage.getWide(slot) &&
      one.level === f.linearLevel.get(slot) &&
      one.rights === f.linearRights.get(slot) &&
      one.guest === bits % PAGE &&
      one.leaf === (and(bits, PAGE) !== 0) &&
      one.global === (and(bits, GLOBAL) !== 0) &&
      one.pcid === f.linearPcid.get(slot),
  );
}

/**
 * How many entries vCPUs of paravirtual guests can use that the model does not let them remember. Their tables change in steps, and
 * who walked before which step shows here alone.
 */
export function unexplainedEntries(m: Machine, state: State): number {
  if (!hasDirect(m)) return 0;
  const { pcpus, cacheEntries } = m.geometry.capacity;
  let count = 0;
  for (let slot = 0; slot < pcpus * cacheEntries; slot += 1) {
    if (m.f.linearLevel.get(slot) === 0 || !isLinearUsable(m, slot)) continue;
    if (!isLoaded(m, state, slot, m.f.pcpuVcpu.get(Math.floor(slot / cacheEntries)) - 1)) count += 1;
  }
  return count;
}

/** PCIDs, globals, single addresses: each rule of the manual names what goes, and no more need go. */
export const nothingInvalidatedIsRemembered: AlwaysLaw = {
  kind: 'always',
  id: 'tlb/nothingInvalidatedIsRemembered',
  invariant: 'STALE',
  statement: 'With nothing in flight, a vCPU can use of its own tables only what was loaded for it and not invalidated since.', // prettier-ignore
  judge: (view) => {
    if (!view.quiescent || !view.explained()) return undefined;
    const [state] = view.candidates();
    if (state === undefined) return undefined;
    return judgeSlots(view, (m, slot, key) =>
      isLoaded(m, state, slot, key)
        ? undefined
        : stale('linear.loaded', `remembers of linear frame ${m.f.linearPage.getWide(slot)} what it was to forget`),
    );
  },
};

export const linearLaws: readonly AlwaysLaw[] = [
  linearEntriesAreOfTheRunningVcpu,
  linearFramesAreOfThisLife,
  nothingInvalidatedIsRemembered,
];
