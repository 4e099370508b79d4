// Where a paravirtual guest means a mapping to be: at a linear address, or in the entry at a machine address.
// A first reader may skip it. Source: Xen public/grant_table.h (GNTMAP_contains_pte).

import { mapFlags } from '#abi/grants.ts';
import { hasAny } from '#lib/bits.ts';
import type { Place } from '../pv/granted.ts';

/** An address as a call has it. */
export interface Address {
  readonly gfn: number;
  readonly offset: number;
}

/** The entry that an address means by map flags. */
export const placeIn = ({ gfn, offset }: Address, flags: number): Place =>
  hasAny(flags, mapFlags.containsPte) ? { by: 'address', mfn: gfn, offset } : { by: 'page', page: gfn };

/** Whether there is an address at all: zero is none. */
export const isAddress = ({ gfn, offset }: Address): boolean => gfn > 0 || offset > 0;
