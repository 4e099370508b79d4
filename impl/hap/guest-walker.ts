// Simulated hardware, and so a judge: the walk of a guest's tables whose addresses are guest-physical, each translated by nested
// tables in turn: 24 references for four levels over four. One loop serves the guest's modes, one call the nested formats.
// Flags in guest tables are set after the guest's rights have been judged and before its final address is translated; setting
// one needs the right to write the table that it is in, by the translation that its entry was read by. Reads see flags set before.
// A first reader may skip `#walkNarrow`, which is the same for entries of 32 bits. Sources: Intel SDM vol. 3C, "Prioritization of EPT
// Misconfigurations and EPT Violations", "EPT Violations", "Accessed and Dirty Flags for EPT"; AMD APM vol. 2, "Nested Paging".

import type { Word } from '#abi/address.ts';
import type { Marks } from '../paging/marks.ts';
import { BITS, CELL, FAULT, indexAt, NativeWalker, rightsOf, wantedBy, withinOf } from '../paging/native-walker.ts';
import { isBadPdpte, type Rules } from '../paging/rules.ts';
import { NESTED_OUT, USE, type Nested } from './nested.ts';

const { present, accessed, large, frameHigh, reserved2Mb } = BITS;
const { reservedHigh, reservedUpper, reserved1Gb, rootLow, rootHigh, pdptes } = CELL;
const { low: outLow, rights: outRights } = NESTED_OUT;
const { table, fetch, userFetch, flags } = USE;
const { absent, reserved } = FAULT;
const WRITE = 2;

/** What a walk answers when the nested tables refuse: the exit fields tell more. */
export const NESTED_EXIT = -64;

/** A walk of a guest: halves of a canonical linear address, an access (KIND plus WHO), a USE. */
export type GuestWalk = (low: number, high: number, access: number, use: number) => number;

/** Registers of a guest, and its walk in two dimensions. */
export class GuestWalker {
  readonly nested: Nested;
  readonly registers: NativeWalker;
  /** The guest's folded rights at the final address: R/W, U/S, XD. Without paging a page is the user's, writable, executable. */
  rights = 0;
  /** Of the last walk of entries with 64 bits: what the entries above the last set together and at all; the last one's level and cell. */
  fold = 0;
  barred = 0;
  leaf = 0;
  leafCell = 0;
  /** Of the last refusal: the guest-physical address, its use, what the nested walk answered, the rights that it found. */
  exitLow = 0;
  exitHigh = 0;
  exitUse = 0;
  exitAnswer = 0;
  exitRights = 0;
  /** By level, for those used: where the entry lies in memory, its guest-physical address, the nested rights to it. */
  readonly #trail = new Int32Array(6);
  readonly #gpaLow = new Int32Array(6);
  readonly #gpaHigh = new Int32Array(6);
  readonly #nestedRights = new Int32Array(6);
  #levels = 0;
  /** The level at which `#walkWide` starts. */
  #top = 0;
  #large = 0;
  #reserved4Mb = 0;
  /** The physical-address width if PDPTEs are read on demand, else 0. */
  #pdptesOnDemand = 0;
  /** The entry that was read last. */
  #low = 0;
  #high = 0;

  constructor(marks: Marks, nested: Nested) {
    this.nested = nested;
    this.registers = new NativeWalker(marks);
  }

  /** Takes over the guest's registers. `pdptesOnDemand`: its physical-address width if PDPTEs are read on demand, else 0. */
  load(rules: Rules, root: Word, pdptesOnDemand: number): void {
    this.registers.load(rules, root.lo, root.hi);
    this.#levels = rules.levels;
    this.#large = rules.largeLegacy ? large : 0;
    this.#reserved4Mb = rules.reserved4Mb;
    this.#pdptesOnDemand = pdptesOnDemand;
  }

  /** Translates: the high half of the machine address, the low half in `nested.out`; negative: a FAULT or `NESTED_EXIT`. */
  walk(low: number, high: number, access: number, use: number): number {
    if (this.#levels > 3) {
      const { cells } = this.registers;
      this.registers.start(cells[rootLow] as number, cells[rootHigh] as number);
      this.#top = this.#levels;
      return this.#walkWide(low, high, access, use);
    }
    if (this.#levels === 2) return this.#walkNarrow(low, access, use);
    if (this.#levels === 3) return this.#walkPae(low, access, use);
    this.rights = 3;
    return this.#finish(low, 0, use);
  }

  /** Takes what an unrolled walk has found that ended in a page table. */
  remember(leafCell: number, rights: number, fold: number, barred: number): void {
    this.leaf = 1;
    this.leafCell = leafCell;
    this.rights = rights;
    this.fold = fold;
    this.barred = barred;
  }

  /** Entries of 64 bits, from the start cells. */
  #walkWide(low: number, high: number, access: number, use: number): number {
    const { cells } = this.registers;
    let lo = cells[CELL.startLow] as number;
    let hi = cells[CELL.startHigh] as number;
    let fold = -1;
    let barred = 0;
    for (let level = this.#top; ; level -= 1) {
      const refusal = this.#read(level, (lo & ~0xfff) | (indexAt(level, low, high) << 2), hi & frameHigh);
      if (refusal !== 0) return refusal;
      lo = this.#low;
      hi = this.#high;
      if ((lo & present) === 0) return absent;
      if ((hi & (cells[reservedHigh] as number)) !== 0) return reserved;
      if (level > 3 && (lo & (cells[reservedUpper] as number)) !== 0) return reserved;
      if (level > 1 && (level > 3 || (lo & large) === 0)) {
        fold &= lo;
        barred |= hi;
        continue;
      }
      if (level > 1 && (lo & (level === 2 ? reserved2Mb : (cells[reserved1Gb] as number))) !== 0) return reserved;
      this.rights = rightsOf(fold & lo, barred | hi);
      const denial = this.registers.denial(access, this.rights, hi);
      if (denial !== 0) return denial;
      if (((fold & accessed) ^ accessed) | (wantedBy(access) & ~lo)) {
        const stopped = this.#mark(level, fold, wantedBy(access) & ~lo);
        if (stopped !== 0) return stopped;
      }
      this.fold = fold;
      this.barred = barred;
      this.leaf = level;
      this.leafCell = this.#trail[level] as number;
      const within = withinOf(level);
      return this.#finish((lo & ~within) | (low & within), hi & frameHigh, use);
    }
  }

  #walkPae(low: number, access: number, use: number): number {
    const { cells } = this.registers;
    const index = (low >>> 30) << 1;
    this.#low = cells[pdptes + index] as number;
    this.#high = cells[pdptes + index + 1] as number;
    if (this.#pdptesOnDemand !== 0) {
      // Bits 12..31 of CR3 and bits 5..11: the table has 32 bytes.
      const refusal = this.#read(3, ((cells[rootLow] as number) & ~0x1f) | (index << 2), 0);
      if (refusal !== 0) return refusal;
      if (isBadPdpte(this.#low, this.#high, this.#pdptesOnDemand)) return reserved;
    }
    if ((this.#low & present) === 0) return absent;
    this.registers.start(this.#low, this.#high);
    this.#top = 2;
    return this.#walkWide(low, 0, access, use);
  }

  /** Entries of 32 bits. */
  #walkNarrow(low: number, access: number, use: number): number {
    const { cells } = this.registers;
    let lo = cells[rootLow] as number;
    let fold = -1;
    for (let level = 2; ; level -= 1) {
      const index = level === 2 ? low >>> 22 : (low >>> 12) & 0x3ff;
      const refusal = this.#read(level, (lo & ~0xfff) | (index << 2), 0);
      if (refusal !== 0) return refusal;
      lo = this.#low;
      if ((lo & present) === 0) return absent;
      const isLarge = level === 2 && (lo & this.#large) !== 0;
      if (level === 2 && !isLarge) {
        fold = lo;
        continue;
      }
      if (isLarge && (lo & this.#reserved4Mb) !== 0) return reserved;
      this.rights = ((fold & lo) >>> 1) & 3;
      const denial = this.registers.denial(access, this.rights, 0);
      if (denial !== 0) return denial;
      this.#top = 2;
      const stopped = this.#mark(level, fold, wantedBy(access) & ~lo);
      if (stopped !== 0) return stopped;
      const within = isLarge ? 0x3f_ffff : 0xfff;
      return this.#finish((lo & ~within) | (low & within), isLarge ? (lo >>> 13) & 0xff : 0, use);
    }
  }

  /** Reads the guest's entry at a guest-physical address. Where there is no memory, ones are read. */
  #read(level: number, low: number, high: number): number {
    const { nested, registers } = this;
    const hostHigh = nested.walk(low, high, table);
    if (hostHigh < 0) return this.#exit(low, high, table, hostHigh);
    const { memory } = registers;
    const at = (nested.out[outLow] as number) >>> 2;
    const isThere = hostHigh === 0 && at < memory.length;
    this.#trail[level] = isThere ? at : -1;
    this.#gpaLow[level] = low;
    this.#gpaHigh[level] = high;
    this.#nestedRights[level] = nested.out[outRights] as number;
    this.#low = isThere ? (memory[at] as number) : -1;
    this.#high = isThere ? (memory[at | 1] as number) : -1;
    return 0;
  }

  /** Wants flags set in the entries used, from the top; 0, or the refusal of the first that may not be written. */
  #mark(leaf: number, fold: number, lacking: number): number {
    const { marks } = this.registers;
    for (let level = this.#top; level >= leaf; level -= 1) {
      const flag = level > leaf ? accessed & ~fold : lacking;
      const at = this.#trail[level] as number;
      // Nested tables may have set it since, in a word that is theirs, too.
      if (flag === 0 || at < 0 || (flag & ~(marks.memory[at] as number)) === 0) continue;
      if (((this.#nestedRights[level] as number) & WRITE) === 0) {
        this.nested.out[outRights] = this.#nestedRights[level] as number;
        return this.#exit(this.#gpaLow[level] as number, this.#gpaHigh[level] as number, flags, -1);
      }
      marks.add(at, flag);
    }
    return 0;
  }

  /** Translates the final guest-physical address. */
  #finish(low: number, high: number, use: number): number {
    const asked = use === fetch && (this.rights & 2) !== 0 ? userFetch : use;
    const hostHigh = this.nested.walk(low, high, asked);
    return hostHigh < 0 ? this.#exit(low, high, asked, hostHigh) : hostHigh;
  }

  #exit(low: number, high: number, use: number, answer: number): number {
    this.exitLow = low;
    this.exitHigh = high;
    this.exitUse = use;
    this.exitAnswer = answer;
    this.exitRights = this.nested.out[outRights] as number;
    return NESTED_EXIT;
  }
}
