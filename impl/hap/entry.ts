// Nested page-table entries as the hypervisor writes and reads them: two 32-bit halves, bit for bit as the hardware wants
// them, the p2m type in the software bits. The hypervisor tells entries apart by its own software bits: a type makes a
// leaf, rights without a type make a pointer to a table, neither is nothing. (The hardware has its own opinion: hardware.ts.)
// A first reader may skip everything and look at the picture in abi/hap.ts.
// Sources: Intel SDM vol. 3C, "EPT Translation Mechanism", formats of entries; Xen mm/p2m-ept.c, ept_p2m_type_to_flags.

import type { Principal } from '#abi/acts.ts';
import { EPT_WRITE_BACK, eptBits, p2mRights, p2mTypes, type P2mType } from '#abi/hap.ts';
import { rightsOf } from '#abi/rights.ts';
import { and, bit, field, or, pow2 } from '#lib/bits.ts';
import type { Machine } from '../machine.ts';

/** Frame numbers are cut here: 20 bits in the low half, 20 in the high half. */
const LOW_BITS = 32 - eptBits.frameFrom;
const LOW_FRAMES = pow2(LOW_BITS);
const FRAME_UNIT = pow2(eptBits.frameFrom);

const ALL_RIGHTS = rightsOf('rwx');
const MEMORY_TYPE = EPT_WRITE_BACK * pow2(eptBits.memoryTypeFrom);
const SUPERPAGE = bit(eptBits.superpage);
const FLAGS = or(bit(eptBits.accessed), bit(eptBits.dirty));

/** Rights by p2m type code. */
const rightsByCode: readonly number[] = p2mTypes.map((type) => rightsOf(p2mRights[type]));

/** Why the hypervisor touches tables. */
const TABLE: Principal = { domain: undefined, purpose: 'table' };

/** A leaf in parts. `flags`: accessed and dirty, where they belong. */
export interface Leaf {
  readonly mfn: number;
  readonly level: number;
  readonly code: number;
  readonly flags: number;
}

/** The code of a p2m type: what the software bits hold. 0 is 'none'. */
export const codeOf = (type: P2mType): number => p2mTypes.indexOf(type);

/** The p2m type with this code; codes that nobody writes mean 'none'. */
export const typeOf = (code: number): P2mType => p2mTypes[code] ?? 'none';

/** Whether entries with this code are RAM of some kind. */
export const isRamCode = (code: number): boolean => typeOf(code).startsWith('ram');

const frameLow = (mfn: number): number => (mfn % LOW_FRAMES) * FRAME_UNIT;
const frameHigh = (mfn: number): number => Math.floor(mfn / LOW_FRAMES);

/** The low half of a leaf. */
export const leafLow = ({ mfn, level, code, flags }: Leaf): number =>
  frameLow(mfn) + flags + (level > 1 ? SUPERPAGE : 0) + MEMORY_TYPE + (rightsByCode[code] ?? 0);

/** The high half of a leaf. */
export const leafHigh = ({ mfn, code }: Leaf): number => frameHigh(mfn) + code * pow2(eptBits.typeFrom);

/** The halves of a pointer to the table in frame `mfn`: all rights and nothing else. */
export const tableLow = (mfn: number): number => frameLow(mfn) + ALL_RIGHTS;
export const tableHigh = (mfn: number): number => frameHigh(mfn);

/** The p2m type code of an entry, by its high half; 0: no leaf. */
export const codeIn = (high: number): number => field(high, eptBits.typeFrom, eptBits.typeCount);

/** The frame number of an entry. */
export const frameIn = (low: number, high: number): number =>
  field(low, eptBits.frameFrom, LOW_BITS) + field(high, 0, LOW_BITS) * LOW_FRAMES;

/** Whether an entry leads to a table. */
export const isTable = (low: number, high: number): boolean => codeIn(high) === 0 && and(low, ALL_RIGHTS) !== 0;

/** The accessed and dirty flags of an entry, where they belong. */
export const flagsIn = (low: number): number => and(low, FLAGS);

/** Where entry `index` of a table lies in field `memory` (its low half; the high half follows). The load is reported. */
export function entryAt(m: Machine, table: number, index: number): number {
  m.port.watcher?.(TABLE, 'load', { mfn: table, index });
  return 2 * (table * m.geometry.wordsPerFrame + index);
}

/** Writes an entry at once; where others can see the table, a point comes before it. */
export function storeEntry(
  m: Machine,
  to: { readonly table: number; readonly index: number },
  word: { readonly lo: number; readonly hi: number },
): void {
  const at = { mfn: to.table, index: to.index, lo: word.lo, hi: word.hi };
  m.port.watcher?.(TABLE, 'store', at);
  m.port.poke(at);
}
