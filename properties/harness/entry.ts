// What an entry of a translation table says in every format that there is: whether it leads somewhere, and to which frame.
// A first reader may skip nothing.

import type { Word } from '#abi/address.ts';
import type { Geometry } from '#abi/geometry.ts';
import { field } from '#lib/bits.ts';

/** Whether an entry leads somewhere, by its low half. */
export const isPresent = (lo: number): boolean => lo % 2 === 1;

/** The frame number in an entry: bits 12 to 51. */
export const frameBelow = ({ lo, hi }: Word): number => field(lo, 12, 20) + field(hi, 0, 20) * 0x10_0000;

/** Whether a place of a paravirtual guest's root is the hypervisor's. */
export const isHypervisorSlot = ({ rootSlots: { from, count } }: Geometry, index: number): boolean =>
  index >= from && index < from + count;
