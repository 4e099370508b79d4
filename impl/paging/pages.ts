// Linear frames of 64-bit addresses, and what of them tables translate.
// A first reader may skip it. Source: Intel SDM vol. 1, "Canonical Addressing".

import type { Word } from '#abi/address.ts';
import { pow2 } from '#lib/bits.ts';
import type { Machine } from '../machine.ts';

/** So many there are. */
export const PAGES = pow2(52);

/** A linear frame by a number that may lie before the first or behind the last: addresses wrap. Sums of two are not exact in a double, remainders are. */
export const wrapped = (page: number): number => ((page % PAGES) + PAGES) % PAGES;

/** The bits of a linear frame that tables translate. */
export const inTables = (m: Machine, page: number): number => page % pow2(m.geometry.levels * m.geometry.bitsPerLevel);

/** Whether the bits of a linear frame from the highest that is translated on are all the same. */
export function isCanonical(m: Machine, page: number): boolean {
  const half = pow2(m.geometry.levels * m.geometry.bitsPerLevel - 1);
  return page < half || page >= PAGES - half;
}

/** The address of a byte of a linear frame. */
export const addressOf = (page: number, offset: number): Word => ({
  lo: (page % pow2(20)) * pow2(12) + offset,
  hi: Math.floor(page / pow2(20)),
});
