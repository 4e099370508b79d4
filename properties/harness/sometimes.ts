// States that the generators must reach. A `sometimes` law that is not seen within the budget fails the suite: some law
// would otherwise be proved about nothing.

import { pointClasses } from '#abi/points.ts';
import { invariants } from '#abi/invariants.ts';
import { reasons } from '#model/isolation.ts';
import { linearSometimes } from '../paging/linear-marks.ts';
import type { SometimesLaw } from './law.ts';
import { moments } from './moments.ts';

/** Another agent completed an operation on a shared domain while one stood before such an act. */
const overtaken: readonly SometimesLaw[] = pointClasses.map((name) => ({
  kind: 'sometimes',
  id: `harness/overtakenBefore${name.charAt(0).toUpperCase()}${name.slice(1)}`,
  invariant: 'refines',
  statement: `While an operation stands before an act of class ${name}, another agent completes one on the same domain.`,
  mark: `overtaken:${name}`,
}));

/** A processor answers from what the tables no longer say, on the correct implementation. */
const answered: readonly SometimesLaw[] = (['leaf', 'structure'] as const).map((kind) => ({
  kind: 'sometimes',
  id: `tlb/${kind}AnswersAfterItsTableChanged`,
  invariant: 'STALE',
  statement: `An access is answered from a cached ${kind} entry whose table has changed since.`,
  mark: `answered:${kind}`,
}));

/** Each disjunct of `authority` is needed. */
const needed: readonly SometimesLaw[] = reasons.map((why) => ({
  kind: 'sometimes',
  id: `harness/only${why.charAt(0).toUpperCase()}${why.slice(1)}Justifies`,
  invariant: 'OWN',
  statement: `${invariants.OWN} Some way to a frame is justified by '${why}' alone.`,
  mark: `only:${why}`,
}));

/** On machines with NPT: what an ASID and its generation go through (properties/tlb/asids.ts). */
const asids: readonly SometimesLaw[] = (
  [
    ['flushesGiveNewAsids', 'asid:renewed', 'A vCPU goes on under a new ASID because its processor was flushed.'],
    ['asidsBeginAnew', 'asid:round', 'The ASIDs of a processor run out, and another round of them begins.'],
    ['generationsWrap', 'asid:wrapped', 'The generation of a processor wraps, and it has done with ASIDs.'],
    [
      'oldAsidsKeepStaleEntries',
      'asid:stale',
      'A processor holds, under an ASID that it runs no more, a stale entry of the very domain that it runs.',
    ],
  ] as const
).map(([name, mark, statement]) => ({ kind: 'sometimes', id: `tlb/${name}`, invariant: 'STALE', statement, mark }));

export const sometimesLaws: readonly SometimesLaw[] = [
  ...overtaken,
  ...answered,
  ...linearSometimes,
  ...asids,
  ...needed,
  ...moments,
];
