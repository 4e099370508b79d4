// Simulated hardware, and so a judge: the unrolled walk of a guest's four levels in two dimensions. As in ../paging/long-walker.ts it
// answers what is usual (tables in memory, pages of 4 KiB, flags set, access permitted, nested tables willing) and leaves
// the rest to the walk by all rules, from the start.
// A first reader may skip it after guest-walker.ts. Sources: Intel SDM vol. 3C, "EPT Translation Mechanism".

import { BITS, CELL, FAULT, wantedFlags } from '../paging/native-walker.ts';
import type { GuestWalk, GuestWalker } from './guest-walker.ts';
import { NESTED_OUT, type NestedWalk } from './nested.ts';

const { present, accessed, large, frameHigh } = BITS;
const { rootLow, rootHigh, reservedHigh, reservedUpper, permitted, denied } = CELL;
const { low: outLow } = NESTED_OUT;
const { absent } = FAULT;

/** Walks four levels of `guest`, whose nested tables `translate` walks. */
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
      if (translate((lo & ~0xfff) | ((high >>> 4) & 0xff8), hi & frameHigh, 0) !== 0) break usual;
      let at = (out[outLow] as number) >>> 2;
      if (at >= length) break usual;
      lo = memory[at] as number;
      hi = memory[at | 1] as number;
      if ((lo & present) === 0) return absent;
      if (((lo & (cells[reservedUpper] as number)) | (hi & reserved)) !== 0) break usual;
      let fold = lo;
      let barred = hi;

      if (translate((lo & ~0xfff) | (((high << 5) | ((low >>> 30) << 3)) & 0xff8), hi & frameHigh, 0) !== 0)
        break usual;
      at = (out[outLow] as number) >>> 2;
      if (at >= length) break usual;
      lo = memory[at] as number;
      hi = memory[at | 1] as number;
      if ((lo & present) === 0) return absent;
      if (((lo & large) | (hi & reserved)) !== 0) break usual;
      fold &= lo;
      barred |= hi;

      if (translate((lo & ~0xfff) | ((low >>> 18) & 0xff8), hi & frameHigh, 0) !== 0) break usual;
      at = (out[outLow] as number) >>> 2;
      if (at >= length) break usual;
      lo = memory[at] as number;
      hi = memory[at | 1] as number;
      if ((lo & present) === 0) return absent;
      if (((lo & large) | (hi & reserved)) !== 0) break usual;
      fold &= lo;
      barred |= hi;

      if (translate((lo & ~0xfff) | ((low >>> 9) & 0xff8), hi & frameHigh, 0) !== 0) break usual;
      at = (out[outLow] as number) >>> 2;
      if (at >= length) break usual;
      lo = memory[at] as number;
      hi = memory[at | 1] as number;
      if ((lo & present) === 0) return absent;
      const rights = (((fold & lo) >>> 1) & 3) | (((barred | hi) >>> 31) << 2);
      if ((hi & reserved) !== 0) break usual;
      if ((deniedOf[access] as number) !== 0 || (((permittedOf[access] as number) >>> rights) & 1) === 0) {
        const denial = guest.registers.denial(access, rights, hi);
        if (denial !== 0) return denial;
      }
      const wanted = wantedOf[access] as number;
      if ((((lo & wanted) ^ wanted) | ((fold & accessed) ^ accessed)) !== 0) break usual;
      // A fetch (4) at an address that is the user's becomes a user's fetch (5).
      const asked = use + ((use >>> 2) & (rights >>> 1) & 1);
      const answer = translate((lo & ~0xfff) | (low & 0xfff), hi & frameHigh, asked);
      if (answer < 0) break usual;
      guest.remember(at, rights, fold, barred);
      return answer;
    }
    return guest.walk(low, high, access, use);
  };
}
