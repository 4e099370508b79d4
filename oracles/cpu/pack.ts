// Cases as the kernel takes them and results as it gives them: little-endian records, laid out in kernel/kernel.h.
// A first reader may skip the offsets.

import type { Word } from '#abi/address.ts';
import type { CaseOf } from '#abi/case.ts';
import { field, hasAny, low32, without } from '#lib/bits.ts';

/** A case of one access, which is what the CPU oracles are about. */
export type AccessCase = CaseOf<'native' | 'vmx' | 'svm'>;

/** How a case is carried out: on the processor itself, in an SVM guest without and with nested paging, in a VMX guest with EPT. */
export const vehicles = ['native', 'svm', 'svmNested', 'vmx'] as const;
export type Vehicle = (typeof vehicles)[number];

/** How a processor answered: an exception, a refusal to enter the state, an exit of the guest. Numbers as in kernel.h. */
export const answers = ['nothing', 'exception', 'refused', 'svmExit', 'vmxExit', 'vmxRefused'] as const;
export type Answer = (typeof answers)[number];

/** What the kernel saw, uninterpreted. */
export interface Raw {
  readonly answer: Answer;
  /** Vector, exit code or exit reason. */
  readonly code: number;
  /** What was being delivered (SVM), or which event caused the exit (VMX). */
  readonly event: number;
  /** Error code; EXITINFO1; exit qualification, or the error code for exceptions in a VMX guest. */
  readonly info1: Word;
  /** CR2; EXITINFO2; guest-physical address, or the qualification for exceptions in a VMX guest. */
  readonly info2: Word;
  /** The guest linear address of a VMX exit. */
  readonly linear: Word;
  readonly rip: Word;
  /** RAX or MM0 when the access was over. */
  readonly value: Word;
  /** Where a write landed, and its second part if it straddles pages; 0: nowhere in the frames of cases. */
  readonly hits: readonly [number, number];
  /** Every poked word afterwards, in the order of the request. */
  readonly after: readonly Word[];
}

const CR0_PG = 2 ** 31;
const EFER_LME = 0x100;

/** Whether the access runs as 64-bit code. */
export const isLongMode = ({ registers: { cr0, efer } }: AccessCase): boolean =>
  hasAny(cr0, CR0_PG) && hasAny(efer, EFER_LME);

const stubBase = { read: 0, write: 4, readModifyWrite: 8 } as const;
const STUB_JUMP = 12;
const STUB_READ_WIDE = 13;
const STUB_WRITE_WIDE = 14;
export const STUB_DESCRIPTOR = 15;

/** Bytes of each instruction, without the one that does nothing before it and the undefined opcode behind it. */
const stubBytes = [2, 3, 2, 3, 2, 3, 2, 3, 2, 3, 2, 3, 2, 3, 3, 3] as const;
const STUBS = { supervisor: 0x1a_0000, user: 0x1a_1000 } as const;
const STUB_SPACING = 16;

/** Which instruction of kernel/stubs.S does the access; undefined if none does. */
export function stubOf(one: AccessCase): number | undefined {
  const { kind, privilege, size } = one.access;
  if (privilege === 'implicit') return kind === 'read' ? STUB_DESCRIPTOR : undefined;
  if (kind === 'fetch') return STUB_JUMP;
  const log = [1, 2, 4, 8].indexOf(size);
  if (log < 0) return undefined;
  if (log < 3 || isLongMode(one)) return stubBase[kind] + log;
  return kind === 'read' ? STUB_READ_WIDE : kind === 'write' ? STUB_WRITE_WIDE : undefined;
}

/** Where the access begins, and where it is known to have succeeded; both in the window. */
export function stubAt(one: AccessCase): { readonly start: number; readonly end: number } {
  const stub = stubOf(one) ?? 0;
  const start = (one.access.privilege === 'supervisor' ? STUBS.supervisor : STUBS.user) + STUB_SPACING * stub;
  return { start, end: start + 1 + (stubBytes[stub] ?? 0) };
}

/** Bytes before the pokes of a request, and before the poked words of a result. */
const REQUEST_BYTES = 128;
const REPLY_BYTES = 80;

/** Bytes of the result of a request with `pokes` pokes. */
export const replyBytes = (pokes: number): number => REPLY_BYTES + 8 * pokes;

/** Bytes of a request. */
export const requestBytes = (pokes: number, hints: number): number =>
  REQUEST_BYTES + 16 * pokes + 4 * (hints + (hints % 2));

const flags = { user: 1, ac: 2, descriptor: 4, wide: 8, latched: 16, direct: 32 } as const;

function flagsOf(one: AccessCase, stub: number): number {
  const { privilege, ac } = one.access;
  return (
    (privilege === 'supervisor' ? 0 : flags.user) +
    (ac === 'set' ? flags.ac : 0) +
    (stub === STUB_DESCRIPTOR ? flags.descriptor : 0) +
    (stub === STUB_READ_WIDE || stub === STUB_WRITE_WIDE ? flags.wide : 0) +
    (one.engine === 'native' && one.registers.pdptes.length > 0 ? flags.latched : 0)
  );
}

const CR4_PCIDE = 0x2_0000;
/** VMX control "mode-based execute control for EPT", of the secondary controls. */
const MODE_BASED_EXECUTE = 0x40_0000;

/** A place in a buffer to write to. */
export interface At {
  readonly view: DataView;
  readonly offset: number;
}

const putWord = ({ view, offset }: At, { lo, hi }: Word): void => {
  view.setUint32(offset, lo, true);
  view.setUint32(offset + 4, hi, true);
};

const wordAt = ({ view, offset }: At): Word => ({
  lo: view.getUint32(offset, true),
  hi: view.getUint32(offset + 4, true),
});

/** The words at and above the kernel's fixed fields that only some engines have. */
function putNested({ view, offset }: At, one: AccessCase): void {
  const put32 = (at: number, value: number): void => view.setUint32(offset + at, value, true);
  if (one.engine === 'vmx') {
    putWord({ view, offset: offset + 56 }, one.registers.eptp);
    put32(76, one.registers.modeBasedExecute === 'on' ? MODE_BASED_EXECUTE : 0);
  }
  if (one.engine === 'svm') {
    putWord({ view, offset: offset + 56 }, one.registers.nestedCr3);
    put32(64, one.registers.hostCr0);
    put32(68, one.registers.hostCr4);
    put32(72, one.registers.hostEfer);
  }
}

/** How a case is to be carried out, and frames that a write may hit, which only saves time. */
export interface Manner {
  readonly vehicle: Vehicle;
  /** The processor has PCIDs; else the case runs without, which changes no translation. */
  readonly hasPcid: boolean;
  /** A guest begins at the address that it is to fetch from. */
  readonly direct: boolean;
  readonly hints: readonly number[];
}

/** Writes a case that some instruction can do (`stubOf`); answers the bytes written. */
export function putRequest(at: At, one: AccessCase, { vehicle, hasPcid, direct, hints }: Manner): number {
  const { view, offset } = at;
  const { registers, access, image } = one;
  const stub = stubOf(one) ?? 0;
  const bytes = requestBytes(image.length, hints.length);
  const isPcid = hasAny(registers.cr4, CR4_PCIDE);
  const isCut = isPcid && !hasPcid;
  new Uint8Array(view.buffer, view.byteOffset + offset, bytes).fill(0);
  const put32 = (where: number, value: number): void => view.setUint32(offset + where, value, true);
  put32(0, bytes);
  put32(4, vehicles.indexOf(vehicle));
  put32(8, registers.cr0);
  put32(12, isCut ? without(registers.cr4, CR4_PCIDE) : registers.cr4);
  putWord(
    { view, offset: offset + 16 },
    isCut ? { lo: without(registers.cr3.lo, 0xfff), hi: registers.cr3.hi } : registers.cr3,
  );
  put32(24, registers.efer);
  put32(28, registers.pkru);
  put32(32, registers.pkrs);
  put32(36, stub);
  put32(40, flagsOf(one, stub) + (direct ? flags.direct : 0));
  put32(44, access.size);
  putWord({ view, offset: offset + 48 }, linearOf(one));
  putNested(at, one);
  registers.pdptes.forEach(({ entry }, i) => putWord({ view, offset: offset + 80 + 8 * i }, entry));
  put32(112, image.length);
  put32(116, hints.length);
  image.forEach(({ mfn, index, word }, i) => {
    const where = offset + REQUEST_BYTES + 16 * i;
    view.setUint32(where, mfn * 4096 + index * 8, true);
    putWord({ view, offset: where + 8 }, word);
  });
  hints.forEach((frame, i) => view.setUint32(offset + REQUEST_BYTES + 16 * image.length + 4 * i, frame, true));
  return bytes;
}

/** Reads a result of a case with `pokes` pokes. */
export function readReply({ view, offset }: At, pokes: number): Raw {
  const word = (at: number): Word => wordAt({ view, offset: offset + at });
  const int = (at: number): number => view.getUint32(offset + at, true);
  return {
    answer: answers[int(4)] ?? 'nothing',
    code: int(8),
    event: int(12),
    info1: word(16),
    info2: word(24),
    linear: word(32),
    rip: word(40),
    value: word(48),
    hits: [int(56), int(64)],
    after: Array.from({ length: pokes }, (_, i) => word(REPLY_BYTES + 8 * i)),
  };
}

/** Whether a linear address is sign-extended from the mode's width. */
export function isCanonical(one: AccessCase): boolean {
  if (!isLongMode(one)) return true;
  const { hi } = one.access.linear;
  const width = hasAny(one.registers.cr4, 0x1000) ? 57 : 48;
  const top = field(hi, width - 33, 65 - width);
  return top === 0 || top === 2 ** (65 - width) - 1;
}

/** The linear address as the mode has it. */
export const linearOf = (one: AccessCase): Word =>
  isLongMode(one) ? one.access.linear : { lo: low32(one.access.linear.lo), hi: 0 };
