// Nested paging has no operations of its own: its tables change through memory operations and grants, and are walked by
// accesses. This file keeps the mechanism's place, so that a first operation finds its arm waiting.

import type { HapOp } from '#abi/hap.ts';
import type { Generators, Weights } from '../harness/decisions.ts';

/** Nothing to set yet. */
export interface Settings {
  readonly weights: Weights<HapOp<'symbolic'>>;
}

export const plausible = (): Settings => ({ weights: {} });
export const hostile = (): Settings => ({ weights: {} });

/** The generators of nested-paging operations: none. */
export const generators = (_: Settings): Generators<HapOp<'symbolic'>> => ({});
