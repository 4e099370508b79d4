// Guest-physical memory behind Intel's extended page tables, with 4 or 5 levels, accessed and dirty flags, and mode-based execute
// control: where an address leads, or the violation or misconfiguration that it ends in. Execute-only entries are supported.
//
//   63 52 51           12 11 10 9 8 7 6   5  3  2 1 0
//  | ign | frame         |  |XU|D|A|S|IPAT| MT |X|W|R|     S: maps a page; XU: execute for user-mode linear addresses
//
// A first reader may skip `eptOf`. Sources: Intel SDM vol. 3C, "EPT Translation Mechanism", "EPT Misconfigurations", "EPT
// Violations", "Accessed and Dirty Flags for EPT", "Extended-Page-Table Pointer (EPTP)", "Exit Qualification for EPT Violations" (a table).

import { FRAME_SHIFT, type Word } from '#abi/address.ts';
import type { AccessResult, CaseOf, Mark } from '#abi/case.ts';
import { and, bit, field, hasAll, without } from '#lib/bits.ts';
import { addressOf, frameOf, isTooWide, wordOf } from '../paging/address.ts';
import { indexOf, isBeyondReach, offsetBits } from '../paging/entry.ts';
import { entryAt, joined, marksAt, NO_MARKS } from '../paging/memory.ts';
import type { Attempt } from '../paging/rights.ts';
import type { Located, Space, Use } from '../paging/walk.ts';
import type { WordReader } from './walk.ts';

/** What the EPTP and the VM-execution controls say. */
export interface Ept {
  readonly root: number;
  readonly levels: number;
  /** Accessed and dirty flags are kept, and accesses to guest tables count as writes. */
  readonly flags: boolean;
  readonly modeBasedExecute: boolean;
  readonly maxPhysAddr: number;
  readonly page1Gb: boolean;
}

/** Addresses select entries as in this mode, whatever the number of levels. */
const MODE = 'fiveLevel';

const READ = bit(0);
const WRITE = bit(1);
const EXECUTE = bit(2);
const SUPERPAGE = bit(7);
const ACCESSED = bit(8);
const DIRTY = bit(9);
const EXECUTE_USER = bit(10);

/** EPT as the registers set it up, or undefined if VM entry refuses the EPTP. */
export function eptOf(registers: CaseOf<'vmx'>['registers']): Ept | undefined {
  const { eptp, modeBasedExecute, maxPhysAddr, page1Gb } = registers;
  const memoryType = field(eptp.lo, 0, 3);
  const levels = field(eptp.lo, 3, 3) + 1;
  // Uncacheable or write-back; 4 or 5 levels; bits 11:7 reserved (7 belongs to shadow stacks), and those beyond MAXPHYADDR.
  const isAccepted = (memoryType === 0 || memoryType === 6) && (levels === 4 || levels === 5);
  if (!isAccepted || field(eptp.lo, 7, 5) !== 0 || field(eptp.hi, maxPhysAddr - 32, 64 - maxPhysAddr) !== 0)
    return undefined;
  return {
    root: addressOf(frameOf(eptp)),
    levels,
    flags: hasAll(eptp.lo, bit(6)),
    modeBasedExecute: modeBasedExecute === 'on',
    maxPhysAddr,
    page1Gb: page1Gb === 'present',
  };
}

/** What an entry means. `rights` are bits 2:0, and bit 10 under mode-based execute control. */
type EptMeaning =
  | { readonly kind: 'absent' }
  | { readonly kind: 'misconfiguration' }
  | { readonly kind: 'table' | 'page'; readonly frame: number; readonly rights: number };

const ABSENT: EptMeaning = { kind: 'absent' };
const MISCONFIGURATION: EptMeaning = { kind: 'misconfiguration' };

const rightsMask = ({ modeBasedExecute }: Ept): number =>
  READ + WRITE + EXECUTE + (modeBasedExecute ? EXECUTE_USER : 0);

/** Memory types 2, 3 and 7 are reserved. */
function isReservedType(lo: number): boolean {
  const type = field(lo, 3, 3);
  return type === 2 || type === 3 || type === 7;
}

/** Bits 29:12 or 20:12 of an entry that maps a large page, all of them: there is no PAT bit as in ordinary tables. */
const hasBitsBelowFrame = (word: Word, level: number): boolean =>
  level > 1 && field(word.lo, FRAME_SHIFT, offsetBits(MODE, level) - FRAME_SHIFT) !== 0;

/** What `word` means in a table at `level`. Extended tables have 1 GiB pages where ordinary ones do. */
export function decodeEptEntry(ept: Ept, level: number, word: Word): EptMeaning {
  const rights = and(word.lo, rightsMask(ept));
  if (rights === 0) return ABSENT;
  const frame = frameOf(word);
  const isWriteOnly = hasAll(rights, WRITE) && !hasAll(rights, READ);
  if (isWriteOnly || isBeyondReach(word, ept.maxPhysAddr)) return MISCONFIGURATION;
  const maySpan = level === 2 || (level === 3 && ept.page1Gb);
  if (level === 1 || (maySpan && hasAll(word.lo, SUPERPAGE))) {
    const isBad = isReservedType(word.lo) || hasBitsBelowFrame(word, level);
    return isBad ? MISCONFIGURATION : { kind: 'page', frame, rights };
  }
  // Bits 7:3 of an entry that leads to a table are reserved.
  return field(word.lo, 3, 5) === 0 ? { kind: 'table', frame, rights } : MISCONFIGURATION;
}

/** An entry that the walk used. */
interface Step {
  readonly maddr: number;
  readonly lo: number;
  readonly isPage: boolean;
}

/** Where the walk of extended tables ends. `rights` are what all entries met give together: nothing if one was absent. */
type EptWalk = { readonly steps: readonly Step[]; readonly rights: number } & (
  | { readonly kind: 'page'; readonly maddr: number }
  | { readonly kind: 'absent' }
  | { readonly kind: 'misconfiguration' }
);

/**
 * A walk for a guest-physical address. What lies beyond 48 bits is out of reach of 4 levels: nothing maps it, which is a violation.
 * Rights are judged at the end, so a misconfiguration further down comes before what the upper entries withhold.
 */
function walkEptTables(ept: Ept, read: WordReader, address: number): EptWalk {
  const target = wordOf(address);
  const steps: Step[] = [];
  let rights = rightsMask(ept);
  if (isTooWide(target, offsetBits(MODE, ept.levels + 1))) return { kind: 'absent', steps, rights: 0 };
  let table = ept.root;
  for (let level = ept.levels; ; level -= 1) {
    const maddr = table + indexOf(MODE, level, target) * 8;
    const word = entryAt(read, maddr, 8);
    const meaning = decodeEptEntry(ept, level, word);
    if (meaning.kind === 'absent') return { kind: 'absent', steps, rights: 0 };
    if (meaning.kind === 'misconfiguration') return { kind: 'misconfiguration', steps, rights };
    rights = and(rights, meaning.rights);
    const isPage = meaning.kind === 'page';
    steps.push({ maddr, lo: word.lo, isPage });
    table = addressOf(meaning.frame);
    if (isPage) return { kind: 'page', steps, rights, maddr: table + field(target.lo, 0, offsetBits(MODE, level)) };
  }
}

/** What a use asks of the entries (as bits of theirs), and how the qualification names it (bits 2:0). */
interface Demand {
  readonly rights: number;
  readonly access: number;
  readonly isWrite: boolean;
}

const READS: Demand = { rights: READ, access: READ, isWrite: false };
const WRITES: Demand = { rights: READ + WRITE, access: WRITE, isWrite: true };
const READS_AND_WRITES: Demand = { rights: READ + WRITE, access: READ + WRITE, isWrite: true };
const FETCHES: Demand = { rights: EXECUTE, access: EXECUTE, isWrite: false };
const FETCHES_FOR_USER: Demand = { ...FETCHES, rights: EXECUTE_USER };

/**
 * Fetches: with mode-based execute control bit 10 holds for user-mode linear addresses, bit 2 for the others. Read-modify-writes:
 * bit 1 is set, and "whether it also sets bit 0 is implementation-specific"; here it does not.
 */
function demandOfOperand(ept: Ept, access: Attempt['kind'], isUserPage: boolean): Demand {
  switch (access) {
    case 'read':
      return READS;
    case 'write':
    case 'readModifyWrite':
      return WRITES;
    case 'fetch':
      return ept.modeBasedExecute && isUserPage ? FETCHES_FOR_USER : FETCHES;
  }
}

/**
 * Accesses to guest tables read them; with accessed and dirty flags for EPT they are treated as writes and named as both. Setting
 * a flag in a guest's entry reads and writes it, flags for EPT or none.
 */
function demandOf(ept: Ept, use: Use): Demand {
  switch (use.kind) {
    case 'entry':
      return ept.flags ? READS_AND_WRITES : READS;
    case 'flags':
      return READS_AND_WRITES;
    case 'operand':
      return demandOfOperand(ept, use.access, use.isUserPage);
  }
}

const QUALIFICATION_EXECUTE_USER = bit(6);
const QUALIFICATION_LINEAR_VALID = bit(7);
const QUALIFICATION_TRANSLATED = bit(8);

/**
 * The exit qualification: bits 2:0 the access, 5:3 what the entries allow together, 6 the same for execution in user mode where
 * the control makes that bit mean something, 7 that there is a linear address, 8 that the access was to its translation and not
 * to a guest table. Bits 11:9 mean something on processors with advanced VM-exit information only; they are 0 here.
 */
const qualificationOf = (access: number, rights: number, use: Use): number =>
  access +
  and(rights, READ + WRITE + EXECUTE) * 8 +
  (hasAll(rights, EXECUTE_USER) ? QUALIFICATION_EXECUTE_USER : 0) +
  QUALIFICATION_LINEAR_VALID +
  (use.kind === 'operand' ? QUALIFICATION_TRANSLATED : 0);

/** Accessed in every entry used; dirty in the one that maps the page, for a write. */
function marksOf(ept: Ept, steps: readonly Step[], isWrite: boolean): readonly Mark[] {
  let marks = NO_MARKS;
  if (!ept.flags) return marks;
  for (const { maddr, lo, isPage } of steps)
    marks = joined(marks, marksAt(maddr, without(isPage && isWrite ? ACCESSED + DIRTY : ACCESSED, lo)));
  return marks;
}

function locate(ept: Ept, memory: WordReader, asked: { address: number; use: Use; linear: Word }): Located {
  const { address, use, linear } = asked;
  const demand = demandOf(ept, use);
  const walk = walkEptTables(ept, memory, address);
  if (walk.kind === 'page' && hasAll(walk.rights, demand.rights))
    return { kind: 'found', maddr: walk.maddr, marks: marksOf(ept, walk.steps, demand.isWrite) };
  const qualification = qualificationOf(demand.access, walk.rights, use);
  const result: AccessResult =
    walk.kind === 'misconfiguration'
      ? { kind: 'eptMisconfiguration', guestPhysical: address }
      : { kind: 'eptViolation', qualification, guestPhysical: address, linear };
  return { kind: 'failed', result, marks: marksOf(ept, walk.steps, false) };
}

/** Guest-physical memory as `ept` maps it, for the translation of `linear`. */
export const eptSpace = (ept: Ept, linear: Word): Space => ({
  locate: (memory, address, use) => locate(ept, memory, { address, use, linear }),
});
