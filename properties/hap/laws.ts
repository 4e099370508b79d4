// The theorem, judged on bytes and caches: who reaches which frame, against what the model justifies and demands. And what
// must hold of the tables themselves.

import { frameRoles } from '#abi/roles.ts';
import { invariants, type Invariant } from '#abi/invariants.ts';
import { reachProblem } from '../harness/judge.ts';
import type { AlwaysLaw, Problem } from '../harness/law.ts';
import type { View } from '../harness/view.ts';
import type { State } from '#model/state.ts';

const memo = new WeakMap<View, { readonly problem: Problem | undefined }>();

/** The first frame that no candidate explains. Computed once per judgement; every law below looks for its own kind. */
function firstUnexplained(view: View): Problem | undefined {
  const known = memo.get(view);
  if (known !== undefined) return known.problem;
  const found = view.explained() ? search(view) : undefined;
  const problem = view.explained() ? found : undefined;
  memo.set(view, { problem });
  return problem;
}

function search(view: View): Problem | undefined {
  const { reach, suspects, machine } = view;
  if (suspects.size === 0 && reach.changed.size === 0) return undefined;
  const only = (why: string): void => view.mark(`only:${why}`);
  let candidates = view.candidates();
  // Whoever explained the last frame mostly explains the next one.
  let likely = candidates.length - 1;
  const explains = (mfn: number): Problem | undefined => {
    let first: Problem | undefined;
    for (let i = 0; i < candidates.length; i += 1) {
      const at = (likely + i) % candidates.length;
      const problem = reachProblem(machine, { reach, state: candidates[at] as State, only }, mfn);
      if (problem === undefined) {
        likely = at;
        return undefined;
      }
      first ??= problem;
    }
    return first;
  };
  for (const frames of [reach.changed, suspects])
    for (const mfn of frames) {
      let problem = explains(mfn);
      while (problem !== undefined && view.widen()) {
        candidates = view.candidates();
        problem = explains(mfn);
      }
      if (problem !== undefined) return problem;
    }
  return undefined;
}

const about = (invariant: Invariant, id: string): AlwaysLaw => ({
  kind: 'always',
  id: `hap/${id}`,
  invariant,
  statement: invariants[invariant],
  judge: (view) => {
    const problem = firstUnexplained(view);
    if (problem?.invariant === invariant) return problem;
    // Audits look at every frame themselves.
    return view.audit ? view.problems.find((told) => told.invariant === invariant) : undefined;
  },
});

/** No leaf that a guest can walk to names a frame on the heap. */
export const noLeafNamesAFreeFrame: AlwaysLaw = {
  kind: 'always',
  id: 'hap/noLeafNamesAFreeFrame',
  invariant: 'FREE',
  statement: 'No entry of a nested table names a frame that lies on the heap.',
  judge: ({ machine, reach, suspects }) => {
    for (const frames of [suspects, reach.changed])
      for (const mfn of frames) {
        if (mfn >= machine.geometry.frameCount || frameRoles[machine.f.frameRole.get(mfn)] !== 'free') continue;
        for (const leaf of reach.leavesOf(mfn)) {
          const gfn = leaf.gfn + (mfn - leaf.mfn);
          const sentence = `frame ${mfn} lies on the heap, but gfn ${gfn} of d${leaf.domain} still leads to it`;
          return { invariant: 'FREE', mechanism: 'hap', field: 'leaf.free', sentence };
        }
      }
    return undefined;
  },
};

/** Every page that the walk passes is a table of that domain. */
export const everyWalkedPageIsATable: AlwaysLaw = {
  kind: 'always',
  id: 'hap/everyWalkedPageIsATable',
  invariant: 'PTW',
  statement: 'Every page that a walk passes is a page of that domain\'s paging pool in use as a table.', // prettier-ignore
  judge: ({ machine, reach, suspects, audit }) => {
    const { f, geometry } = machine;
    const isTable = (mfn: number): boolean =>
      frameRoles[f.frameRole.get(mfn)] === 'pool' && f.frameIsTable.get(mfn) === 1;
    const wrong = (mfn: number): boolean =>
      reach.walkersOf(mfn).some((domain) => !isTable(mfn) || f.frameOwner.get(mfn) !== domain + 1);
    const frames = audit ? Array.from({ length: geometry.frameCount }, (_, mfn) => mfn) : suspects;
    for (const mfn of frames)
      if (mfn < geometry.frameCount && wrong(mfn)) {
        const role = frameRoles[f.frameRole.get(mfn)] ?? 'free';
        const sentence = `page ${mfn} is walked as a table, but it is ${role}`;
        return { invariant: 'PTW', mechanism: 'hap', field: `table.${role}`, sentence };
      }
    return undefined;
  },
};

export const hapLaws: readonly AlwaysLaw[] = [
  noLeafNamesAFreeFrame,
  everyWalkedPageIsATable,
  about('PTW', 'noGuestWritesTables'),
  about('OWN', 'nobodyReachesWhatIsNotTheirs'),
  about('STALE', 'noCacheOutlivesItsFlush'),
  about('MUST', 'whatIsOwedIsReached'),
];
