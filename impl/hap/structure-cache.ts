// Simulated hardware: a paging-structure cache of directory entries for guests with four or five levels. For 2 MiB of linear
// addresses it remembers the machine frame of the guest's page table and what the entries above it give, so a walk in two
// dimensions shrinks to one entry and one nested translation. Entries come from walks that set the upper accessed flags.
//
//   cells of an entry:  bits 21..52 of the address | bits 53..63, identifier << 11 | first cell of the table, W U XD | -
//
// A first reader may skip it. Sources: Intel SDM vol. 3A, "Paging-Structure Caches", "Operations that Invalidate TLBs and
// Paging-Structure Caches"; vol. 3C, "Information That May Be Cached" (combined mappings).

import { BITS, CELL, FAULT, OFF_HEAP, rightsOf, wantedFlags } from '../paging/native-walker.ts';
import type { GuestWalk, GuestWalker } from './guest-walker.ts';
import type { NestedWalk } from './nested.ts';

const { present, frameHigh } = BITS;
const { reservedHigh, permitted, denied } = CELL;
const { absent } = FAULT;
/** Bits 53..63 of no canonical address: no entry. */
const NOTHING = 0x200;

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
    this.cells[at] = (low >>> 21) | (high << 11);
    this.cells[at + 1] = (high >>> 21) | (this.tag[0] as number);
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
  const { cells, tag } = cache;
  const { cells: registers, memory } = guest.registers;
  const slots = cache.mask << 2;
  const wantedOf = wantedFlags();
  const permittedOf = registers.subarray(permitted, permitted + 9);
  const deniedOf = registers.subarray(denied, denied + 9);

  function miss(low: number, high: number, access: number, use: number): number {
    const answer = through(low, high, access, use);
    if (answer >= 0) cache.fill(low, high, guest);
    return answer;
  }

  return function walk(low, high, access, use) {
    const slot = (low >>> 19) & slots;
    // An entry for another address names a table in memory too; what is read there does no harm.
    const table = cells[slot + 2] as number;
    const at = (table & ~0x3ff) | ((low >>> 11) & 0x3fe);
    const lo = memory[at] as number;
    const hi = memory[at | 1] as number;
    const apart = (cells[slot] as number) ^ ((low >>> 21) | (high << 11));
    const apartHigh = (cells[slot + 1] as number) ^ ((high >>> 21) | (tag[0] as number));
    served: if ((apart | apartHigh | (hi & (registers[reservedHigh] as number))) === 0) {
      if ((lo & present) === 0) return absent;
      const rights = (table & (lo >>> 1) & 3) | (table & 4) | ((hi >>> 31) << 2);
      if ((deniedOf[access] as number) !== 0 || (((permittedOf[access] as number) >>> rights) & 1) === 0) {
        const denial = guest.registers.denial(access, rights, hi);
        if (denial !== 0) return denial;
      }
      const wanted = wantedOf[access] as number;
      if (((lo & wanted) ^ wanted) !== 0) break served;
      // A fetch (4) at an address that is the user's becomes a user's fetch (5).
      const asked = use + ((use >>> 2) & (rights >>> 1) & 1);
      const answer = translate((lo & ~0xfff) | (low & 0xfff), hi & frameHigh, asked);
      if (answer >= 0) return answer;
    }
    return miss(low, high, access, use) | 0;
  };
}
