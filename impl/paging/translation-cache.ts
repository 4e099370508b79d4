// Simulated hardware: a translation lookaside buffer, direct-mapped, with process-context identifiers and global pages. It remembers
// translations of 4 KiB, pieces of larger pages too; the rights, the key and the dirty flag stay apart, so what the registers
// say of rights (CR0.WP, SMAP, PKRU...) may change without an invalidation.
//
//   cells of an entry:  bits 12..43 of the address | bits 44..63, identifier << 20 | address, traits | high half of the address
//   traits:             0 W  1 U  2 XD  3 dirty  4 0 | 5..8 key | 9 global | 10..11 level of the page
//
// A first reader may skip `walkThrough`'s arithmetic. Sources: Intel SDM vol. 3A, "Translation Lookaside Buffers (TLBs)",
// "Operations that Invalidate TLBs and Paging-Structure Caches".

import { BITS, CELL, OFF_HEAP, OUT, wantedBy, type NativeWalker, type Walk } from './native-walker.ts';

const { granted } = CELL;
const { low: outLow, rights: outRights, leafLow, leafHigh } = OUT;
const global = 1 << 9;
const dirty = 1 << 3;
/** Bits 44..63 of no canonical address: no entry. */
const NOTHING = 0x4_0000;

/** Remembers translations. One of its registers is the current identifier. */
export class TranslationCache {
  readonly mask: number;
  readonly cells: Int32Array;
  /** The current identifier, shifted into its place. */
  readonly tag = new Int32Array(OFF_HEAP);
  /** Whether CR4.PGE lets global pages be global. */
  hasGlobals = false;
  #hasPieces = false;

  /** `entries` is a power of two. */
  constructor(entries: number) {
    this.mask = entries - 1;
    this.cells = new Int32Array(4 * entries);
    this.invalidateAll(false);
  }

  /** Switches to another identifier, 0..4095, without an invalidation. */
  use(identifier: number): void {
    this.tag[0] = identifier << 20;
  }

  /** Remembers what a walk has just come to. `out` is the walker's; `high` its answer. */
  fill(low: number, linearHigh: number, high: number, told: { out: Int32Array; isWrite: boolean }): void {
    const { cells } = this;
    const at = ((low >>> 12) & this.mask) << 2;
    const entry = told.out[leafLow] as number;
    const rights = told.out[outRights] as number;
    const level = rights >>> 3;
    if (level > 1) this.#hasPieces = true;
    const isGlobal = this.hasGlobals && (entry & BITS.global) !== 0;
    const isDirty = told.isWrite || (entry & BITS.dirty) !== 0;
    const key = ((told.out[leafHigh] as number) >>> 27) & 15;
    cells[at] = (low >>> 12) | (linearHigh << 20);
    cells[at + 1] = (linearHigh >>> 12) | (this.tag[0] as number);
    cells[at + 2] =
      ((told.out[outLow] as number) & ~0xfff) | (rights & 7) | (key << 5) | (isGlobal ? global : 0) | (isDirty ? dirty : 0) | (level << 10); // prettier-ignore
    cells[at + 3] = high;
  }

  /** Whether the entry at a cell serves by all rules: a global one of any identifier, keys that permit. Its lower tag fits. */
  serves(walker: NativeWalker, access: number, at: number, high: number): boolean {
    const trait = this.cells[at + 2] as number;
    const apart = (this.cells[at + 1] as number) ^ ((high >>> 12) | (this.tag[0] as number));
    if (((trait & global) === 0 ? apart : apart & 0xf_ffff) !== 0) return false;
    if ((wantedBy(access) & BITS.dirty) !== 0 && (trait & dirty) === 0) return false;
    return walker.denial(access, trait & 7, (trait >>> 5) << 27) === 0;
  }

  /** INVLPG: what the current identifier, and everybody, has for the page of an address, all pieces of a larger page among it. */
  invalidatePage(low: number, high: number): void {
    if (this.#hasPieces) this.#drop((at) => this.#isOurs(at) && this.#isSamePage(at, low, high));
    const at = ((low >>> 12) & this.mask) << 2;
    if (this.#isOurs(at) && this.#isSamePage(at, low, high)) this.cells[at + 1] = NOTHING;
  }

  /** What an identifier has, global pages apart: INVPCID of one context, MOV to CR3 with the identifier. */
  invalidateTag(identifier: number): void {
    this.#drop((at) => this.#belongsTo(at, identifier << 20) && !this.#isGlobal(at));
  }

  /** Everything, with or without global pages. */
  invalidateAll(keepsGlobals: boolean): void {
    this.#drop((at) => !(keepsGlobals && this.#isGlobal(at)));
    if (!keepsGlobals) this.#hasPieces = false;
  }

  #drop(isMeant: (at: number) => boolean): void {
    for (let at = 0; at < this.cells.length; at += 4) if (isMeant(at)) this.cells[at + 1] = NOTHING;
  }

  #isGlobal(at: number): boolean {
    return ((this.cells[at + 2] as number) & global) !== 0;
  }

  #belongsTo(at: number, tag: number): boolean {
    return (((this.cells[at + 1] as number) ^ tag) & ~0xf_ffff) === 0;
  }

  #isOurs(at: number): boolean {
    return this.#isGlobal(at) || this.#belongsTo(at, this.tag[0] as number);
  }

  #isSamePage(at: number, low: number, high: number): boolean {
    const level = ((this.cells[at + 2] as number) >>> 10) & 3;
    const apart = 9 * Math.max(level - 1, 0);
    const low32 = (low >>> 12) | (high << 20);
    const isSameHigh = (((this.cells[at + 1] as number) ^ (high >>> 12)) & 0xf_ffff) === 0;
    return isSameHigh && ((this.cells[at] as number) ^ low32) >>> apart === 0;
  }
}

/** `walk` behind a cache. A hit sets the low half in `out` alone. A translation that lacks a right or a flag is walked again. */
export function walkThrough(cache: TranslationCache, walker: NativeWalker, walk: Walk): Walk {
  const { cells, tag } = cache;
  const { cells: registers, out } = walker;
  const slots = cache.mask << 2;
  const grantedOf = registers.subarray(granted, granted + 9);

  /** What is not served at first sight: global pages of other identifiers, keys, and what is not there. */
  function miss(low: number, high: number, access: number): number {
    const at = (low >>> 10) & slots;
    if (cells[at] === ((low >>> 12) | (high << 20)) && cache.serves(walker, access, at, high)) {
      out[outLow] = ((cells[at + 2] as number) & ~0xfff) | (low & 0xfff);
      return cells[at + 3] as number;
    }
    const answer = walk(low, high, access);
    if (answer >= 0) cache.fill(low, high, answer, { out, isWrite: (wantedBy(access) & BITS.dirty) !== 0 });
    return answer;
  }

  return function translate(low, high, access) {
    const at = (low >>> 10) & slots;
    const trait = cells[at + 2] as number;
    const apart = (cells[at] as number) ^ ((low >>> 12) | (high << 20));
    const apartHigh = (cells[at + 1] as number) ^ ((high >>> 12) | (tag[0] as number));
    // The shift takes bits 0..4 of the traits: rights, the dirty flag and a 0.
    if ((apart | apartHigh | (~((grantedOf[access] as number) >>> trait) & 1)) !== 0)
      return miss(low, high, access) | 0;
    out[outLow] = (trait & ~0xfff) | (low & 0xfff);
    return cells[at + 3] as number;
  };
}
