// Simulated hardware, and so a judge: what the processor makes of an NPT entry, an entry of long mode that is walked for a
// user. A first reader may skip it. Sources: AMD64 APM vol. 2, "Nested Paging" (nested table walk), "Long-Mode Page
// Translation" (formats of the entries), "Page-Translation-Table Entry Fields".

import { NestedWalker } from './hardware.ts';

const PRESENT = 1 << 0;
const WRITE = 1 << 1;
const USER = 1 << 2;
const SUPERPAGE = 1 << 7;
/** Reserved in an entry that leads to a table, from the page-directory-pointer table (level 3) on. */
const GLOBAL = 1 << 8;
const GLOBAL_RESERVED_FROM = 3;
/** In the high half. */
const NO_EXECUTE = 1 << 31;
/** As rights: reading alone, and what the two bits add. */
const CAN_READ = 1;
const CAN_WRITE = 2;
const CAN_EXECUTE = 4;

/** Walks NPT tables. */
export class NptWalker extends NestedWalker {
  protected readonly accessed = 1 << 5;
  protected readonly dirty = 1 << 6;

  protected isPresent(lo: number): boolean {
    return (lo & PRESENT) !== 0;
  }

  protected rightsIn(lo: number, hi: number): number {
    if ((lo & USER) === 0) return 0;
    return CAN_READ | ((lo & WRITE) === 0 ? 0 : CAN_WRITE) | ((hi & NO_EXECUTE) === 0 ? CAN_EXECUTE : 0);
  }

  protected isMalformed(lo: number, hi: number, level: number): boolean {
    if ((hi & this.reservedHigh) !== 0) return true;
    if (level === 1) return false;
    if ((lo & SUPERPAGE) === 0) return level >= GLOBAL_RESERVED_FROM && (lo & GLOBAL) !== 0;
    if (level > this.geometry.superpageLevels) return true;
    // Bit 12 selects the memory type; the others below the frame number must be zero.
    const offset = (1 << ((level - 1) * this.geometry.bitsPerLevel)) - 1;
    return ((lo >>> 13) & (offset >>> 1)) !== 0;
  }

  override frameOf(level: number, low: number, high: number): number {
    const isLarge = level > 1 && (low & SUPERPAGE) !== 0;
    return super.frameOf(level, isLarge ? low & ~(1 << 12) : low, high);
  }
}
