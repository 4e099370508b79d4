// The theorem, judged on bytes and caches: who reaches which frame, against what the model justifies and demands. And what
// must hold of the tables themselves.

import { frameRoles } from '#abi/roles.ts';
import { invariants, type Invariant } from '#abi/invariants.ts';
import type { AlwaysLaw } from '../harness/law.ts';

const about = (invariant: Invariant, id: string): AlwaysLaw => ({
  kind: 'always',
  id: `hap/${id}`,
  invariant,
  statement: invariants[invariant],
  judge: (view) => {
    const problem = view.unexplained();
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
  judge: ({ machine, reach, suspects, looks }) => {
    for (const frames of [suspects, reach.changed])
      for (const mfn of frames) {
        if (mfn >= machine.geometry.frameCount || frameRoles[machine.f.frameRole.get(mfn)] !== 'free') continue;
        looks?.('hap');
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
  judge: ({ machine, reach, suspects, audit, looks }) => {
    const { f, geometry } = machine;
    const isTable = (mfn: number): boolean =>
      frameRoles[f.frameRole.get(mfn)] === 'pool' && f.frameIsTable.get(mfn) === 1;
    const wrong = (mfn: number): boolean =>
      reach.walkersOf(mfn).some((domain) => {
        looks?.('hap');
        return !isTable(mfn) || f.frameOwner.get(mfn) !== domain + 1;
      });
    const everything = audit ? [Array.from({ length: geometry.frameCount }, (_, mfn) => mfn)] : [];
    for (const frames of [...everything, suspects, reach.changed])
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
