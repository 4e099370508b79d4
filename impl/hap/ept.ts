// EPT entries as the hypervisor writes and reads them. Leaves are write-back memory, but devices are uncacheable whatever the
// guest's PAT says; accessed and dirty flags are left to
// the processor. A first reader may skip it. Sources: Intel SDM vol. 3C, "EPT Translation Mechanism", formats of entries;
// Xen mm/p2m-ept.c, ept_p2m_type_to_flags, epte_get_entry_emt.

import { EPT_UNCACHEABLE, EPT_WRITE_BACK, eptBits, p2mAccesses, p2mAccessRights } from '#abi/hap.ts';
import { rightsOf } from '#abi/rights.ts';
import { and, bit, field, or, pow2 } from '#lib/bits.ts';
import { codeOf, frameHigh, frameIn, frameLow, rightsByCode, type EntryFormat } from './entry.ts';

const ALL_RIGHTS = rightsOf('rwx');
const RAM_TYPE = EPT_WRITE_BACK * pow2(eptBits.memoryTypeFrom);
const DEVICE_TYPE = EPT_UNCACHEABLE * pow2(eptBits.memoryTypeFrom) + bit(eptBits.ignorePat);
const SUPERPAGE = bit(eptBits.superpage);
const FLAGS = or(bit(eptBits.accessed), bit(eptBits.dirty));
const DEVICE = codeOf('mmioDirect');
const TYPE_UNIT = pow2(eptBits.typeFrom);
const ACCESS_UNIT = pow2(eptBits.accessFrom);
/** Rights that are left, by code. What leaves writing without reading is written as it is: then the processor stops at it. */
const leftByCode = p2mAccesses.map((access) => rightsOf(p2mAccessRights[access]));

const codeIn = (high: number): number => field(high, eptBits.typeFrom, eptBits.typeCount);

export const eptEntries: EntryFormat = {
  leafLow: ({ mfn, level, code, access, flags }) =>
    frameLow(mfn) +
    flags +
    (level > 1 ? SUPERPAGE : 0) +
    (code === DEVICE ? DEVICE_TYPE : RAM_TYPE) +
    and(rightsByCode[code] ?? 0, leftByCode[access] ?? 0),
  leafHigh: ({ mfn, code, access }) => frameHigh(mfn) + code * TYPE_UNIT + access * ACCESS_UNIT,
  tableLow: (mfn) => frameLow(mfn) + ALL_RIGHTS,
  tableHigh: frameHigh,
  codeIn,
  accessIn: (high) => field(high, eptBits.accessFrom, eptBits.accessCount),
  isPresent: (low) => and(low, ALL_RIGHTS) !== 0,
  frameIn,
  isTable: (low, high) => codeIn(high) === 0 && and(low, ALL_RIGHTS) !== 0,
  flagsIn: (low) => and(low, FLAGS),
};
