// NPT entries as the hypervisor writes and reads them. Every entry has the user bit, since every access of a guest counts as
// one by a user. Memory type bits are 0 (write-back), but devices are not cached; accessed and dirty flags are left to the processor, where Xen sets
// them beforehand. A first reader may skip it. Sources: AMD64 APM vol. 2, "Nested Paging", "Page-Translation-Table Entry
// Fields"; Xen mm/p2m-pt.c, p2m_type_to_flags. There is no room in these entries for what a listener leaves of their rights.

import { nptBits } from '#abi/hap.ts';
import { RIGHT } from '#abi/rights.ts';
import { bit, field, hasAll, or, and, pow2 } from '#lib/bits.ts';
import { codeOf, frameHigh, frameIn, frameLow, rightsByCode, WHOLE_ACCESS, type EntryFormat } from './entry.ts';

const PRESENT = bit(nptBits.present);
const WRITE = bit(nptBits.write);
const USER = bit(nptBits.user);
const SUPERPAGE = bit(nptBits.superpage);
const NO_EXECUTE = bit(nptBits.noExecute);
const FLAGS = or(bit(nptBits.accessed), bit(nptBits.dirty));
const TYPE_UNIT = pow2(nptBits.typeFrom);

/** By p2m type code: what the low and the high half of a leaf say of its rights. A type without any is not present. */
const lowByCode = rightsByCode.map((rights) =>
  rights === 0 ? 0 : PRESENT + USER + (hasAll(rights, RIGHT.write) ? WRITE : 0),
);
lowByCode[codeOf('mmioDirect')] = (lowByCode[codeOf('mmioDirect')] ?? 0) + bit(nptBits.cacheDisable);
const highByCode = rightsByCode.map((rights) => (hasAll(rights, RIGHT.execute) ? 0 : NO_EXECUTE));

const codeIn = (high: number): number => field(high, nptBits.typeFrom, nptBits.typeCount);

export const nptEntries: EntryFormat = {
  leafLow: ({ mfn, level, code, flags }) =>
    frameLow(mfn) + flags + (level > 1 ? SUPERPAGE : 0) + (lowByCode[code] ?? 0),
  leafHigh: ({ mfn, code }) => frameHigh(mfn) + code * TYPE_UNIT + (highByCode[code] ?? NO_EXECUTE),
  tableLow: (mfn) => frameLow(mfn) + PRESENT + WRITE + USER,
  tableHigh: frameHigh,
  codeIn,
  accessIn: () => WHOLE_ACCESS,
  isPresent: (low) => hasAll(low, PRESENT),
  frameIn,
  isTable: (low, high) => codeIn(high) === 0 && hasAll(low, PRESENT),
  flagsIn: (low) => and(low, FLAGS),
};
