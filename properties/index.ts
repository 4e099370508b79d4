// What must hold between the two: all laws as one list, and the run that judges them. Tests, campaigns, exhibits and the
// README's table take the laws from here.

import type { Law } from './harness/law.ts';
import { alwaysLaws } from './harness/laws.ts';
import { strangersLookAlike } from './harness/pairs.ts';
import { sometimesLaws } from './harness/sometimes.ts';
import { caseLaws } from './hap/cases.ts';
import { accessLaws } from './paging/cases-laws.ts';

/** Every law, in the order in which they judge and are listed. */
export const laws: readonly Law[] = [...alwaysLaws, ...caseLaws, ...accessLaws, strangersLookAlike, ...sometimesLaws];

export type { AlwaysLaw, CaseLaw, Failure, Law, PairLaw, Problem, SometimesLaw } from './harness/law.ts';
export { Lockstep, type StepResult } from './harness/lockstep.ts';
export { runTrace, type Run } from './harness/run.ts';
export { clean, type Subject } from './harness/subject.ts';
