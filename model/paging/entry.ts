// What an entry of a table means: by paging mode, level and register state. Level 1 holds the entries of 4 KiB pages.
//
//   63  62   59 58  52 51          M-1                12 11 9  8  7  6  5  4 3  2  1  0
//  |XD|  key  |  ign  | reserved  | frame of table/page | ign |G|PS|D|A|PCD|PWT|US|RW|P|    M: MAXPHYADDR
//
// PAE paging has no ignored bits above 51 and no keys; its PDPTEs have neither rights nor flags. In 32-bit paging an entry is
// the low half of this. A first reader may skip `isReserved` and its parts.
// Sources: Intel SDM vol. 3A, "32-Bit Paging", "PAE Paging", "4-Level Paging and 5-Level Paging" (tables of the formats);
// AMD APM vol. 2, "Legacy-Mode Page Translation", "Long-Mode Page Translation".

import { FRAME_SHIFT, type Word } from '#abi/address.ts';
import { bit, field, hasAll, hasAny, pow2, without } from '#lib/bits.ts';
import { bitsOf, frameOf } from './address.ts';
import { isLong, type Paging, type PagingMode } from './mode.ts';
import { ALL_RIGHTS, RIGHT_BITS } from './rights.ts';

/** What an entry means. `frame` is the table's, or the first one of the page; rights are bits. */
export type EntryMeaning =
  | { readonly kind: 'absent' }
  | { readonly kind: 'reserved' }
  | { readonly kind: 'table'; readonly frame: number; readonly rights: number }
  | {
      readonly kind: 'page';
      readonly frame: number;
      readonly rights: number;
      /** Protection key. */
      readonly key: number;
    };

/** What an entry means whose P flag is 0, and one that has a reserved bit. */
export const ABSENT = { kind: 'absent' } as const satisfies EntryMeaning;
const RESERVED = { kind: 'reserved' } as const satisfies EntryMeaning;

const PRESENT = bit(0);
const ACCESSED = bit(5);
export const DIRTY: number = bit(6);
const SUPERPAGE = bit(7);
const GLOBAL = bit(8);
const EXECUTE_DISABLE_HIGH = bit(31);
/** Bits 2:1 and 8:5 of a PDPTE in PAE paging. */
const RESERVED_IN_PDPTE = 0x1e6;

/** How the tables of a mode are built: levels, bytes of an entry. */
export interface TableShape {
  readonly levels: number;
  readonly entryBytes: 4 | 8;
}

/** Each mode that has tables. PAE paging has only four entries at the top. */
export const tableShapes: Readonly<Record<Exclude<PagingMode, 'none'>, TableShape>> = {
  legacy: { levels: 2, entryBytes: 4 },
  pae: { levels: 3, entryBytes: 8 },
  fourLevel: { levels: 4, entryBytes: 8 },
  fiveLevel: { levels: 5, entryBytes: 8 },
};

/** Bits of an address that select an entry of a table. */
const indexBits = (mode: PagingMode): number => (mode === 'legacy' ? 10 : 9);

/** Bits of an address below those that select an entry at `level`; above the highest level, all that tables translate. */
export const offsetBits = (mode: PagingMode, level: number): number => FRAME_SHIFT + indexBits(mode) * (level - 1);

/** Which entry of a table at `level` an address selects. */
export const indexOf = (mode: PagingMode, level: number, address: Word): number =>
  bitsOf(address, offsetBits(mode, level), indexBits(mode));

const isPdpte = (mode: PagingMode, level: number): boolean => mode === 'pae' && level === 3;

/** Whether the entry maps a page. Bit 7 of a page-table entry is PAT, and where no large page exists it is reserved or ignored. */
function isPage({ mode, superpages, page1Gb }: Paging, level: number, { lo }: Word): boolean {
  if (level === 1) return true;
  const exists = level === 2 ? mode !== 'legacy' || superpages : level === 3 && isLong(mode) && page1Gb;
  return exists && hasAll(lo, SUPERPAGE);
}

/** Bits 51:M: the frame lies beyond MAXPHYADDR. */
export const isBeyondReach = ({ hi }: Word, maxPhysAddr: number): boolean =>
  field(hi, maxPhysAddr - 32, 52 - maxPhysAddr) !== 0;

/**
 * "32-Bit Paging", PDE that maps a 4-MByte page: bits 20:13 are bits 39:32 of the address (PSE-36), those at or above MAXPHYADDR
 * are reserved, and so is bit 21. Other entries of 32-bit paging have no reserved bits.
 */
const isReservedLegacy = ({ maxPhysAddr }: Paging, { lo }: Word, page: boolean): boolean =>
  page && hasAll(lo, SUPERPAGE) && field(lo, 13, 9) >= pow2(Math.min(40, maxPhysAddr) - 32);

/** A PDPTE that is loaded into a register, or read in a walk, with a bit that must be 0. */
export const isReservedPdpte = (word: Word, maxPhysAddr: number): boolean =>
  hasAny(word.lo, RESERVED_IN_PDPTE) || field(word.hi, 20, 12) !== 0 || isBeyondReach(word, maxPhysAddr);

/** In an entry that maps a large page, the bits below its frame: reserved, apart from PAT in bit 12. */
const hasBitsBelowFrame = (mode: PagingMode, level: number, word: Word): boolean =>
  level > 1 && field(word.lo, 13, offsetBits(mode, level) - 13) !== 0;

/** Bit 7 above the levels of large pages; AMD reserves bit 8 there as well ("Long-Mode Page Translation", PML4E and PML5E: MBZ). */
function hasReservedSize({ mode, vendor, page1Gb }: Paging, level: number, { lo }: Word): boolean {
  if (!isLong(mode) || level < 3) return false;
  if (level === 3) return hasAll(lo, SUPERPAGE) && !page1Gb;
  return hasAll(lo, SUPERPAGE) || (vendor === 'amd' && hasAll(lo, GLOBAL));
}

function isReserved(paging: Paging, level: number, word: Word, page: boolean): boolean {
  const { mode, maxPhysAddr, executeDisable } = paging;
  if (mode === 'legacy') return level === 2 && isReservedLegacy(paging, word, page);
  if (isPdpte(mode, level)) return isReservedPdpte(word, maxPhysAddr);
  return (
    isBeyondReach(word, maxPhysAddr) ||
    (hasAll(word.hi, EXECUTE_DISABLE_HIGH) && !executeDisable) ||
    (mode === 'pae' && field(word.hi, 20, 11) !== 0) ||
    hasReservedSize(paging, level, word) ||
    (page && hasBitsBelowFrame(mode, level, word))
  );
}

/** R/W and U/S, bits 2:1, are the lowest two bits of rights. */
function rightsIn(mode: PagingMode, level: number, { lo, hi }: Word): number {
  if (isPdpte(mode, level)) return ALL_RIGHTS;
  const isExecutable = mode === 'legacy' || !hasAll(hi, EXECUTE_DISABLE_HIGH);
  return field(lo, 1, 2) + (isExecutable ? RIGHT_BITS.execute : 0);
}

const FRAMES_4GB = pow2(20);

/** The first frame of a page. */
function pageFrame({ mode }: Paging, level: number, word: Word): number {
  const base = frameOf(word) - field(word.lo, FRAME_SHIFT, offsetBits(mode, level) - FRAME_SHIFT);
  return mode === 'legacy' && level === 2 ? base + field(word.lo, 13, 8) * FRAMES_4GB : base;
}

/** What `word` means in a table at `level`; in 32-bit paging its high half is 0. */
export function decodeEntry(paging: Paging, level: number, word: Word): EntryMeaning {
  // "Paging": no bit of an entry whose P flag is 0 means anything, so none of them is reserved.
  if (!hasAll(word.lo, PRESENT)) return ABSENT;
  const page = isPage(paging, level, word);
  if (isReserved(paging, level, word, page)) return RESERVED;
  const rights = rightsIn(paging.mode, level, word);
  if (!page) return { kind: 'table', frame: frameOf(word), rights };
  return { kind: 'page', frame: pageFrame(paging, level, word), rights, key: field(word.hi, 27, 4) };
}

/** A PDPTE as it stands in a register: what would have been reserved was looked at when it was loaded. */
export const decodeLatchedPdpte = (word: Word): EntryMeaning =>
  hasAll(word.lo, PRESENT) ? { kind: 'table', frame: frameOf(word), rights: ALL_RIGHTS } : ABSENT;

/** Which flags the entry lacks: accessed, and dirty if it maps a page, which only a write sets. */
export function missingFlags(paging: Paging, level: number, word: Word): number {
  if (isPdpte(paging.mode, level)) return 0;
  return without(isPage(paging, level, word) ? ACCESSED + DIRTY : ACCESSED, word.lo);
}

/** Whether the PDPTEs of a table may be loaded into the registers; absent ones may hold anything. */
export const areLoadable = (pdptes: readonly Word[], maxPhysAddr: number): boolean =>
  pdptes.every((word) => !hasAll(word.lo, PRESENT) || !isReservedPdpte(word, maxPhysAddr));
