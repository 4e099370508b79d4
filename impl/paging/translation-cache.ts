// Simulated hardware: a translation lookaside buffer, direct-mapped, with process-context identifiers and global pages. It remembers
// translations of 4 KiB, pieces of larger pages too; the rights, the key and the dirty flag stay apart, so what the registers
// say of rights (CR0.WP, SMAP, PKRU...) may change without an invalidation.
//
//   cells of an entry:  linear address, low half, in place of its bits 0..11 the identifier | its high half | address, low half, in place of
//                       its bits 0..11 traits | its high half
//   traits:             0 W  1 U  2 XD  3 dirty  4 0 | 5..8 key | 9 global | 10..11 level of the page
//
// A first reader may skip `walkThrough`'s arithmetic. Sources: Intel SDM vol. 3A, "Translation Lookaside Buffers (TLBs)",
// "Operations that Invalidate TLBs and Paging-Structure Caches".

import { BITS, CELL, fieldsOf, OFF_HEAP, OUT, wantedBy, type NativeWalker, type Walk } from './native-walker.ts';

const { unserved } = CELL;
const { low: outLow, rights: outRights, leafLow, leafHigh } = OUT;
const global = 1 << 9;
const dirty = 1 << 3;
/** The high half of no canonical address: no entry. */
const NOTHING = 0x4000_0000;

/** Remembers translations. One of its registers is the current identifier. */
export class TranslationCache {
  readonly mask: number;
  readonly cells: Int32Array;
  /** The current identifier. */
  readonly tag = new Int32Array(OFF_HEAP);
  /** Whether CR4.PGE lets global pages be global. */
  hasGlobals = false;
  /** Whether pieces of larger pages are among the entries; the walk behind the cache tells. */
  hasPieces = false;

  /** `entries` is a power of two. */
  constructor(entries: number) {
    this.mask = entries - 1;
    this.cells = new Int32Array(4 * entries);
    this.invalidateAll(false);
  }

  /** Switches to another identifier, 0..4095, without an invalidation. */
  use(identifier: number): void {
    this.tag[0] = identifier;
  }

  /** INVLPG: what the current identifier, and everybody, has for the page of an address, all pieces of a larger page among it. */
  invalidatePage(low: number, high: number): void {
    if (this.hasPieces) this.#drop((at) => this.#isOurs(at) && this.#isSamePage(at, low, high));
    const at = ((low >>> 12) & this.mask) << 2;
    if (this.#isOurs(at) && this.#isSamePage(at, low, high)) this.cells[at + 1] = NOTHING;
  }

  /** What an identifier has, global pages apart: INVPCID of one context, MOV to CR3 with the identifier. */
  invalidateTag(identifier: number): void {
    this.#drop((at) => this.#belongsTo(at, identifier) && !this.#isGlobal(at));
  }

  /** Everything, with or without global pages. */
  invalidateAll(keepsGlobals: boolean): void {
    this.#drop((at) => !(keepsGlobals && this.#isGlobal(at)));
    if (!keepsGlobals) this.hasPieces = false;
  }

  #drop(isMeant: (at: number) => boolean): void {
    for (let at = 0; at < this.cells.length; at += 4) if (isMeant(at)) this.cells[at + 1] = NOTHING;
  }

  #isGlobal(at: number): boolean {
    return ((this.cells[at + 2] as number) & global) !== 0;
  }

  #belongsTo(at: number, tag: number): boolean {
    return (((this.cells[at] as number) ^ tag) & 0xfff) === 0;
  }

  #isOurs(at: number): boolean {
    return this.#isGlobal(at) || this.#belongsTo(at, this.tag[0] as number);
  }

  #isSamePage(at: number, low: number, high: number): boolean {
    const level = ((this.cells[at + 2] as number) >>> 10) & 3;
    const shift = 12 + 9 * Math.max(level - 1, 0);
    return this.cells[at + 1] === (high | 0) && ((this.cells[at] as number) ^ low) >>> shift === 0;
  }
}

/** `walk` behind a cache. A hit sets the low half in `out` alone. A translation that lacks a right or a flag is walked again. */
export function walkThrough(cache: TranslationCache, walker: NativeWalker, walk: Walk): Walk {
  const { tag } = cache;
  const { cells: registers, out } = walker;
  const slots = cache.mask << 2;
  const [lowTags, highTags, mappings, answers] = fieldsOf(cache.cells);
  const unservedOf = registers.subarray(unserved, unserved + 9);

  /**
   * What is not served at first sight: global pages of other identifiers, keys, and what is not there, which is remembered then. All this
   * is one function because it is long enough for V8 to leave it a call (more than 460 bytes of bytecode): put in its place, it would
   * keep so many values at hand that those of a hit were moved to the stack and back each time.
   */
  function miss(low: number, high: number, access: number): number {
    const at = (low >>> 10) & slots;
    const mapping = mappings[at] as number;
    const apart = (lowTags[at] as number) ^ (low & ~0xfff);
    const isOurs = (mapping & global) !== 0 || (apart & 0xfff) === tag[0];
    const isWrite = (wantedBy(access) & BITS.dirty) !== 0;
    if ((apart & ~0xfff) === 0 && highTags[at] === (high | 0) && isOurs) {
      const lacksDirty = isWrite && (mapping & dirty) === 0;
      if (!lacksDirty && walker.denial(access, mapping & 7, (mapping >>> 5) << 27) === 0) {
        out[outLow] = (mapping & ~0xfff) | (low & 0xfff);
        return answers[at] as number;
      }
    }
    const answer = walk(low, high, access);
    if (answer < 0) return answer;
    const entry = out[leafLow] as number;
    const rights = out[outRights] as number;
    const level = rights >>> 3;
    if (level > 1) cache.hasPieces = true;
    const isGlobal = cache.hasGlobals && (entry & BITS.global) !== 0;
    const isDirty = isWrite || (entry & BITS.dirty) !== 0;
    const key = ((out[leafHigh] as number) >>> 27) & 15;
    lowTags[at] = (low & ~0xfff) | (tag[0] as number);
    highTags[at] = high;
    mappings[at] =
      ((out[outLow] as number) & ~0xfff) | (rights & 7) | (key << 5) | (isGlobal ? global : 0) | (isDirty ? dirty : 0) | (level << 10); // prettier-ignore
    answers[at] = answer;
    return answer;
  }

  return function translate(low, high, access) {
    const at = (low >>> 10) & slots;
    const mapping = mappings[at] as number;
    const apart = (lowTags[at] as number) ^ ((low & ~0xfff) | (tag[0] as number));
    const apartHigh = (highTags[at] as number) ^ high;
    // The shift takes bits 0..4 of the traits: rights, the dirty flag and a 0.
    if ((apart | apartHigh | (((unservedOf[access] as number) >>> mapping) & 1)) !== 0)
      return miss(low, high, access) | 0;
    out[outLow] = mapping ^ ((mapping ^ low) & 0xfff);
    return answers[at] as number;
  };
}
