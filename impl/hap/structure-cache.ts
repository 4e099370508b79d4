// Simulated hardware: a paging-structure cache of directory entries for guests with four or five levels. For 2 MiB of linear
// addresses it remembers the machine frame of the guest's page table and what the entries above it give, so a walk in two
// dimensions shrinks to one entry and one nested translation. Entries come from walks that set the upper accessed flags.
//
//   cells of an entry:  high half of the address | bits 21..31, identifier << 11 | first cell of the table, W U XD | -
//
// A first reader may skip it. Sources: Intel SDM vol. 3A, "Paging-Structure Caches", "Operations that Invalidate TLBs and
// Paging-Structure Caches"; vol. 3C, "Information That May Be Cached" (combined mappings).

import { BITS, CELL, FAULT, fieldsOf, halvesOf, OFF_HEAP, rightsOf, wantedBy } from '../paging/native-walker.ts';
import type { GuestWalk, GuestWalker } from './guest-walker.ts';
import type { NestedWalk } from './nested.ts';

const { present, accessed, dirty, frameHigh } = BITS;
const { reservedHigh, unserved } = CELL;
const { absent } = FAULT;
/** No identifier has so many bits: no entry. */
const NOTHING = -1;

/** Remembers directory entries. */
export class StructureCache {
  readonly mask: number;
  readonly cells: Int32Array;
  /** The current identifier, shifted into its place. */
  readonly tag = new Int32Array(OFF_HEAP);

  /** `entries` is a power of two. */
  constructor(entries: number) {
    this.mask = entries - 1;
    this.cells = new Int32Array(4 * entries);
    this.invalidateAll();
  }

  /** Switches to another identifier, 0..4095, without an invalidation. */
  use(identifier: number): void {
    this.tag[0] = identifier << 11;
  }

  /** Remembers what a walk has just used, if its last entry was in a page table that lies in memory. */
  fill(low: number, high: number, guest: GuestWalker): void {
    if (guest.leaf !== 1 || guest.leafCell < 0) return;
    const at = ((low >>> 21) & this.mask) << 2;
    this.cells[at] = high;
    this.cells[at + 1] = (low >>> 21) | (this.tag[0] as number);
    this.cells[at + 2] = (guest.leafCell & ~0x3ff) | rightsOf(guest.fold, guest.barred);
  }

  /** INVLPG: everything of the current identifier, whatever the address. */
  invalidatePage(): void {
    this.invalidateTag((this.tag[0] as number) >>> 11);
  }

  /** Everything of one identifier. */
  invalidateTag(identifier: number): void {
    for (let at = 1; at < this.cells.length; at += 4)
      if ((this.cells[at] as number) >>> 11 === identifier) this.cells[at] = NOTHING;
  }

  /** Everything. */
  invalidateAll(): void {
    for (let at = 1; at < this.cells.length; at += 4) this.cells[at] = NOTHING;
  }
}

/**
 * `through`, a walk of `guest`, behind a structure cache; for guests with four or five levels. What a remembered entry does not
 * serve (flags, reserved bits, a refusal of the nested tables, which `translate` walks) is walked from the root; faults may come of it.
 */
export function walkThrough(
  cache: StructureCache,
  guest: GuestWalker,
  through: GuestWalk,
  translate: NestedWalk,
): GuestWalk {
  const { tag } = cache;
  const { cells: registers, memory } = guest.registers;
  const slots = cache.mask << 2;
  const [highTags, lowTags, tables] = fieldsOf(cache.cells);
  const [lows, highs] = halvesOf(memory);
  const unservedOf = registers.subarray(unserved, unserved + 9);

  function miss(low: number, high: number, access: number, use: number): number {
    const answer = through(low, high, access, use);
    if (answer >= 0) cache.fill(low, high, guest);
    return answer;
  }

  /** By all rules, one after the other: faults that a remembered entry decides, keys, flags that are missing. */
  function unusual(low: number, high: number, access: number, use: number): number {
    const slot = (low >>> 19) & slots;
    const table = tables[slot] as number;
    const at = cellIn(table, low);
    const lo = lows[at] as number;
    const hi = highs[at] as number;
    const isHere = highTags[slot] === (high | 0) && lowTags[slot] === ((low >>> 21) | (tag[0] as number));
    if (!isHere || (hi & (registers[reservedHigh] as number)) !== 0) return miss(low, high, access, use);
    if ((lo & present) === 0) return absent;
    const rights = rightsBelow(table, lo, hi);
    const denial = guest.registers.denial(access, rights, hi);
    if (denial !== 0) return denial;
    if ((wantedBy(access) & ~lo) !== 0) return miss(low, high, access, use);
    const answer = translate((lo & ~0xfff) | (low & 0xfff), hi & frameHigh, askedOf(use, rights));
    return answer >= 0 ? answer : miss(low, high, access, use);
  }

  // What `unusual` has functions for is written out here, to leave V8's allowance for inlining to the nested walk.
  return function walk(low, high, access, use) {
    const slot = (low >>> 19) & slots;
    // An entry for another address names a table in memory too; what is read there does no harm.
    const table = tables[slot] as number;
    const at = (table & ~0x3ff) | ((low >>> 11) & 0x3fe);
    const lo = lows[at] as number;
    const hi = highs[at] as number;
    const apart = (highTags[slot] as number) ^ high;
    const apartLow = (lowTags[slot] as number) ^ ((low >>> 21) | (tag[0] as number));
    const rights = (table & (lo >>> 1) & 3) | (table & 4) | ((hi >>> 31) << 2);
    // `unserved` is indexed by rights with the dirty flag as bit 3.
    const refused = ((unservedOf[access] as number) >>> (rights | ((lo & dirty) >>> 3))) & 1;
    const lacking = (lo & (present | accessed)) ^ (present | accessed);
    if ((apart | apartLow | (hi & (registers[reservedHigh] as number)) | refused | lacking) !== 0)
      return unusual(low, high, access, use) | 0;
    const asked = (use + ((use >>> 2) & (rights >>> 1) & 1)) | 0;
    const answer = translate((lo & ~0xfff) | (low & 0xfff), hi & frameHigh, asked);
    return answer >= 0 ? answer : unusual(low, high, access, use) | 0;
  };
}

/** The cell of the entry for an address in the page table that a remembered entry names. */
const cellIn = (table: number, low: number): number => (table & ~0x3ff) | ((low >>> 11) & 0x3fe);

/** Rights that a remembered entry and the entry below it give together. */
const rightsBelow = (table: number, lo: number, hi: number): number =>
  (table & (lo >>> 1) & 3) | (table & 4) | ((hi >>> 31) << 2);

/** A fetch (4) at an address that is the user's becomes a user's fetch (5). */
const askedOf = (use: number, rights: number): number => (use + ((use >>> 2) & (rights >>> 1) & 1)) | 0;
