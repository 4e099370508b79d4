// Simulated hardware, and so a judge: the unrolled walk of PAE paging, two levels below a register. As in long-walker.ts it
// answers what is usual and leaves the rest to the walk by all rules.
// A first reader may skip it after long-walker.ts. The PDPTE registers say only where the directory is: they give no rights and
// have no flags. Source: Intel SDM vol. 3A, "PAE Paging", "PDPTE Registers".

import { BITS, CELL, FAULT, OUT, wantedFlags, type NativeWalker, type Walk } from './native-walker.ts';

const { present, accessed, large, frameHigh } = BITS;
const { reservedHigh, far, permitted, pdptes } = CELL;
const { low: outLow, rights: outRights, leafLow, leafHigh } = OUT;
const { absent } = FAULT;

/** Walks from the PDPTE registers of `walker`. Of the linear address the low half counts. */
export function walkOfPae(walker: NativeWalker): Walk {
  const { memory, cells, out } = walker;
  const { length } = memory;
  const wantedOf = wantedFlags();
  const permittedOf = cells.subarray(permitted, permitted + 9);
  return function walk(low, high, access) {
    const table = cells[pdptes + ((low >>> 30) << 1)] as number;
    const tableHigh = cells[pdptes + 1 + ((low >>> 30) << 1)] as number;
    if ((table & present) === 0) return absent;
    usual: {
      let at = ((table >>> 12) << 10) | ((low >>> 20) & 0x3fe);
      if ((tableHigh & frameHigh) !== 0 || at >= length) break usual;
      const directory = memory[at] as number;
      const directoryHigh = memory[at + 1] as number;
      if ((directory & present) === 0) return absent;
      if (((directory & large) | (directoryHigh & (cells[far] as number))) !== 0) break usual;

      at = ((directory >>> 12) << 10) | ((low >>> 11) & 0x3fe);
      if (at >= length) break usual;
      const lo = memory[at] as number;
      const hi = memory[at + 1] as number;
      if ((lo & present) === 0) return absent;
      const rights = (((directory & lo) >>> 1) & 3) | (((directoryHigh | hi) >>> 31) << 2);
      if ((hi & (cells[reservedHigh] as number)) !== 0) break usual;
      if ((((permittedOf[access] as number) >>> rights) & 1) === 0) break usual;
      const wanted = wantedOf[access] as number;
      if ((((directory & accessed) ^ accessed) | ((lo & wanted) ^ wanted)) !== 0) break usual;
      out[outLow] = (lo & ~0xfff) | (low & 0xfff);
      out[outRights] = rights | 8;
      out[leafLow] = lo;
      out[leafHigh] = hi;
      return hi & frameHigh;
    }
    walker.start(table, tableHigh);
    return walker.walkAll(low, high, access, 2);
  };
}
