// One access of a program, translated: which bytes it comes to or how it fails, and which flags it leaves in the tables.
// The three engines differ in where tables and pages lie (machine memory, or guest-physical memory behind EPT or NPT), in how a
// state comes to be accepted, and in who loads the PDPTE registers. A first reader may skip nothing.
// Sources: Intel SDM vol. 3A, "Paging"; vol. 3C, "Extended-Page-Table Mechanism"; AMD APM vol. 2, "Nested Paging".
//
// Of one access: first is the state judged, then whether the address is canonical, then each page is translated, and only then
// are bytes moved. Of one page: the walk, then the rights, then flags in the tables, then where the page itself lies. Every read
// sees the flags that the access has set before it.

import { type Word, ZERO_WORD } from '#abi/address.ts';
import type { AccessOutcome, AccessResult, Bytes, CaseOf } from '#abi/case.ts';
import { eptOf, eptSpace } from '../hap/ept-space.ts';
import { nptSpace } from '../hap/npt-space.ts';
import type { WordReader } from '../hap/walk.ts';
import { isCanonical, isTooWide, type Piece, piecesOf } from './address.ts';
import { ABSENT, areLoadable } from './entry.ts';
import { entryAt, gather, joined, memoryOf, NO_MARKS, withMarks } from './memory.ts';
import { isHostState, isLong, isNativeState, isVmEntryState, isVmrunState, type Paging, pagingOf } from './mode.ts';
import { type Attempt, errorCode, forbids, isWrite } from './rights.ts';
import {
  hasTables,
  type Located,
  machineSpace,
  setFlags,
  type Space,
  type TablePaging,
  type Use,
  walkTables,
} from './walk.ts';

/** A case about a whole access. */
export type AccessCase = CaseOf<'native' | 'vmx' | 'svm'>;

/** What a case sets up: the paging, and the memory of its tables and pages. */
interface Setting {
  readonly kind: 'setting';
  readonly paging: Paging;
  /** For the translation of a linear address, which exits report. */
  readonly spaceFor: (linear: Word) => Space;
}

/** Nothing can be translated: the state is refused, or loading the PDPTEs faults. */
type Refusal = Extract<AccessResult, { readonly kind: 'invalidState' | 'generalProtection' }>;

const INVALID: Refusal = { kind: 'invalidState' };
const GENERAL_PROTECTION: Refusal = { kind: 'generalProtection' };

/** The translation of every linear address is in machine memory. */
const inMachine = (): Space => machineSpace;

/** Registers that a case leaves out hold 0. */
const fourOf = (pdptes: readonly { readonly entry: Word }[]): readonly Word[] =>
  [0, 1, 2, 3].map((index) => pdptes[index]?.entry ?? ZERO_WORD);

/**
 * "PDPTE Registers": with PAE paging MOV to CR3 loads four entries, and faults if a present one has a reserved bit. Registers that
 * the case gives have been loaded before; memory may say something else by now.
 */
function native({ registers }: CaseOf<'native'>, read: WordReader): Setting | Refusal {
  if (!isNativeState(registers)) return INVALID;
  const paging = pagingOf(registers, 'intel');
  if (paging.mode !== 'pae') return { kind: 'setting', paging, spaceFor: inMachine };
  const loaded = [0, 8, 16, 24].map((at) => entryAt(read, paging.root + at, 8));
  const isLatched = registers.pdptes.length > 0;
  const pdptes = isLatched ? fourOf(registers.pdptes) : loaded;
  // A load that meets a reserved bit faults and changes no register, so no processor holds such a value.
  if (!areLoadable(pdptes, registers.maxPhysAddr)) return isLatched ? INVALID : GENERAL_PROTECTION;
  return { kind: 'setting', paging: { ...paging, pdptes }, spaceFor: inMachine };
}

/** "Checks on Guest Page-Directory-Pointer-Table Entries": with EPT, VM entry takes the PDPTEs from the VMCS and checks them alike. */
function vmx({ registers }: CaseOf<'vmx'>): Setting | Refusal {
  const ept = eptOf(registers);
  if (ept === undefined || !isVmEntryState(registers)) return INVALID;
  const spaceFor = (linear: Word): Space => eptSpace(ept, linear);
  const paging = pagingOf(registers, 'intel');
  if (paging.mode !== 'pae') return { kind: 'setting', paging, spaceFor };
  const pdptes = fourOf(registers.pdptes);
  if (!areLoadable(pdptes, registers.maxPhysAddr)) return INVALID;
  return { kind: 'setting', paging: { ...paging, pdptes }, spaceFor };
}

/** The host's own paging, as VMRUN finds it and nested tables are read by; undefined if it does not do. */
const hostPagingOf = (registers: CaseOf<'svm'>['registers']): TablePaging | undefined => {
  const { hostCr0, nestedCr3, hostCr4, hostEfer, maxPhysAddr, page1Gb } = registers;
  const host = { cr0: hostCr0, cr3: nestedCr3, cr4: hostCr4, efer: hostEfer, pkru: 0, pkrs: 0, maxPhysAddr, page1Gb };
  // "Enabling Nested Paging": the host has paging. "Nested Paging and VMRUN/#VMEXIT": nCR3 has no bit that must be zero.
  if (!isHostState(host) || isTooWide(nestedCr3, maxPhysAddr)) return undefined;
  const paging = pagingOf(host, 'amd');
  return hasTables(paging) ? paging : undefined;
};

/**
 * "Legacy PAE Mode": with nested paging the guest's PDPTEs are not loaded but read in every walk, so that a reserved bit of
 * theirs is found there, as a page fault.
 */
function svm({ registers }: CaseOf<'svm'>): Setting | Refusal {
  const host = hostPagingOf(registers);
  if (host === undefined || !isVmrunState(registers)) return INVALID;
  return { kind: 'setting', paging: pagingOf(registers, 'amd'), spaceFor: () => nptSpace(host) };
}

function settingOf(one: AccessCase, read: WordReader): Setting | Refusal {
  switch (one.engine) {
    case 'native':
      return native(one, read);
    case 'vmx':
      return vmx(one);
    case 'svm':
      return svm(one);
  }
}

/** What is translated: an address, for what, in which memory. */
interface Asked {
  readonly attempt: Attempt;
  readonly linear: Word;
  readonly memory: WordReader;
}

function translateByTables(space: Space, paging: TablePaging, { attempt, linear, memory }: Asked): Located {
  const walk = walkTables(space, paging, { memory, address: linear });
  const cause =
    walk.kind === 'page' ? forbids(paging, attempt, walk.page) : walk.kind === 'fault' ? walk.cause : undefined;
  if (walk.kind !== 'page' || cause !== undefined) {
    // "Accessed and Dirty Flags" says of an accessed flag that a use of the entry sets it, not when; "Interrupt 14" leaves open
    // whether a protection violation sets that of the page's own entry.
    const marks = joined(walk.marks, setFlags(space, paging, walk, false).marks);
    if (walk.kind === 'exit') return { kind: 'failed', result: walk.result, marks };
    const code = errorCode(paging, attempt, cause ?? ABSENT);
    return { kind: 'failed', result: { kind: 'pageFault', errorCode: code, linear }, marks };
  }
  const flags = setFlags(space, paging, walk, isWrite(attempt));
  const marks = joined(walk.marks, flags.marks);
  if (flags.exit !== undefined) return { kind: 'failed', result: flags.exit, marks };
  // The last step: where the page lies.
  const use: Use = { kind: 'operand', access: attempt.kind, isUserPage: walk.page.rights.user };
  const located = space.locate(flags.memory, walk.address, use);
  return marks.length === 0 ? located : { ...located, marks: joined(marks, located.marks) };
}

/**
 * What one page comes to. Without paging of their own a guest's linear addresses are guest-physical ones, and every one counts as
 * a user-mode one ("Exit Qualification for EPT Violations", bit 9).
 */
function translatePiece({ paging, spaceFor }: Setting, asked: Asked): Located {
  const { attempt, linear, memory } = asked;
  const space = spaceFor(linear);
  if (hasTables(paging)) return translateByTables(space, paging, asked);
  return space.locate(memory, linear.lo, { kind: 'operand', access: attempt.kind, isUserPage: true });
}

/** Linear addresses of 5-level paging have 57 bits that count, of 4-level paging 48; outside long mode every address will do. */
const isAddressable = ({ mode }: Paging, { linear }: Piece): boolean =>
  !isLong(mode) || isCanonical(linear, mode === 'fiveLevel' ? 57 : 48);

const refused = (result: AccessResult): AccessOutcome => ({ result, required: NO_MARKS, allowed: NO_MARKS });

/** What the architecture makes of the access of `one`. `read` stands in for the memory of its image. */
export function translateAccess(one: AccessCase, read: WordReader = memoryOf(one.image)): AccessOutcome {
  const setting = settingOf(one, read);
  if (setting.kind !== 'setting') return refused(setting);
  const { linear, size } = one.access;
  const pieces = piecesOf(linear, size, isLong(setting.paging.mode) ? 64 : 32);
  for (const piece of pieces) if (!isAddressable(setting.paging, piece)) return refused(GENERAL_PROTECTION);
  let bytes: readonly Bytes[] = [];
  let marks = NO_MARKS;
  for (const piece of pieces) {
    const memory = withMarks(read, marks);
    const translation = translatePiece(setting, { attempt: one.access, linear: piece.linear, memory });
    marks = joined(marks, translation.marks);
    // What a failed access leaves, in an earlier page of it too, may have been set: nothing was accessed in the end.
    if (translation.kind === 'failed')
      return { result: translation.result, required: NO_MARKS, allowed: gather(marks) };
    bytes = joined(bytes, [{ maddr: translation.maddr, count: piece.count }]);
  }
  return { result: { kind: 'done', bytes }, required: gather(marks), allowed: NO_MARKS };
}
