// The hypervisor's own walk of the tables that a guest of a trace has, for a linear address in a hypercall. It shares nothing with
// processors: no cache, and every entry is a load through the port, at a gfn that is looked up anew. Accessed and dirty flags are
// set when the walk has succeeded, from the page's entry up; an entry that has changed meanwhile is left alone.
// (software.ts is the same for cases, over all of paging.) A first reader may begin at `walkGuest`.
// Sources: Xen arch/x86/mm/guest_walk.c (guest_walk_tables, set_ad_bits; guest_l4e_rsvd_bits and its like in asm/guest_pt.h).

import type { Principal } from '#abi/acts.ts';
import { framesPerLeaf, tableEntries } from '#abi/geometry.ts';
import { p2mRights } from '#abi/hap.ts';
import { tableFlags } from '#abi/paging.ts';
import { and, bit, field, hasAll, or, pow2 } from '#lib/bits.ts';
import { lookup } from '../hap/table.ts';
import type { Machine } from '../machine.ts';
import { markFrame } from '../memory/dirty-log.ts';
import { demand, isOnDemand } from '../memory/pod-demand.ts';
import type { Step } from '../port.ts';
import { hasControl } from './registers.ts';

/** What is walked for: the vCPU's key and domain, a linear frame as tables translate it, whether it will be written. */
export interface Sought {
  readonly key: number;
  readonly dom: number;
  readonly page: number;
  readonly write: boolean;
}

/** A 64-bit entry in halves. */
interface Entry {
  readonly lo: number;
  readonly hi: number;
}

/** An entry that was read, and where: in the table at `gfn`. */
interface Read extends Entry {
  readonly gfn: number;
  readonly index: number;
  readonly flags: number;
}

const { present, write: WRITE, user, accessed, dirty, superpage, global } = tableFlags;
const NO_EXECUTE_HIGH = bit(31);
const FRAMES_LOW = pow2(20);

const frameIn = ({ lo, hi }: Entry): number => field(lo, 12, 20) + field(hi, 0, 20) * FRAMES_LOW;

/** Whether an entry is the last: there are no superpages above a level. */
const isPage = (m: Machine, level: number, { lo }: Entry): boolean =>
  level === 1 || (level <= m.geometry.superpageLevels && hasAll(lo, superpage));

/** Bits of an entry at `level` that must be 0. */
function hasReservedBits(m: Machine, key: number, level: number, entry: Entry): boolean {
  const { maxPhysAddr, superpageLevels } = m.geometry;
  if (frameIn(entry) >= pow2(maxPhysAddr - 12)) return true;
  if (hasAll(entry.hi, NO_EXECUTE_HIGH) && !hasControl(m, key, 'executeDisable')) return true;
  if (level > superpageLevels && hasAll(entry.lo, superpage)) return true;
  if (level > superpageLevels && m.format === 'npt' && hasAll(entry.lo, global)) return true;
  return level > 1 && isPage(m, level, entry) && frameIn(entry) % framesPerLeaf(m.geometry, level) > 1;
}

/** The frame of a table, if it is one that the guest can read; -1: not so. */
function tableFrame(m: Machine, dom: number, gfn: number, letter: 'r' | 'w'): number {
  const found = lookup(m, dom, gfn);
  return found === undefined || found.type === 'mmioDirect' || !p2mRights[found.type].includes(letter) ? -1 : found.mfn;
}

/** Whether a supervisor with EFLAGS.AC clear may have the page. `rights`: the low halves of all entries together. */
function isPermitted(m: Machine, { key, write }: Sought, rights: number): boolean {
  if (hasAll(rights, user) && hasControl(m, key, 'smap')) return false;
  return !write || hasAll(rights, WRITE) || !hasControl(m, key, 'writeProtect');
}

/** Walks the tables; the gfn of the page, or -1 for a fault. */
export function* walkGuest(m: Machine, who: Principal, sought: Sought): Step<number> {
  const { geometry, port } = m;
  const reads: Read[] = [];
  let rights = or(WRITE, user);
  let gfn = m.f.vcpuRoot.getWide(sought.key);
  for (let { levels: level } = geometry; ; level -= 1) {
    const span = framesPerLeaf(geometry, level);
    const index = Math.floor(sought.page / span) % tableEntries(geometry);
    yield* port.point('load', 'guest');
    while (isOnDemand(m, sought.dom, gfn) && (yield* demand(m, sought.dom, gfn))) yield* port.point('load', 'guest');
    const mfn = tableFrame(m, sought.dom, gfn, 'r');
    if (mfn < 0) return -1;
    const entry = { lo: port.peek(who, { mfn, index }), hi: port.hi };
    if (!hasAll(entry.lo, present)) return -1;
    if (hasReservedBits(m, sought.key, level, entry)) return -1;
    rights = and(rights, entry.lo);
    const isLast = isPage(m, level, entry);
    reads.push({ ...entry, gfn, index, flags: isLast && sought.write ? or(accessed, dirty) : accessed });
    gfn = frameIn(entry);
    if (!isLast) continue;
    if (!isPermitted(m, sought, rights)) return -1;
    for (const read of reads.toReversed()) yield* setFlags(m, who, sought.dom, read);
    return gfn - (gfn % span) + (sought.page % span);
  }
}

/** Sets the flags of an entry that was read, unless it has them, or has changed since, or could not be written by the guest. */
function* setFlags(m: Machine, who: Principal, dom: number, read: Read): Step<void> {
  const { port } = m;
  const { gfn, index, lo, hi, flags } = read;
  if (hasAll(lo, flags)) return;
  yield* port.point('compareExchange', 'guest');
  const mfn = tableFrame(m, dom, gfn, 'w');
  if (mfn < 0) return;
  if (port.peek(who, { mfn, index }) !== lo || port.hi !== hi) return;
  port.poke(who, { mfn, index, lo: or(lo, flags), hi });
  yield* markFrame(m, dom, mfn);
}
