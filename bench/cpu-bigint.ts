// Another way to write the specification (goal P6), for 4-level and 5-level paging: what has 64 bits (entries, addresses, CR3) is a
// bigint, entries are decoded afresh at each level, results are objects. It answers the same question as the model with the same
// rules: whole accesses from registers to bytes, with error codes and with the flags that must or may be set.
// A first reader may begin at `bigTranslate`. Sources: Intel SDM vol. 3A, "4-Level Paging and 5-Level Paging", "Access Rights",
// "Page-Fault Exceptions", "Accessed and Dirty Flags".

import { CASE_FRAMES, type CaseOf, type Poke } from '#abi/case.ts';
import type { Word } from '#abi/address.ts';

type Native = CaseOf<'native'>;

/** A case whose wide numbers are bigints. EFER.LME and CR0.PG are set: there is no other mode here. */
export interface BigCase {
  readonly registers: Omit<Native['registers'], 'cr3' | 'pdptes'> & { readonly cr3: bigint };
  readonly access: Omit<Native['access'], 'linear'> & { readonly linear: bigint };
}

/** Reads the word at a physical address. */
export type BigReader = (address: bigint) => bigint;

/** What an access comes to. */
export type BigResult =
  | { readonly kind: 'done'; readonly bytes: readonly { readonly maddr: bigint; readonly count: number }[] }
  | { readonly kind: 'pageFault'; readonly errorCode: number; readonly linear: bigint }
  | { readonly kind: 'generalProtection' }
  | { readonly kind: 'invalidState' };

/** Flags set in the word at an address. */
export interface BigMark {
  readonly address: bigint;
  readonly bits: bigint;
}

export interface BigOutcome {
  readonly result: BigResult;
  readonly required: readonly BigMark[];
  readonly allowed: readonly BigMark[];
}

const bigWord = ({ lo, hi }: Word): bigint => (BigInt(hi) << 32n) | BigInt(lo);

/** Whether `one` is in a mode that is known here. */
export const isBigCase = ({ registers: { cr0, efer } }: Native): boolean =>
  (cr0 & 0x8000_0000) !== 0 && (efer & 0x100) !== 0;

export const bigCaseOf = ({ registers: { cr3, pdptes: _, ...registers }, access }: Native): BigCase => ({
  registers: { ...registers, cr3: bigWord(cr3) },
  access: { ...access, linear: bigWord(access.linear) },
});

/** The memory of a case: a Map of the words that are not 0. */
export function bigMemoryOf(image: readonly Poke[]): BigReader {
  const words = new Map(image.map(({ mfn, index, word }) => [BigInt(mfn * 4096 + index * 8), bigWord(word)]));
  return (address) => (address < MEMORY_END ? (words.get(address) ?? 0n) : ONES);
}

/** The same where words lie one after another. */
export function bigWordsOf({ buffer }: Int32Array): BigReader {
  const words = new BigUint64Array(buffer);
  return (address) => words[Number(address >> 3n)] ?? ONES;
}

const PRESENT = 1n;
const WRITABLE = 2n;
const USER = 4n;
const ACCESSED = 0x20n;
const DIRTY = 0x40n;
const LARGE = 0x80n;
const EXECUTE_DISABLE = 1n << 63n;
const FRAME = 0x000f_ffff_ffff_f000n;
const ONES = (1n << 64n) - 1n;
const MEMORY_END = BigInt(CASE_FRAMES) * 4096n;

/** What differs from level to level, the lowest first: the lowest bit of the index, offset bits, and those that a large page has for a frame. */
const levels = [12n, 12n, 21n, 30n, 39n, 48n].map((shift) => {
  const offset = (1n << shift) - 1n;
  return { shift, offset, frame: FRAME & ~offset, below: FRAME & offset & ~0x1000n };
});
type Level = (typeof levels)[number];

/** Bits 51:M of an entry, and bits 63:M of CR3, by M. */
const beyond = Array.from({ length: 53 }, (_, width) => (1n << 52n) - (1n << BigInt(width)));
const beyondWide = beyond.map((bits) => bits | (0xfffn << 52n));

/** What the registers say. */
interface Paging {
  readonly depth: 4 | 5;
  readonly root: bigint;
  readonly beyond: bigint;
  readonly page1Gb: boolean;
  readonly executeDisable: boolean;
  readonly writeProtect: boolean;
  readonly smep: boolean;
  readonly smap: boolean;
  readonly userKeys: number | undefined;
  readonly supervisorKeys: number | undefined;
}

/** The paging of a state, or undefined if no processor can be in it: without PE or PAE, or with a root beyond MAXPHYADDR. */
function pagingOf({ cr0, cr3, cr4, efer, pkru, pkrs, maxPhysAddr, page1Gb }: BigCase['registers']): Paging | undefined {
  const isWhole = (cr0 & 1) !== 0 && (cr4 & 0x20) !== 0;
  if (!isWhole || (cr3 & (beyondWide[maxPhysAddr] as bigint)) !== 0n) return undefined;
  return {
    depth: (cr4 & 0x1000) === 0 ? 4 : 5,
    root: cr3 & FRAME,
    beyond: beyond[maxPhysAddr] as bigint,
    page1Gb: page1Gb === 'present',
    executeDisable: (efer & 0x800) !== 0,
    writeProtect: (cr0 & 0x1_0000) !== 0,
    smep: (cr4 & 0x10_0000) !== 0,
    smap: (cr4 & 0x20_0000) !== 0,
    userKeys: (cr4 & 0x40_0000) === 0 ? undefined : pkru,
    supervisorKeys: (cr4 & 0x100_0000) === 0 ? undefined : pkrs,
  };
}

interface Rights {
  readonly writable: boolean;
  readonly user: boolean;
  readonly executable: boolean;
}

type Meaning =
  | { readonly kind: 'absent' }
  | { readonly kind: 'reserved' }
  | { readonly kind: 'table'; readonly frame: bigint; readonly rights: Rights }
  | { readonly kind: 'page'; readonly frame: bigint; readonly rights: Rights; readonly key: number };

function decode(paging: Paging, level: number, entry: bigint): Meaning {
  if ((entry & PRESENT) === 0n) return { kind: 'absent' };
  const executable = (entry & EXECUTE_DISABLE) === 0n;
  if ((entry & paging.beyond) !== 0n || (!executable && !paging.executeDisable)) return { kind: 'reserved' };
  const isLarge = level > 1 && (entry & LARGE) !== 0n;
  const { frame, below } = levels[level] as Level;
  if (isLarge && (level > 3 || (level === 3 && !paging.page1Gb) || (entry & below) !== 0n)) return { kind: 'reserved' };
  const rights = { writable: (entry & WRITABLE) !== 0n, user: (entry & USER) !== 0n, executable };
  if (level > 1 && !isLarge) return { kind: 'table', frame: entry & FRAME, rights };
  return { kind: 'page', frame: entry & frame, rights, key: Number((entry >> 59n) & 0xfn) };
}

/** An entry that was used. */
interface Used {
  readonly address: bigint;
  readonly entry: bigint;
  readonly isPage: boolean;
}

type Walk =
  | { readonly kind: 'absent'; readonly used: readonly Used[] }
  | { readonly kind: 'reserved'; readonly used: readonly Used[] }
  | {
      readonly kind: 'page';
      readonly used: readonly Used[];
      readonly maddr: bigint;
      readonly rights: Rights;
      readonly key: number;
    };

function walk(read: BigReader, paging: Paging, linear: bigint): Walk {
  const used: Used[] = [];
  let table = paging.root;
  let rights: Rights = { writable: true, user: true, executable: true };
  for (let level: number = paging.depth; ; level -= 1) {
    const { shift, offset } = levels[level] as Level;
    const address = table + ((linear >> shift) & 0x1ffn) * 8n;
    const entry = read(address);
    const meaning = decode(paging, level, entry);
    if (meaning.kind === 'absent' || meaning.kind === 'reserved') return { kind: meaning.kind, used };
    used.push({ address, entry, isPage: meaning.kind === 'page' });
    rights = {
      writable: rights.writable && meaning.rights.writable,
      user: rights.user && meaning.rights.user,
      executable: rights.executable && meaning.rights.executable,
    };
    if (meaning.kind === 'page')
      return { kind: 'page', used, maddr: meaning.frame | (linear & offset), rights, key: meaning.key };
    table = meaning.frame;
  }
}

type Access = BigCase['access'];

const isWrite = ({ kind }: Access): boolean => kind === 'write' || kind === 'readModifyWrite';

/** Whether the rights of the page allow the access. */
function isAllowed(paging: Paging, access: Access, { writable, user, executable }: Rights): boolean {
  const isUser = access.privilege === 'user';
  if (isUser && !user) return false;
  if (access.kind === 'fetch') return executable && (isUser || !user || !paging.smep);
  if (!isUser && user && paging.smap && (access.privilege === 'implicit' || access.ac === 'clear')) return false;
  return !isWrite(access) || writable || (!isUser && !paging.writeProtect);
}

/** Whether the protection key of the page forbids the access. */
function isKeyForbidden(paging: Paging, access: Access, page: { rights: Rights; key: number }): boolean {
  const isUser = access.privilege === 'user';
  const keys = page.rights.user ? paging.userKeys : paging.supervisorKeys;
  if (keys === undefined || access.kind === 'fetch' || (isUser && !page.rights.user)) return false;
  const disabled = (keys >>> (2 * page.key)) & 3;
  const isWriteBound = isWrite(access) && (isUser || paging.writeProtect);
  return (disabled & 1) !== 0 || ((disabled & 2) !== 0 && isWriteBound);
}

/** The bits of the error code that tell the access. */
const codeOf = (paging: Paging, access: Access): number =>
  (isWrite(access) ? 2 : 0) +
  (access.privilege === 'user' ? 4 : 0) +
  (access.kind === 'fetch' && (paging.executeDisable || paging.smep) ? 16 : 0);

/** The error code of a walk, or undefined if the access may proceed. */
function faultOf(paging: Paging, access: Access, walked: Walk): number | undefined {
  if (walked.kind === 'absent') return codeOf(paging, access);
  if (walked.kind === 'reserved') return codeOf(paging, access) + 9;
  const byKey = isKeyForbidden(paging, access, walked);
  if (isAllowed(paging, access, walked.rights) && !byKey) return undefined;
  return codeOf(paging, access) + (byKey ? 33 : 1);
}

/** Adds the flags that entries lack. */
function mark(marks: BigMark[], used: readonly Used[], isDirtied: boolean): void {
  for (const { address, entry, isPage } of used) {
    const bits = (isDirtied && isPage ? ACCESSED | DIRTY : ACCESSED) & ~entry;
    if (bits !== 0n) marks.push({ address, bits });
  }
}

/** One mark for each word, in the order of addresses. */
function gather(marks: readonly BigMark[]): readonly BigMark[] {
  if (marks.length === 0) return marks;
  const byAddress = new Map<bigint, bigint>();
  for (const { address, bits } of marks) byAddress.set(address, (byAddress.get(address) ?? 0n) | bits);
  const gathered = [...byAddress].map(([address, bits]) => ({ address, bits }));
  return gathered.toSorted((a, b) => (a.address < b.address ? -1 : 1));
}

/** The bytes of an access in each page that it touches; addresses wrap at their end. */
function piecesOf({ linear, size }: Access): readonly { readonly linear: bigint; readonly count: number }[] {
  const count = Math.min(size, 4096 - Number(linear & 0xfffn));
  const first = { linear, count };
  return count === size ? [first] : [first, { linear: (linear + BigInt(count)) & ONES, count: size - count }];
}

const isCanonical = (linear: bigint, depth: 4 | 5): boolean => {
  const sign = linear >> (depth === 4 ? 47n : 56n);
  return sign === 0n || sign === (depth === 4 ? 0x1_ffffn : 0xffn);
};

const refused = (kind: 'invalidState' | 'generalProtection'): BigOutcome => ({
  result: { kind },
  required: [],
  allowed: [],
});

/** What the architecture makes of an access. Flags that it sets are seen by nothing that it reads: no walk depends on them. */
export function bigTranslate({ registers, access }: BigCase, read: BigReader): BigOutcome {
  const paging = pagingOf(registers);
  if (paging === undefined) return refused('invalidState');
  const pieces = piecesOf(access);
  if (!pieces.every(({ linear }) => isCanonical(linear, paging.depth))) return refused('generalProtection');
  const bytes: { maddr: bigint; count: number }[] = [];
  const marks: BigMark[] = [];
  for (const { linear, count } of pieces) {
    const walked = walk(read, paging, linear);
    const errorCode = faultOf(paging, access, walked);
    mark(marks, walked.used, errorCode === undefined && isWrite(access));
    if (walked.kind !== 'page' || errorCode !== undefined) {
      const result: BigResult = { kind: 'pageFault', errorCode: errorCode ?? 0, linear };
      return { result, required: [], allowed: gather(marks) };
    }
    bytes.push({ maddr: walked.maddr, count });
  }
  return { result: { kind: 'done', bytes }, required: gather(marks), allowed: [] };
}
