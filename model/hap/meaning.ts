// What an entry of a nested table can mean to the processor, whatever its format, and what both formats share: the frame
// number in bits 12 to 51, of which those beyond the physical address width are reserved.
// A first reader may skip everything but `EntryMeaning`. Sources: Intel SDM vol. 3C, "EPT Translation Mechanism";
// AMD64 APM vol. 2, "Page-Translation-Table Entry Fields".

import type { Mfn, Word } from '#abi/address.ts';
import type { Geometry } from '#abi/geometry.ts';
import { RIGHT } from '#abi/rights.ts';
import { field, pow2 } from '#lib/bits.ts';

/**
 * What an entry means at its level. absent: the walk ends here, there is nothing. misconfiguration: it ends here, the entry
 * has reserved bits set. `type` is the software's code of the p2m type. `rights` are those of this entry alone.
 */
export type EntryMeaning =
  | { readonly kind: 'absent' }
  | { readonly kind: 'misconfiguration' }
  | { readonly kind: 'table'; readonly mfn: Mfn; readonly rights: number; readonly accessed: boolean }
  | {
      readonly kind: 'leaf';
      readonly mfn: Mfn;
      readonly rights: number;
      readonly type: number;
      readonly accessed: boolean;
      readonly dirty: boolean;
    };

/** What `word` means as an entry of a table at `level` (1: the lowest). */
export type Decoder = (geometry: Geometry, level: number, word: Word) => EntryMeaning;

export const ABSENT: EntryMeaning = { kind: 'absent' };
export const MISCONFIGURED: EntryMeaning = { kind: 'misconfiguration' };

export const ALL_RIGHTS = RIGHT.read + RIGHT.write + RIGHT.execute;

/** Where the frame number begins, and in the high half how many bits of it there are, the reserved ones included. */
const FRAME_FROM = 12;
const FRAME_BITS_HIGH = 20;
const FRAME_BITS_LOW = 32 - FRAME_FROM;

/** The frame number in an entry. */
export const frameIn = ({ lo, hi }: Word): number =>
  field(lo, FRAME_FROM, FRAME_BITS_LOW) + field(hi, 0, FRAME_BITS_HIGH) * pow2(FRAME_BITS_LOW);

/** Whether the frame number reaches beyond the physical address width. */
export const isTooWide = (geometry: Geometry, { hi }: Word): boolean =>
  field(hi, geometry.maxPhysAddr - 32, FRAME_BITS_HIGH - (geometry.maxPhysAddr - 32)) !== 0;
