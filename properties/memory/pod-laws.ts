// What must hold of memory on demand, judged on the implementation's own tables: what is owed is counted, and what is set aside for
// it is there, at no gfn, and empty. (What processors still remember of it is judged as of any frame: STALE.)
// A first reader may skip the recounts.

import type { Mfn } from '#abi/address.ts';
import { p2mTypes } from '#abi/hap.ts';
import { frameRoles } from '#abi/roles.ts';
import type { Machine } from '#impl/machine.ts';
import { frameOf, type State } from '#model/state.ts';
import type { AlwaysLaw, Problem } from '../harness/law.ts';
import type { View } from '../harness/view.ts';
import { demandRuns } from './pod-abstract.ts';

/** Domains to be recounted: those that were touched, or all. */
const domainsIn = ({ machine, touched, audit }: View): readonly number[] => {
  const all = Array.from({ length: machine.geometry.capacity.domains }, (_, id) => id);
  return audit ? all : all.filter((id) => touched.domains.has(id));
};

const problem = (invariant: Problem['invariant'], field: string, sentence: string): Problem => ({
  invariant,
  mechanism: 'memory',
  field,
  sentence,
});

/** The counter by which the hypervisor decides how much it owes is the number of entries. */
export const demandIsCounted: AlwaysLaw = {
  kind: 'always',
  id: 'memory/demandIsCounted',
  invariant: 'REF',
  statement: 'With nothing in flight, as many gfns are counted as on demand as the tables have.',
  judge: (view: View): Problem | undefined => {
    const { machine, quiescent, audit, looks } = view;
    if (!quiescent) return undefined;
    for (const id of domainsIn(view)) {
      const counted = machine.f.podEntries.get(id);
      if (counted === 0 && !audit) continue;
      if (counted > 0) looks?.('memory');
      const found = demandRuns(machine, id).reduce((sum, { from, to }) => sum + to - from, 0);
      if (found !== counted)
        return problem('REF', 'pod.entries', `d${id} counts ${counted} gfns on demand, and its tables have ${found}`);
    }
    return undefined;
  },
};

/** How many frames lie in the cache of a domain. */
function cachedBy({ f, geometry }: Machine, id: number): number {
  let count = 0;
  for (let mfn = 0; mfn < geometry.frameCount; mfn += 1)
    if (f.podSize.get(mfn) !== 0 && f.frameOwner.get(mfn) === id + 1) count += 1;
  return count;
}

/** The counter of what is set aside is the number of frames that are. */
export const cacheIsCounted: AlwaysLaw = {
  kind: 'always',
  id: 'memory/cacheIsCounted',
  invariant: 'REF',
  statement: 'With nothing in flight, as many frames are counted as set aside for memory on demand as there are.',
  judge: (view: View): Problem | undefined => {
    const { machine, quiescent, audit, looks } = view;
    if (!quiescent) return undefined;
    for (const id of domainsIn(view)) {
      const counted = machine.f.podCount.get(id);
      if (counted === 0 && !audit) continue;
      const found = cachedBy(machine, id);
      if (found > 0) looks?.('memory');
      if (found !== counted)
        return problem('REF', 'pod.count', `d${id} counts ${counted} frames set aside, and there are ${found}`);
    }
    return undefined;
  },
};

const FOREIGN = ['foreign', 'grantRw', 'grantRo'].map((type) => p2mTypes.indexOf(type as (typeof p2mTypes)[number]));

/** Why a frame must not be in a cache. */
function misplaced(view: View, mfn: number): string | undefined {
  const { machine, reach } = view;
  const { f } = machine;
  if (frameRoles[f.frameRole.get(mfn)] !== 'ram') return 'is no RAM';
  if (f.frameAllocated.get(mfn) === 0) return 'is not held by its owner';
  if (f.m2p.getWide(mfn) !== 0) return `is said to lie at gfn ${f.m2p.getWide(mfn) - 1}`;
  const own = [...reach.leavesOf(mfn)].find(({ type }) => !FOREIGN.includes(type));
  return own && `is reached by d${own.domain} at gfn ${own.gfn + (mfn - own.mfn)}`;
}

/** What is set aside is its owner's, and at no gfn. */
export const cacheIsSetAside: AlwaysLaw = {
  kind: 'always',
  id: 'memory/cacheIsSetAside',
  invariant: 'FREE',
  statement: 'A frame set aside for memory on demand is RAM that its owner holds and has at no gfn.',
  judge: (view: View): Problem | undefined => {
    const { f, geometry } = view.machine;
    for (const frames of [view.touched.frames, view.reach.changed])
      for (const mfn of frames) {
        if (mfn >= geometry.frameCount || f.podSize.get(mfn) === 0) continue;
        view.looks?.('memory');
        const reason = misplaced(view, mfn);
        if (reason !== undefined)
          return problem('FREE', 'pod.frame', `frame ${mfn} is set aside for memory on demand, and ${reason}`);
      }
    return undefined;
  },
};

/** Whether a word of a frame is of somebody who is not its owner: who had it mapped when it was set aside goes on writing there. */
function isOthers({ candidates, machine }: View, mfn: number, index: number): boolean {
  const [state] = candidates();
  const author = state?.words.get(mfn * machine.geometry.wordsPerFrame + index)?.author;
  return author !== undefined && author !== frameOf(state as State, mfn as Mfn).owner;
}

/** What is set aside is empty, but for what others write who have it mapped. */
export const cacheHoldsNothing: AlwaysLaw = {
  kind: 'always',
  id: 'memory/cacheHoldsNothing',
  invariant: 'LEAK',
  statement:
    'A frame set aside for memory on demand that nobody else holds is zero, but for what others wrote who had it mapped.',
  judge: (view: View): Problem | undefined => {
    const { machine, touched, looks } = view;
    const { f, geometry } = machine;
    const { frameCount, wordsPerFrame } = geometry;
    const isDue = (mfn: number): boolean => mfn < frameCount && f.podSize.get(mfn) !== 0 && f.frameRefs.get(mfn) <= 1;
    const frames = new Set<number>();
    for (const mfn of touched.frames) if (isDue(mfn)) frames.add(mfn);
    for (const key of touched.words) {
      const mfn = Math.floor(key / wordsPerFrame);
      if (isDue(mfn)) frames.add(mfn);
    }
    for (const mfn of frames) {
      looks?.('memory');
      const from = 2 * mfn * wordsPerFrame;
      for (let at = 0; at < 2 * wordsPerFrame; at += 1)
        if (f.memory.get(from + at) !== 0 && !isOthers(view, mfn, Math.floor(at / 2)))
          return problem('LEAK', 'pod.word', `frame ${mfn} is set aside for memory on demand, and is not empty`);
    }
    return undefined;
  },
};

export const podLaws: readonly AlwaysLaw[] = [cacheIsSetAside, cacheHoldsNothing, demandIsCounted, cacheIsCounted];
