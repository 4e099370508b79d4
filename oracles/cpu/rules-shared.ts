// Deviations that both emulators have: what is said of them, and the predicates.
// A first reader may skip this file.

import { hasAny, without } from '#lib/bits.ts';
import type { Comparison } from './compare.ts';
import type { AccessCase } from './pack.ts';
import { hostLevels, isPdpte, pdptPlaces } from './route.ts';
import { expected } from './window.ts';

/** What a rule of either emulator says about them. */
export const reasons = {
  noPcid:
    'There are no PCIDs, so CR4.PCIDE is cleared and bits 11:0 of CR3 with it. SDM vol. 3A, "Process-Context Identifiers (PCIDs)": they tag cached translations and change none.',
  nestedReach:
    'Guest-physical addresses wider than the indices of the nested tables are cut to their width. APM vol. 2, "Nested Paging", does not say what becomes of them; the model takes them as not present.',
  globalAtTop:
    'Bit 8 of PML4 and PML5 entries is ignored, as on processors of Intel. APM vol. 2, "Long-Mode Page Translation", has it must-be-zero there.',
} as const;

const CR4_PCIDE = 0x2_0000;

/** Whether a case uses PCIDs. */
export const hasPcid = ({ registers }: AccessCase): boolean => hasAny(registers.cr4, CR4_PCIDE);

/** The bit of an error code that tells of a reserved bit. */
export const RESERVED = 8;

/** Whether the model finds a reserved bit. */
export const isReservedFault = ({ outcome: { result } }: Comparison): boolean =>
  (result.kind === 'pageFault' && hasAny(result.errorCode, RESERVED)) ||
  (result.kind === 'nestedPageFault' && hasAny(result.info.lo, RESERVED));

const GLOBAL = 0x100;

/** What the model makes of the case if bit 8 is clear wherever it is set, PDPTEs of PAE paging aside. */
export function withoutGlobal(comparison: Comparison): Comparison | undefined {
  if (!isReservedFault(comparison)) return undefined;
  const { modelled: one } = comparison;
  const pdpts = pdptPlaces(one);
  const image = one.image.map((poke) => {
    return isPdpte(pdpts, poke) ? poke : { ...poke, word: { lo: without(poke.word.lo, GLOBAL), hi: poke.word.hi } };
  });
  const modelled = { ...one, image };
  const outcome = expected(modelled, comparison.direct);
  return outcome === undefined ? undefined : { ...comparison, modelled, outcome };
}

/** Whether a fault is about an address that the nested tables have no indices for. */
export function isBeyondNested({ case: one, outcome: { result } }: Comparison): boolean {
  if (one.engine !== 'svm' || result.kind !== 'nestedPageFault') return false;
  const levels = hostLevels(one);
  return levels !== undefined && result.guestPhysical >= 2 ** (levels <= 3 ? 32 : levels === 4 ? 48 : 57);
}
