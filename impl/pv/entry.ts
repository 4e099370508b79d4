// What the bits of a paravirtual guest's table entries mean to the hypervisor: what an entry may not have, what it is made of, which
// changes do no harm. Nothing here looks at frames.
// A first reader may skip the constants. Sources: Xen arch/x86/mm.c (L1_DISALLOW_MASK and its like, PAGE_CACHE_ATTRS,
// is_guest_l4_slot), arch/x86/pv/mm.h (adjust_guest_l1e and its like, FASTPATH_FLAG_WHITELIST).

import { framesPerLeaf, tableEntries } from '#abi/geometry.ts';
import { tableFlags } from '#abi/paging.ts';
import { frameTypes, pvBits, tableType } from '#abi/pv.ts';
import { bit, field, hasAll, hasAny, or, pow2, without } from '#lib/bits.ts';
import type { Machine } from '../machine.ts';

/** A 64-bit entry in halves. */
export interface Entry {
  readonly lo: number;
  readonly hi: number;
}

const { present, write, user, accessed, dirty, superpage, global } = tableFlags;
const PWT = bit(pvBits.writeThrough);
const PCD = bit(pvBits.cacheDisable);
const PAT = bit(pvBits.attribute);
const CACHE = or(or(PWT, PCD), PAT);
const GUEST_KERNEL = bit(pvBits.guestKernelHigh);
const FRAME_HIGH_BITS = 20;

/** Bits that may change as long as everything else stays: what the hypervisor does not look at, or looks at anew. */
const HARMLESS_LOW = [user, accessed, dirty, global, ...[0, 1, 2].map((i) => bit(pvBits.availableFrom + i))].reduce(or);

/** Codes of types. */
export const WRITABLE = frameTypes.indexOf('writable');
export const DESCRIPTORS = frameTypes.indexOf('descriptors');
export const codeOfLevel = (level: number): number => frameTypes.indexOf(tableType(level));
/** The level of tables of a type; not above 0: they are none. */
export const levelOfCode = (code: number): number => (code === DESCRIPTORS ? 0 : code - codeOfLevel(0));

/** The largest number that an entry can give a frame. */
export const FRAME_MAX = pow2(40) - 1;

export const isPresent = ({ lo }: Entry): boolean => hasAll(lo, present);
export const isWritable = ({ lo }: Entry): boolean => hasAll(lo, write);
export const frameIn = ({ lo, hi }: Entry): number => field(lo, 12, 20) + field(hi, 0, FRAME_HIGH_BITS) * pow2(20);

/** Whether the memory of a leaf is cached in another way than memory is. */
export const hasCacheBits = ({ lo }: Entry): boolean => hasAny(lo, CACHE);

/** Whether an entry of a table at `level` has a flag that none may have. `hasDevices`: its owner may be given device frames. */
export function isRefused({ lo }: Entry, level: number, hasDevices: boolean): boolean {
  if (level === 1) return !hasDevices && hasAny(lo, CACHE);
  return hasAny(lo, or(or(PWT, PCD), or(superpage, global)));
}

/** An entry as the hypervisor lets it be at `level`; whether the table is a root matters. */
export function adjusted({ lo, hi }: Entry, level: number, isRoot: boolean): Entry {
  if (level > 1) return { lo: or(lo, isRoot ? or(user, accessed) : user), hi };
  const isKernels = hasAll(hi, GUEST_KERNEL) || !hasAll(lo, user);
  return isKernels ? { lo: or(lo, user), hi: or(hi, GUEST_KERNEL) } : { lo: or(lo, or(user, global)), hi };
}

/** A leaf for a device frame: memory types that would cache it, or combine its writes, become uncached. */
export function uncached({ lo, hi }: Entry): Entry {
  const type = (hasAll(lo, PAT) ? 4 : 0) + (hasAll(lo, PCD) ? 2 : 0) + (hasAll(lo, PWT) ? 1 : 0);
  const isChanged = type === 0 || type === 1 || type === 5;
  return isChanged ? { lo: or(without(lo, PAT), or(PCD, PWT)), hi } : { lo, hi };
}

/** Whether two present entries differ in nothing that is counted. */
export const isHarmless = (a: Entry, b: Entry): boolean =>
  without(a.lo, HARMLESS_LOW) === without(b.lo, HARMLESS_LOW) &&
  field(a.hi, 0, FRAME_HIGH_BITS) === field(b.hi, 0, FRAME_HIGH_BITS);

/** `entry` with the flags that a processor has set in `there`. */
export const keepingFlags = ({ lo, hi }: Entry, there: number): Entry => ({
  lo: or(lo, without(there, without(0xffff_ffff, or(accessed, dirty)))),
  hi,
});

/** Whether entry `index` of a root is the hypervisor's own. */
export function isXenSlot(m: Machine, level: number, index: number): boolean {
  const { levels, rootSlots } = m.geometry;
  return level === levels && index >= rootSlots.from && index < rootSlots.from + rootSlots.count;
}

/** The entry for a linear frame, as tables translate it, in a table at `level`. */
export const indexIn = (m: Machine, level: number, page: number): number =>
  Math.floor(page / framesPerLeaf(m.geometry, level)) % tableEntries(m.geometry);
