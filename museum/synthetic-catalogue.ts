// The list of synthetic mutants: those of walks, then those of flushes.
// A first reader may skip it.

import { flushMutants } from './synthetic-flushes.ts';
import { walkMutants } from './synthetic-walks.ts';
import type { Mutant } from './synthetic.ts';

export const mutants: readonly Mutant[] = [...walkMutants, ...flushMutants];
