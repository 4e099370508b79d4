// Entries of the tables of a paravirtual guest, as pure functions of words: which flags they must not have, how they are adjusted,
// which changes are harmless, and where in a table the next one is. A guest's kernel and its user run in the same ring, so all
// entries are a user's; what was not one is marked as the kernel's, and what is the user's outlives changes of mode (global).
// A first reader may skip the masks. Sources: Xen arch/x86/mm.c (l1_disallow_mask, FASTPATH_FLAG_WHITELIST), arch/x86/pv/mm.h
// (adjust_guest_l1e to adjust_guest_l4e), asm/x86_64/page.h.

import { FRAME_SHIFT, type Mfn, type Word } from '#abi/address.ts';
import { tableEntries, type Geometry } from '#abi/geometry.ts';
import { tableFlags } from '#abi/paging.ts';
import { pvBits } from '#abi/pv.ts';
import { and, bit, hasAll, hasAny, or, pow2, without } from '#lib/bits.ts';
import { frameIn } from '../hap/meaning.ts';
import type { State } from '../state.ts';
import { wordAt } from '../words.ts';

const { present, write, user, accessed, dirty, superpage, global } = tableFlags;

const MEMORY_TYPE = bit(pvBits.writeThrough) + bit(pvBits.cacheDisable) + bit(pvBits.attribute);
const FORBIDDEN_ABOVE = bit(pvBits.writeThrough) + bit(pvBits.cacheDisable) + superpage + global;
const KERNEL_HIGH = bit(pvBits.guestKernelHigh);
const NO_EXECUTE_HIGH = bit(31);

const run = (from: number, count: number): number => (pow2(count) - 1) * pow2(from);

/** What may change in an entry without its frame being looked at. */
const HARMLESS = run(pvBits.availableFrom, pvBits.availableCount) + global + dirty + accessed + user;
const HARMLESS_HIGH = run(pvBits.availableHighFrom, pvBits.availableHighCount) + NO_EXECUTE_HIGH;

export const isPresent = ({ lo }: Word): boolean => hasAll(lo, present);

export const isWritable = ({ lo }: Word): boolean => hasAll(lo, write);

/** The frame that an entry names. */
export const mfnIn = (word: Word): Mfn => frameIn(word) as Mfn;

/** Frame numbers in entries have 40 bits: all of them set. */
const ALL_ONES = pow2(52 - FRAME_SHIFT) - 1;

export const isNoFrame = (mfn: Mfn): boolean => mfn === ALL_ONES;

/** Whether a present entry has a flag that it must not have. Memory types are for who may have devices. */
export const hasForbidden = ({ lo }: Word, level: number, hasDevices: boolean): boolean =>
  level > 1 ? hasAny(lo, FORBIDDEN_ABOVE) : !hasDevices && hasAny(lo, MEMORY_TYPE);

/** Whether an entry asks for a memory type other than that of RAM. */
export const hasMemoryType = ({ lo }: Word): boolean => hasAny(lo, MEMORY_TYPE);

/** Memory types in which a processor does not hold back what it writes, by number: PAT, PCD and PWT from the highest bit. */
const UNCACHED: readonly number[] = [2, 3, 4, 6, 7];

/** An entry for a device: it is never cached. */
export function uncached({ lo, hi }: Word): Word {
  const type =
    (hasAll(lo, bit(pvBits.attribute)) ? 4 : 0) +
    (hasAll(lo, bit(pvBits.cacheDisable)) ? 2 : 0) +
    (hasAll(lo, bit(pvBits.writeThrough)) ? 1 : 0);
  if (UNCACHED.includes(type)) return { lo, hi };
  return { lo: or(without(lo, MEMORY_TYPE), bit(pvBits.cacheDisable) + bit(pvBits.writeThrough)), hi };
}

/** An entry as it comes to stand in a table at `level`. */
export function adjusted({ levels }: Geometry, word: Word, level: number): Word {
  if (!isPresent(word)) return word;
  let { lo, hi } = word;
  if (level > 1) return { lo: or(lo, level === levels ? user + accessed : user), hi };
  if (!hasAll(lo, user)) {
    lo = or(lo, user);
    hi = or(hi, KERNEL_HIGH);
  }
  return hasAll(hi, KERNEL_HIGH) ? { lo, hi } : { lo: or(lo, user + global), hi };
}

export const isSameWord = (a: Word, b: Word): boolean => a.lo === b.lo && a.hi === b.hi;

/** Whether an entry may be replaced by another as it is: both present, the same frame, nothing else but harmless bits. */
export function isHarmless(old: Word, next: Word): boolean {
  const firm = ({ lo, hi }: Word): Word => ({ lo: without(lo, HARMLESS), hi: without(hi, HARMLESS_HIGH) });
  return isPresent(old) && isPresent(next) && isSameWord(firm(old), firm(next));
}

/** An entry with the flags that processors have set meanwhile. */
export const withFlagsOf = (word: Word, { lo }: Word): Word => ({
  lo: or(word.lo, and(lo, accessed + dirty)),
  hi: word.hi,
});

/** Whether a place in a table is the hypervisor's own: some of the root. */
export const isHypervisors = ({ levels, rootSlots }: Geometry, level: number, index: number): boolean =>
  level === levels && index >= rootSlots.from && index < rootSlots.from + rootSlots.count;

/** The next place from `index` on, in steps of `by`, where a table has an entry of its guest; undefined: there is none. */
export function nextPresent(
  state: State,
  { mfn, level, index }: { readonly mfn: Mfn; readonly level: number; readonly index: number },
  by: 1 | -1 = 1,
): number | undefined {
  const count = tableEntries(state.geometry);
  for (let at = index; at >= 0 && at < count; at += by)
    if (!isHypervisors(state.geometry, level, at) && isPresent(wordAt(state, mfn, at))) return at;
  return undefined;
}
