// Nested page-table entries as the hypervisor writes and reads them: two 32-bit halves, bit for bit as the hardware wants
// them, the p2m type in the software bits. The hypervisor tells entries apart by its own software bits: a type makes a
// leaf, something without a type is a pointer to a table. (The hardware has its own opinion: hardware.ts.)
// Which bits these are depends on the machine: ept.ts and npt.ts are the two formats, `m.entries` is the machine's.
// A first reader may skip everything and look at the pictures in abi/hap.ts.
// Sources: Intel SDM vol. 3C, "EPT Translation Mechanism", formats of entries; AMD64 APM vol. 2, "Nested Paging".

import type { Principal } from '#abi/acts.ts';
import { p2mAccesses, p2mRights, p2mTypes, UNRESTRICTED, type P2mAccess, type P2mType } from '#abi/hap.ts';
import { rightsOf } from '#abi/rights.ts';
import { field, pow2 } from '#lib/bits.ts';
import type { Machine } from '../machine.ts';

/** A leaf in parts. `access`: the code of what is left of its rights. `flags`: accessed and dirty, where they belong. */
export interface Leaf {
  readonly mfn: number;
  readonly level: number;
  readonly code: number;
  readonly access: number;
  readonly flags: number;
}

/** How entries of one format are written and read. */
export interface EntryFormat {
  /** The halves of a leaf. */
  readonly leafLow: (leaf: Leaf) => number;
  readonly leafHigh: (leaf: Leaf) => number;
  /** The halves of a pointer to the table in frame `mfn`: all rights and nothing else. */
  readonly tableLow: (mfn: number) => number;
  readonly tableHigh: (mfn: number) => number;
  /** The p2m type code of an entry, by its high half; 0: no leaf. */
  readonly codeIn: (high: number) => number;
  /** The code of what is left of a leaf's rights, by its high half. */
  readonly accessIn: (high: number) => number;
  /** Whether processors make anything of an entry, and so may remember it. */
  readonly isPresent: (low: number) => boolean;
  /** The frame number of an entry. */
  readonly frameIn: (low: number, high: number) => number;
  /** Whether an entry leads to a table. */
  readonly isTable: (low: number, high: number) => boolean;
  /** The accessed and dirty flags of an entry, where they belong. */
  readonly flagsIn: (low: number) => number;
}

/** Frame numbers lie in bits 12 to 51: 20 bits in the low half, 20 in the high half. */
const LOW_BITS = 20;
const LOW_FRAMES = pow2(LOW_BITS);
const FRAME_FROM = 12;
const FRAME_UNIT = pow2(FRAME_FROM);

/** The bits of a frame number in the halves of an entry. */
export const frameLow = (mfn: number): number => (mfn % LOW_FRAMES) * FRAME_UNIT;
export const frameHigh = (mfn: number): number => Math.floor(mfn / LOW_FRAMES);

/** The frame number in the halves of an entry. */
export const frameIn = (low: number, high: number): number =>
  field(low, FRAME_FROM, LOW_BITS) + field(high, 0, LOW_BITS) * LOW_FRAMES;

/** Rights by p2m type code. */
export const rightsByCode: readonly number[] = p2mTypes.map((type) => rightsOf(p2mRights[type]));

/** Why the hypervisor touches tables. */
const TABLE: Principal = { domain: undefined, purpose: 'table' };

/** The code of a p2m type: what the software bits hold. 0 is 'none'. */
export const codeOf = (type: P2mType): number => p2mTypes.indexOf(type);

/** The code of what is left of an entry's rights, what it says, and the code of everything. */
export const accessCodeOf = (access: P2mAccess): number => p2mAccesses.indexOf(access);
export const accessOf = (code: number): P2mAccess => p2mAccesses[code] ?? 'n';
export const WHOLE_ACCESS = accessCodeOf(UNRESTRICTED);

/** The p2m type with this code; codes that nobody writes mean 'none'. */
export const typeOf = (code: number): P2mType => p2mTypes[code] ?? 'none';

/** Whether entries with this code are RAM of some kind. */
export const isRamCode = (code: number): boolean => typeOf(code).startsWith('ram');

/** Whether entries with this code have no frame: there will be one when it is asked for. */
export const isFramelessCode = (code: number): boolean => typeOf(code) === 'populateOnDemand';

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
  m.port.poke(TABLE, { mfn: to.table, index: to.index, lo: word.lo, hi: word.hi });
}
