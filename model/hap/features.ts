// Nested paging has no operations, so nothing is touched by one: the compiler will ask here when there is one.
// A first reader may skip this file.

import type { HapOp } from '#abi/hap.ts';
import { unreachable } from '#lib/invariant.ts';

export const features = (op: HapOp<'concrete'>): readonly number[] => unreachable(op);
