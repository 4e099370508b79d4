// Simulated hardware, and so a judge: the walk of 32-bit paging, whose entries are single cells of memory.
//
//   linear    | 31..22 | 21..12 | 11..0 |        4 MiB entry  | 31..22 | 21: 0 | 20..13: address 39..32 | 12 | 7: 1 | ...
//
// A first reader may skip it: there is no XD, there are no keys, and the only reserved bits are those of a 4 MiB entry.
// Sources: Intel SDM vol. 3A, "32-Bit Paging" (with PSE-36).

import type { Marks } from './marks.ts';
import { BITS, CELL, FAULT, NativeWalker, OUT, wantedBy, type Walk } from './native-walker.ts';
import type { Rules } from './rules.ts';

const { present, accessed, large, frameHigh } = BITS;
const { rootLow, rootHigh, permitted } = CELL;
const { low: outLow, rights: outRights, leafLow, leafHigh } = OUT;
const { absent, reserved, denied } = FAULT;

/** The bits of an address within 4 MiB. */
const WITHIN_LARGE = 0x3f_ffff;

/** Registers and walk of 32-bit paging. Registers are those of `NativeWalker`, of which it uses few. */
export class LegacyWalker {
  readonly registers: NativeWalker;
  #reserved4Mb = 0;
  #large = 0;

  constructor(marks: Marks) {
    this.registers = new NativeWalker(marks);
  }

  load(rules: Rules, low: number, high: number): void {
    this.registers.load(rules, low, high);
    this.#large = rules.largeLegacy ? large : 0;
    this.#reserved4Mb = rules.reserved4Mb;
  }

  /** As every `Walk`; of the linear address the low half counts. Without memory, all ones are read. */
  readonly walk: Walk = (low, _high, access) => {
    const { memory, cells, out } = this.registers;
    const { length } = memory;
    const root = cells[rootLow] as number;
    let at = ((root >>> 12) << 10) | (low >>> 22);
    if (((cells[rootHigh] as number) & frameHigh) !== 0 || at >= length) at = -1;
    const directory = at < 0 ? -1 : (memory[at] as number);
    if ((directory & present) === 0) return absent;
    if ((directory & this.#large) !== 0) return this.#walkLarge(directory, low, access, at);

    let leafAt = ((directory >>> 12) << 10) | ((low >>> 12) & 0x3ff);
    if (leafAt >= length) leafAt = -1;
    const leaf = leafAt < 0 ? -1 : (memory[leafAt] as number);
    if ((leaf & present) === 0) return absent;
    const rights = ((directory & leaf) >>> 1) & 3;
    if ((((cells[permitted + access] as number) >>> rights) & 1) === 0) return denied;
    if ((directory & accessed) === 0) this.registers.marks.add(at, accessed);
    const lacking = wantedBy(access) & ~leaf;
    if (lacking !== 0) this.registers.marks.add(leafAt, lacking);
    out[outLow] = (leaf & ~0xfff) | (low & 0xfff);
    out[outRights] = rights | 8;
    out[leafLow] = leaf;
    out[leafHigh] = 0;
    return 0;
  };

  #walkLarge(entry: number, low: number, access: number, at: number): number {
    const { cells, out, marks } = this.registers;
    if ((entry & this.#reserved4Mb) !== 0) return reserved;
    const rights = (entry >>> 1) & 3;
    if ((((cells[permitted + access] as number) >>> rights) & 1) === 0) return denied;
    const lacking = wantedBy(access) & ~entry;
    if (lacking !== 0) marks.add(at, lacking);
    out[outLow] = (entry & ~WITHIN_LARGE) | (low & WITHIN_LARGE);
    out[outRights] = rights | 16;
    out[leafLow] = entry;
    out[leafHigh] = 0;
    return (entry >>> 13) & 0xff;
  }
}
