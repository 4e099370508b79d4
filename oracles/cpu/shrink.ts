// A disagreement made small: smaller cases are asked in batches, and the smallest that disagrees in the same way is taken, until
// none does. A first reader may skip this file. Source of the candidates: properties/harness/case-shrink.ts.

import type { Case } from '#abi/case.ts';
import { isSmallerCase, smallerCases } from '#properties/harness/case-shrink.ts';
import type { Emulator } from './emulator.ts';
import { judge, type Verdict, type Witness } from './judge.ts';
import type { AccessCase, Raw } from './pack.ts';
import { plan, type Planned } from './plan.ts';

/** A case with its answer and what was made of it. */
export interface Judged {
  readonly planned: Planned;
  readonly raw: Raw | undefined;
  readonly verdict: Verdict;
}

/** Asks an emulator about some cases and judges the answers, `without` a rule if one is to be left out. */
export async function ask(
  emulator: Emulator,
  witness: Witness,
  of: { readonly planned: readonly Planned[]; readonly without?: string | undefined },
): Promise<readonly Judged[]> {
  const raws = await emulator.run(of.planned);
  return of.planned.map((planned, i) => {
    const raw = raws[i];
    return { planned, raw, verdict: judge(witness, { ...planned, raw }, of.without) };
  });
}

/** How a case disagrees, without the numbers. */
export const failureOf = ({ verdict }: Judged): string | undefined =>
  verdict.kind === 'different' ? verdict.why.replace(/\b(?:0x[0-9a-f]+|\d+)\b/gu, 'n') : undefined;

const isAccessCase = (one: Case): one is AccessCase => one.engine !== 'ept';

/** Candidates of a round: few enough for one start of an emulator. */
const CANDIDATES = 150;
/** No longer than this; a start of Bochs takes a second. */
const SHRINK_MS = 25_000;

/** Cases smaller than `one`, made ready. */
function candidates(one: AccessCase, witness: Witness): readonly Planned[] {
  const found: Planned[] = [];
  for (const smaller of smallerCases(one)) {
    // Another MAXPHYADDR is another machine.
    if (!isAccessCase(smaller) || smaller.registers.maxPhysAddr !== one.registers.maxPhysAddr) continue;
    const planned = plan(smaller, witness);
    if (planned.ok && isSmallerCase(planned.planned.case, one)) found.push(planned.planned);
    if (found.length >= CANDIDATES) break;
  }
  return found;
}

/** The smallest case found that disagrees as `judged` does. `stop`: whether the user has had enough. */
export async function shrink(
  emulator: Emulator,
  witness: Witness,
  of: { readonly judged: Judged; readonly without?: string | undefined; readonly stop?: () => boolean },
): Promise<Judged> {
  let best = of.judged;
  const wanted = failureOf(best);
  const until = performance.now() + SHRINK_MS;
  while (performance.now() < until && of.stop?.() !== true) {
    const { hasPcid } = best.planned.manner;
    const planned = candidates(best.planned.case, witness).map((each) => ({
      ...each,
      manner: { ...each.manner, hasPcid },
    }));
    const answers = await ask(emulator, witness, { planned, without: of.without });
    const smaller = answers.filter((judged) => failureOf(judged) === wanted);
    const [first] = smaller.toSorted((a, b) => (isSmallerCase(a.planned.case, b.planned.case) ? -1 : 1));
    if (first === undefined) return best;
    best = first;
  }
  return best;
}
