// Hunting synthetic mutants of walks from scratch: random cases of whole accesses, on all engines in turn, until a law that may catch
// a mutant breaks or the budget is used up. The cases of a seed are the same for every mutant, so all of them are hunted at once:
// what the architecture makes of a case is worked out once. Nothing here knows what the mutants are; the generators are the general ones.
// Yields now and then, so that whoever drives it can show progress and stop. A first reader may skip it.

import type { Case, EngineName } from '#abi/case.ts';
import { fold } from '#lib/hash.ts';
import { Prng } from '#lib/prng.ts';
import { translateAccess } from '#model/paging/translate.ts';
import { shrinkCase } from '#properties/harness/case-shrink.ts';
import { type AccessCase, accessCaseOf } from '#properties/paging/cases.ts';
import { accessDifference, Bench, type Compare, type UnitOf } from '#properties/paging/cases-judge.ts';
import type { Mutant } from './synthetic.ts';

/** A mutant and its copy's accesses. */
export interface Prey {
  readonly mutant: Mutant;
  readonly unitOf: UnitOf;
}

/** A mutant found: after how many cases, by which, and the law that it breaks. */
export interface Found extends Prey {
  readonly cases: number;
  readonly case: AccessCase;
  readonly law: string;
}

/** How far a hunt has come: cases so far, what was found since the last look, and who is left. */
export interface CaseProgress {
  readonly cases: number;
  readonly found: readonly Found[];
  readonly left: readonly Prey[];
}

const hunted = ['native', 'vmx', 'svm'] as const satisfies readonly EngineName[];

/** The law about accesses that speaks of a case. */
export const lawOf = ({ engine }: AccessCase): string =>
  engine === 'native' ? 'paging/accessesAgree' : 'hap/guestAccessesAgree';

/** Cases between two looks at who was found. */
const SLICE = 500;
const SALT = 0x7379_6e74;

/** Hunts all of `prey` in the first `cases` cases of a seed. */
export function* huntByCases(
  prey: readonly Prey[],
  of: { readonly seed: number; readonly cases: number },
): Generator<CaseProgress, CaseProgress> {
  const prng = new Prng(fold(SALT, of.seed));
  const bench = new Bench();
  const holds = accessDifference(undefined, bench);
  let left = prey.map((each) => ({ ...each, compare: accessDifference(each.unitOf, bench) }));
  let found: Found[] = [];
  const take = (one: AccessCase, cases: number): void => {
    const law = lawOf(one);
    const outcome = translateAccess(one);
    const caught = ({ mutant, compare }: Prey & { readonly compare: Compare }): boolean =>
      mutant.killedBy.includes(law) && compare(one, outcome) !== undefined && holds(one, outcome) === undefined;
    const now = left.filter(caught);
    if (now.length === 0) return;
    found.push(...now.map(({ mutant, unitOf }) => ({ mutant, unitOf, cases, case: one, law })));
    left = left.filter((each) => !now.includes(each));
  };
  for (let cases = 1; cases <= of.cases && left.length > 0; cases += 1) {
    take(accessCaseOf(prng, { engine: hunted[cases % hunted.length] ?? 'native', oracle: false }), cases);
    if (cases % SLICE !== 0) continue;
    yield { cases, found, left };
    found = [];
  }
  return { cases: of.cases, found, left };
}

const isAccess = (one: Case): one is AccessCase => one.engine !== 'ept';

/** Cases executed at most while one is made small. */
const EXECUTIONS = 1500;

/** The smallest case found that the copy fails in the same way; the case itself if impl/ as it stands fails that one, too. */
export function smallest(one: AccessCase, unitOf: UnitOf): AccessCase {
  const bench = new Bench();
  const compare = accessDifference(unitOf, bench);
  const failsAs = (other: Case): string | undefined => (isAccess(other) ? compare(other)?.field : undefined);
  const { case: small } = shrinkCase(one, { failsAs, executions: EXECUTIONS });
  return isAccess(small) && accessDifference(undefined, bench)(small) === undefined ? small : one;
}
