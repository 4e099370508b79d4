// Simulated hardware, and so a judge: what the processor makes of an EPT entry. Rights are the three lowest bits; an entry
// without any is absent. A first reader may skip it. Sources: Intel SDM vol. 3C, "EPT Translation Mechanism" (formats of the
// entries), "EPT Misconfigurations", "Accessed and Dirty Flags for EPT".

import { NestedWalker } from './hardware.ts';

const READ = 1;
const WRITE = 2;
const ALL_RIGHTS = 7;
const SUPERPAGE = 1 << 7;
/** Bits 3..6, reserved in an entry that leads to a table. */
const RESERVED_IN_TABLE = 0b1111 << 3;
/** Memory types 2, 3 and 7 are reserved: one bit for each. */
const RESERVED_TYPES = (1 << 2) | (1 << 3) | (1 << 7);

/** Walks EPT tables. */
export class EptWalker extends NestedWalker {
  protected readonly accessed = 1 << 8;
  protected readonly dirty = 1 << 9;

  protected isPresent(lo: number): boolean {
    return (lo & ALL_RIGHTS) !== 0;
  }

  protected rightsIn(lo: number): number {
    return lo & ALL_RIGHTS;
  }

  protected isMalformed(lo: number, hi: number, level: number): boolean {
    if ((lo & (READ | WRITE)) === WRITE || (hi & this.reservedHigh) !== 0) return true;
    if (level > 1 && (lo & SUPERPAGE) === 0) return (lo & RESERVED_IN_TABLE) !== 0;
    if (level > this.geometry.superpageLevels && level > 1) return true;
    const offset = (1 << ((level - 1) * this.geometry.bitsPerLevel)) - 1;
    return ((RESERVED_TYPES >>> ((lo >>> 3) & 7)) & 1) !== 0 || ((lo >>> 12) & offset) !== 0;
  }
}
