// Simulated hardware, and so a judge: a processor's walk of entries with 64 bits (PAE, four and five levels) in one memory.
// Here are the registers of a walk and the whole of its rules, as a loop over levels; the unrolled walks in long-walker.ts
// and pae-walker.ts take the common path and leave to `walkAll` whatever is unusual. Addresses and entries are pairs of 32-bit
// halves in interleaved cells; nothing is allocated, no number leaves 32 bits.
//
//   linear   | 56..48 | 47..39 | 38..30 | 29..21 | 20..12 | 11..0 |
//   index at | level 5| level 4| level 3| level 2| level 1| byte  |
//
// A walk that comes to an address sets accessed flags in all entries and the dirty flag in the last; one that faults sets none.
// A first reader may skip the names of cells. Sources: Intel SDM vol. 3A, "4-Level Paging and 5-Level Paging", "PAE Paging",
// "Access Rights", "Page-Fault Exceptions", "Accessed and Dirty Flags".

import type { Marks } from './marks.ts';
import type { Rules } from './rules.ts';

/** Bits of low halves; bits 32..51 of an address as bits of a high half; what is reserved in an entry of 2 MiB. */
export const BITS = {
  present: 1,
  accessed: 1 << 5,
  dirty: 1 << 6,
  large: 1 << 7,
  global: 1 << 8,
  frameHigh: 0xf_ffff,
  reserved2Mb: 0x1f_e000,
} as const;

/** What a walk answers instead of a high half: the complement of the part of the error code that entries decide. */
export const FAULT = { absent: ~0, reserved: ~0x9, denied: ~0x1, deniedByKey: ~0x21 } as const;

/** Cells that an array needs at least to lie outside the collector's heap, where compiled code can name its place. */
export const OFF_HEAP = 32;

/**
 * The four cells of each entry as arrays of their own, over the same memory and indexed alike by an entry's first cell. They are equally
 * long, so that compiled code compares an index with one length once.
 */
export function fieldsOf(cells: Int32Array): readonly [Int32Array, Int32Array, Int32Array, Int32Array] {
  const field = (n: number): Int32Array => cells.subarray(n, cells.length - 3 + n);
  return [field(0), field(1), field(2), field(3)];
}

/** The low and the high halves of entries of 64 bits, indexed alike by an entry's first cell, as in `fieldsOf`. */
export function halvesOf(memory: Int32Array): readonly [Int32Array, Int32Array] {
  return [memory.subarray(0, memory.length - 1), memory.subarray(1)];
}

/** Cells of `out`: the low half of the address; folded rights (R/W, U/S, XD) plus 8 times the level of the last entry; that entry. */
export const OUT = { low: 0, rights: 1, leafLow: 2, leafHigh: 3 } as const;

/**
 * Cells of registers. `root` is CR3. A walk starts from `start`: an entry, and what the entries above it set together and at all.
 * `far`: reserved bits of a high half, and those that lead out of any memory. `permitted`, `denied`: nine each, by access, and
 * `unserved`: the complement of `permitted`, over rights with the dirty flag as a fourth bit, without which nothing is written, and all
 * ones if keys are looked at; `checkedUpper`: reserved bits of a low half of the two upper levels, and the present flag.
 */
export const CELL = {
  rootLow: 0,
  rootHigh: 1,
  startLow: 2,
  startHigh: 3,
  startFold: 4,
  startBarred: 5,
  reservedHigh: 6,
  far: 7,
  reservedUpper: 8,
  reserved1Gb: 9,
  permitted: 10,
  denied: 19,
  pdptes: 28,
  unserved: 36,
  checkedUpper: 45,
} as const;
const CELLS = 46;

/** By access: the flags that it wants in the last entry, and that this is present. */
export function wantedFlags(): Int32Array {
  const flags = new Int32Array(OFF_HEAP);
  flags.set([0x21, 0x21, 0x21, 0x61, 0x61, 0x61, 0x21, 0x21, 0x21]);
  return flags;
}

const WANTED = wantedFlags();
export const wantedBy = (access: number): number => WANTED[access] as number;

/** A walk: halves of a canonical linear address, an access (KIND plus WHO); the high half of the physical address, or a FAULT. */
export type Walk = (low: number, high: number, access: number) => number;

/** The index of an entry at `level`, times two. */
export function indexAt(level: number, low: number, high: number): number {
  if (level === 1) return (low >>> 11) & 0x3fe;
  if (level === 2) return (low >>> 20) & 0x3fe;
  if (level === 3) return ((high << 3) | ((low >>> 30) << 1)) & 0x3fe;
  return (level === 4 ? high >>> 6 : high >>> 15) & 0x3fe;
}

/** The bits of an address within the page of an entry at `level`. */
export const withinOf = (level: number): number => (level === 1 ? 0xfff : level === 2 ? 0x1f_ffff : 0x3fff_ffff);

/** Rights from what the upper entries set together and at all, and the last entry. */
export const rightsOf = (fold: number, barred: number): number => ((fold >>> 1) & 3) | ((barred >>> 31) << 2);

/** Where an entry lies: `low` and `high` are the entry above it or CR3; negative: not in memory. */
export function cellOf(memory: Int32Array, low: number, high: number, index: number): number {
  const at = ((low >>> 12) << 10) | index;
  return (high & BITS.frameHigh) === 0 && at < memory.length ? at : -1;
}

/** Registers of walks in one memory, and the walk by all rules. */
export class NativeWalker {
  readonly memory: Int32Array;
  readonly marks: Marks;
  readonly out = new Int32Array(OFF_HEAP);
  readonly cells = new Int32Array(CELLS);
  readonly #trail = new Int32Array(6);

  constructor(marks: Marks) {
    this.memory = marks.memory;
    this.marks = marks;
  }

  /** Takes over registers; `low` and `high` are CR3. The PDPTE registers are for the caller to set. */
  load(rules: Rules, low: number, high: number): void {
    const { cells } = this;
    cells[CELL.rootLow] = low;
    cells[CELL.rootHigh] = high;
    this.start(low, high);
    cells[CELL.reservedHigh] = rules.reservedHigh;
    cells[CELL.far] = rules.reservedHigh | BITS.frameHigh;
    cells[CELL.reservedUpper] = rules.reservedUpper;
    cells[CELL.checkedUpper] = rules.reservedUpper | BITS.present;
    cells[CELL.reserved1Gb] = rules.reserved1Gb;
    for (let access = 0; access < 9; access += 1) {
      const permitted = rules.permitted[access] as number;
      const denied = rules.denied[access] as number;
      const clean = (wantedBy(access) & BITS.dirty) === 0 ? permitted : 0;
      cells[CELL.permitted + access] = permitted;
      cells[CELL.denied + access] = denied;
      cells[CELL.unserved + access] = denied === 0 ? ~(clean | (permitted << 8)) : -1;
    }
  }

  /** Lets the next walk start from a table with nothing above it that counts. */
  start(low: number, high: number): void {
    const { cells } = this;
    cells[CELL.startLow] = low;
    cells[CELL.startHigh] = high;
    cells[CELL.startFold] = -1;
    cells[CELL.startBarred] = 0;
  }

  /** Walks by all rules from the start cells, a table of `top`. What lies beyond memory is all ones. */
  walkAll(low: number, high: number, access: number, top: number): number {
    const { memory, cells } = this;
    let lo = cells[CELL.startLow] as number;
    let hi = cells[CELL.startHigh] as number;
    let fold = cells[CELL.startFold] as number;
    let barred = cells[CELL.startBarred] as number;
    for (let level = top; ; level -= 1) {
      const at = cellOf(memory, lo, hi, indexAt(level, low, high));
      this.#trail[level] = at;
      lo = at < 0 ? -1 : (memory[at] as number);
      hi = at < 0 ? -1 : (memory[at + 1] as number);
      if ((lo & BITS.present) === 0) return FAULT.absent;
      if (this.#isMalformed(lo, hi, level)) return FAULT.reserved;
      barred |= hi;
      if (level === 1 || (lo & BITS.large) !== 0) {
        const rights = rightsOf(fold & lo, barred);
        const denial = this.denial(access, rights, hi);
        if (denial !== 0) return denial;
        this.#mark(top, level, fold & BITS.accessed, wantedBy(access) & ~lo);
        return this.#tell(low, lo, hi, rights | (level << 3));
      }
      fold &= lo;
    }
  }

  #isMalformed(lo: number, hi: number, level: number): boolean {
    const { cells } = this;
    if ((hi & (cells[CELL.reservedHigh] as number)) !== 0) return true;
    if (level > 3) return (lo & (cells[CELL.reservedUpper] as number)) !== 0;
    if (level === 1 || (lo & BITS.large) === 0) return false;
    return (lo & (level === 2 ? BITS.reserved2Mb : (cells[CELL.reserved1Gb] as number))) !== 0;
  }

  #tell(low: number, lo: number, hi: number, rights: number): number {
    const { out } = this;
    const within = withinOf(rights >>> 3);
    out[OUT.low] = (lo & ~within) | (low & within);
    out[OUT.rights] = rights;
    out[OUT.leafLow] = lo;
    out[OUT.leafHigh] = hi;
    return hi & BITS.frameHigh;
  }

  /** 0, or how folded rights, or the key in the high half of the last entry, deny the access. */
  denial(access: number, rights: number, leafHigh: number): number {
    const { cells } = this;
    const key = ((leafHigh >>> 27) & 15) | ((rights & 2) === 0 ? 16 : 0);
    if ((((cells[CELL.denied + access] as number) >>> key) & 1) !== 0) return FAULT.deniedByKey;
    return (((cells[CELL.permitted + access] as number) >>> (rights & 7)) & 1) === 0 ? FAULT.denied : 0;
  }

  #mark(top: number, leaf: number, accessed: number, lacking: number): void {
    if (accessed === 0)
      for (let level = top; level > leaf; level -= 1) this.marks.add(this.#trail[level] as number, BITS.accessed);
    if (lacking !== 0) this.marks.add(this.#trail[leaf] as number, lacking);
  }
}
