// Simulated hardware, and so a judge: the short walk of a guest's four levels in two dimensions. As the unrolled ones in
// ../paging/long-walker.ts it answers what is usual (tables in memory, pages of 4 KiB, flags set, access permitted, nested tables willing)
// and leaves the rest to the walk by all rules, from the start.
// A first reader may skip it after guest-walker.ts. Sources: Intel SDM vol. 3C, "EPT Translation Mechanism".

import { BITS, CELL, FAULT, wantedFlags } from '../paging/native-walker.ts';
import type { GuestWalk, GuestWalker } from './guest-walker.ts';
import { NESTED_OUT, type NestedWalk } from './nested.ts';

const { present, accessed, large, frameHigh } = BITS;
const { rootLow, rootHigh, reservedHigh, reservedUpper, permitted, denied } = CELL;
const { low: outLow } = NESTED_OUT;
const { absent } = FAULT;

/**
 * Walks four levels of `guest`, whose nested tables `translate` walks. It is a loop, and the final address is one more turn of it, so that
 * there is one place only that calls `translate`: V8 then puts the nested walk there in place of the call, for which several would be
 * too many.
 */
export function guestWalkOfFour(guest: GuestWalker, translate: NestedWalk): GuestWalk {
  const { cells, memory } = guest.registers;
  const { out } = guest.nested;
  const { length } = memory;
  const wantedOf = wantedFlags();
  const permittedOf = cells.subarray(permitted, permitted + 9);
  const deniedOf = cells.subarray(denied, denied + 9);
  return function walk(low, high, access, use) {
    usual: {
      const reserved = cells[reservedHigh] as number;
      let lo = cells[rootLow] as number;
      let hi = cells[rootHigh] as number;
      let refused = cells[reservedUpper] as number;
      let fold = -1;
      let barred = 0;
      // Bits 47..16 of the address, and what is below them. The index of each level in turn comes to the top.
      let rest = (high << 16) | (low >>> 16);
      let below = low << 16;
      let within = (rest >>> 20) & 0xff8;
      let asked = 0;
      for (let level = 4; ; level -= 1) {
        const answer = translate((lo & ~0xfff) | within, hi & frameHigh, asked);
        if (level === 0) {
          if (answer < 0) break usual;
          return answer;
        }
        const at = (out[outLow] as number) >>> 2;
        if (answer !== 0 || at >= length) break usual;
        lo = memory[at] as number;
        hi = memory[at | 1] as number;
        if ((lo & present) === 0) return absent;
        if (((lo & refused) | (hi & reserved)) !== 0) break usual;
        if (level > 1) {
          fold &= lo;
          barred |= hi;
          // Bit 7 of the last entry is no size.
          refused = level === 2 ? 0 : large;
          rest = (rest << 9) | (below >>> 23);
          below <<= 9;
          within = (rest >>> 20) & 0xff8;
          continue;
        }
        const rights = (((fold & lo) >>> 1) & 3) | (((barred | hi) >>> 31) << 2);
        if ((deniedOf[access] as number) !== 0 || (((permittedOf[access] as number) >>> rights) & 1) === 0) {
          const denial = guest.registers.denial(access, rights, hi);
          if (denial !== 0) return denial;
        }
        const wanted = wantedOf[access] as number;
        if ((((lo & wanted) ^ wanted) | ((fold & accessed) ^ accessed)) !== 0) break usual;
        guest.remember(at, rights, fold, barred);
        within = low & 0xfff;
        // A fetch (4) at an address that is the user's becomes a user's fetch (5).
        asked = use + ((use >>> 2) & (rights >>> 1) & 1);
      }
    }
    return guest.walk(low, high, access, use);
  };
}
