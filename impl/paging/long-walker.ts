// Simulated hardware, and so a judge: the unrolled walks of four and five levels. The template makes a function for one memory,
// whose place and length the compiler then knows. It answers when everything is as usual: tables in memory, pages of 4 KiB
// or 2 MiB, flags set, access permitted; all else is walked again by all rules (native-walker.ts).
// A first reader may skip all but `walkOfFour`, whose paragraphs are levels. Names of bits and cells are local constants because
// an imported binding costs a load each time. Source: Intel SDM vol. 3A, "4-Level Paging and 5-Level Paging".

import { BITS, CELL, FAULT, OUT, wantedFlags, type NativeWalker, type Walk } from './native-walker.ts';

const { present, accessed, large, frameHigh, reserved2Mb } = BITS;
const {
  rootLow,
  rootHigh,
  startLow,
  startHigh,
  startFold,
  startBarred,
  reservedHigh,
  far,
  reservedUpper,
  checkedUpper,
} = CELL;
const { permitted, denied } = CELL;
const { low: outLow, rights: outRights, leafLow, leafHigh } = OUT;
const { absent } = FAULT;

/** Walks four levels from the start cells of `walker`. */
export function walkOfFour(walker: NativeWalker): Walk {
  const { memory, cells, out } = walker;
  const { length } = memory;
  const wantedOf = wantedFlags();
  const permittedOf = cells.subarray(permitted, permitted + 9);
  const deniedOf = cells.subarray(denied, denied + 9);
  return function walk(low, high, access) {
    usual: {
      const beyond = cells[far] as number;
      let at = (((cells[startLow] as number) >>> 12) << 10) | ((high >>> 6) & 0x3fe);
      if (((cells[startHigh] as number) & frameHigh) !== 0 || at >= length) break usual;
      let lo = memory[at] as number;
      let hi = memory[at + 1] as number;
      if ((((lo & (cells[checkedUpper] as number)) ^ present) | (hi & beyond)) !== 0) break usual;
      let fold = (cells[startFold] as number) & lo;
      let barred = (cells[startBarred] as number) | hi;

      at = ((lo >>> 12) << 10) | (((high << 3) | ((low >>> 30) << 1)) & 0x3fe);
      if (at >= length) break usual;
      lo = memory[at] as number;
      hi = memory[at + 1] as number;
      if ((((lo & (large | present)) ^ present) | (hi & beyond)) !== 0) break usual;
      fold &= lo;
      barred |= hi;

      at = ((lo >>> 12) << 10) | ((low >>> 20) & 0x3fe);
      if (at >= length) break usual;
      lo = memory[at] as number;
      hi = memory[at + 1] as number;
      let within = 0x1f_ffff;
      let level = 16;
      if ((lo & (large | present)) === present) {
        if ((hi & beyond) !== 0) break usual;
        fold &= lo;
        barred |= hi;

        at = ((lo >>> 12) << 10) | ((low >>> 11) & 0x3fe);
        if (at >= length) break usual;
        lo = memory[at] as number;
        hi = memory[at + 1] as number;
        if ((lo & present) === 0) return absent;
        within = 0xfff;
        level = 8;
      } else if ((lo & (reserved2Mb | present)) !== present) break usual;

      const rights = (((fold & lo) >>> 1) & 3) | (((barred | hi) >>> 31) << 2);
      if ((hi & (cells[reservedHigh] as number)) !== 0) break usual;
      if ((deniedOf[access] as number) !== 0 || (((permittedOf[access] as number) >>> rights) & 1) === 0) {
        const denial = walker.denial(access, rights, hi);
        if (denial !== 0) return denial;
      }
      const wanted = wantedOf[access] as number;
      if ((((lo & wanted) ^ wanted) | ((fold & accessed) ^ accessed)) !== 0) break usual;
      out[outLow] = (lo & ~within) | (low & within);
      out[outRights] = rights | level;
      out[leafLow] = lo;
      out[leafHigh] = hi;
      return hi & frameHigh;
    }
    return walker.walkAll(low, high, access, 4);
  };
}

/** Walks five levels from CR3: the fifth, and then `four` from where it leads. */
export function walkOfFive(walker: NativeWalker, four: Walk): Walk {
  const { memory, cells } = walker;
  return function walk(low, high, access) {
    const lo = cells[rootLow] as number;
    const at = ((lo >>> 12) << 10) | ((high >>> 15) & 0x3fe);
    if (((cells[rootHigh] as number) & frameHigh) === 0 && at < memory.length) {
      const entry = memory[at] as number;
      const entryHigh = memory[at + 1] as number;
      if ((entry & present) === 0) return absent;
      const reserved = (entry & (cells[reservedUpper] as number)) | (entryHigh & (cells[reservedHigh] as number));
      if ((entry & accessed) !== 0 && reserved === 0) {
        cells[startLow] = entry;
        cells[startHigh] = entryHigh;
        cells[startFold] = entry;
        cells[startBarred] = entryHigh;
        return four(low, high, access);
      }
    }
    walker.start(lo, cells[rootHigh] as number);
    return walker.walkAll(low, high, access, 5);
  };
}
