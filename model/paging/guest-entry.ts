// What an entry of a guest's own tables means in a trace: long mode's format, with the levels and spans of the geometry.
// Reserved are frame bits beyond the physical-address width, NX while EFER.NXE is off, the size bit above the levels that have
// superpages (AMD: bit 8 there as well), and in a superpage the bits below its frame, but for PAT. (entry.ts is about cases.)
// A first reader may skip the constants. Sources: Intel SDM vol. 3A, "4-Level Paging and 5-Level Paging" (formats of the
// entries), "Page-Fault Exceptions"; AMD64 APM vol. 2, "Long-Mode Page Translation".

import type { Gfn, Word } from '#abi/address.ts';
import { framesPerLeaf, type Geometry } from '#abi/geometry.ts';
import { tableFlags } from '#abi/paging.ts';
import { bit, hasAll, pow2 } from '#lib/bits.ts';
import { frameIn } from '../hap/meaning.ts';
import type { Paging } from './mode.ts';
import { RIGHT_BITS } from './rights.ts';

/** What an entry means. `gfn` is the table's, or the first one of the page; rights are bits. */
export type GuestEntry =
  | { readonly kind: 'absent' }
  | { readonly kind: 'reserved' }
  | { readonly kind: 'table'; readonly gfn: Gfn; readonly rights: number }
  | {
      readonly kind: 'page';
      readonly gfn: Gfn;
      readonly rights: number;
      readonly dirty: boolean;
      readonly global: boolean;
    };

const NO_EXECUTE_HIGH = bit(31);

function rightsIn({ lo, hi }: Word): number {
  const write = hasAll(lo, tableFlags.write) ? RIGHT_BITS.write : 0;
  const user = hasAll(lo, tableFlags.user) ? RIGHT_BITS.user : 0;
  return write + user + (hasAll(hi, NO_EXECUTE_HIGH) ? 0 : RIGHT_BITS.execute);
}

/** Whether a present entry has a bit that must be 0 at its level. */
function isReserved(geometry: Geometry, paging: Paging, at: { level: number; word: Word }): boolean {
  const { level, word } = at;
  const isLarge = level > 1 && hasAll(word.lo, tableFlags.superpage);
  if (frameIn(word) >= pow2(geometry.maxPhysAddr - 12)) return true;
  if (hasAll(word.hi, NO_EXECUTE_HIGH) && !paging.executeDisable) return true;
  if (level > geometry.superpageLevels)
    return isLarge || (paging.vendor === 'amd' && hasAll(word.lo, tableFlags.global));
  return isLarge && frameIn(word) % framesPerLeaf(geometry, level) > 1;
}

/** What `word` means as an entry of a table at `level` (1: the lowest). No bit of an entry that is not present means anything. */
export function decodeGuest(geometry: Geometry, paging: Paging, level: number, word: Word): GuestEntry {
  if (!hasAll(word.lo, tableFlags.present)) return { kind: 'absent' };
  if (isReserved(geometry, paging, { level, word })) return { kind: 'reserved' };
  const rights = rightsIn(word);
  const frame = frameIn(word);
  if (level > 1 && !hasAll(word.lo, tableFlags.superpage)) return { kind: 'table', gfn: frame as Gfn, rights };
  return {
    kind: 'page',
    gfn: (frame - (frame % framesPerLeaf(geometry, level))) as Gfn,
    rights,
    dirty: hasAll(word.lo, tableFlags.dirty),
    global: hasAll(word.lo, tableFlags.global),
  };
}

/** The flags that a walk sets in an entry: accessed, and dirty in that of a page which is written. */
export const flagsFor = (isDirtied: boolean): number =>
  isDirtied ? tableFlags.accessed + tableFlags.dirty : tableFlags.accessed;
