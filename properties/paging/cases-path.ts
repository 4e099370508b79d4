// The entries on the way of an access, found in the image of a case, and what can be done to their rights: for laws that
// compare a case with one whose tables say the same in another way. Only the present entries above the end of the way.
// A first reader may skip this file. Sources: Intel SDM vol. 3A, "Paging" (rights of a page), vol. 3C, "EPT Violations".

import type { Word } from '#abi/address.ts';
import { CASE_FRAMES, type Poke } from '#abi/case.ts';
import { field, hasAll, or, pow2 } from '#lib/bits.ts';
import type { AccessCase } from './cases.ts';
import { eptFormat, type Format, type FormatSetting, legacyFormat, orderAt, wideFormat } from './cases-formats.ts';
import { andWord, bitOf, frameIn, hasBit, isZero, orWord, vfnOf, withoutWord, WORDS, ZERO } from './cases-image.ts';
import { CR0, CR4, EFER, type Mode } from './cases-registers.ts';

/** How rights stand in entries of one kind: bits that allow, and bits that forbid. */
export interface Rights {
  readonly allow: Word;
  readonly forbid: Word;
}

const NX = bitOf(63);
const READ = bitOf(0);
const WRITE = bitOf(1);

/** Rights of the processor's own tables, of 4 and of 8 bytes, and of EPT. */
export const rightsIn = {
  narrow: { allow: orWord(bitOf(1), bitOf(2)), forbid: ZERO },
  wide: { allow: orWord(bitOf(1), bitOf(2)), forbid: NX },
  ept: { allow: { lo: 0x407, hi: 0 }, forbid: ZERO },
} as const satisfies Record<string, Rights>;

/** An entry on the way, as a word of the image; narrow ones are one half of it. */
export interface Entry {
  readonly mfn: number;
  readonly index: number;
  readonly isHighHalf: boolean;
  readonly word: Word;
}

/** A way through one tree: its entries that carry rights, from the top. */
export interface Way {
  readonly entries: readonly Entry[];
  readonly rights: Rights;
  readonly isNarrow: boolean;
}

/** The paging mode that control registers say. */
export function modeIn(cr0: number, cr4: number, efer: number): Mode {
  if (!hasAll(cr0, CR0.pg)) return 'none';
  if (!hasAll(cr4, CR4.pae)) return 'legacy';
  if (!hasAll(efer, EFER.lme)) return 'pae';
  return hasAll(cr4, CR4.la57) ? 'five' : 'four';
}

const anyMood = { present: 1000, writable: 1000, user: true, executable: 1000, odd: 0 };

const settingOf = (cr4: number, one: AccessCase): FormatSetting => ({
  mood: anyMood,
  physBits: one.registers.maxPhysAddr,
  pse: hasAll(cr4, CR4.pse),
  page1Gb: true,
  nxe: true,
  oracle: false,
});

interface Tables {
  readonly format: Format;
  readonly root: number;
  readonly rootOffset: number;
  readonly rights: Rights;
  readonly isPresent: (entry: Word) => boolean;
  /** Entries above this level carry no rights. */
  readonly rightsBelow: number;
}

const x86Tables = (mode: Exclude<Mode, 'none'>, cr3: Word, setting: FormatSetting): Tables => {
  const format =
    mode === 'legacy' ? legacyFormat(setting) : wideFormat(mode === 'pae' ? 3 : mode === 'four' ? 4 : 5, setting);
  return {
    format,
    root: frameIn(cr3),
    rootOffset: mode === 'pae' ? field(cr3.lo, 5, 7) * 4 : 0,
    rights: mode === 'legacy' ? rightsIn.narrow : rightsIn.wide,
    isPresent: format.isPresent,
    rightsBelow: mode === 'pae' ? 3 : 6,
  };
};

/** The only tables of a case without two dimensions: native paging, or nested tables below a guest without paging. */
function tablesOf(one: AccessCase): Tables | undefined {
  const { cr0, cr3, cr4, efer } = one.registers;
  const mode = modeIn(cr0, cr4, efer);
  if (one.engine === 'native') return mode === 'none' ? undefined : x86Tables(mode, cr3, settingOf(cr4, one));
  if (mode !== 'none') return undefined;
  if (one.engine === 'svm') {
    const { hostCr0, hostCr4, hostEfer, nestedCr3 } = one.registers;
    const host = modeIn(hostCr0, hostCr4, hostEfer);
    return host === 'none' ? undefined : x86Tables(host, nestedCr3, settingOf(hostCr4, one));
  }
  const { eptp, modeBasedExecute } = one.registers;
  const present = modeBasedExecute === 'on' ? 0x407 : 7;
  return {
    format: eptFormat(field(eptp.lo, 3, 3) === 4 ? 5 : 4, settingOf(cr4, one)),
    root: frameIn(eptp),
    rootOffset: 0,
    rights: rightsIn.ept,
    isPresent: ({ lo }) => !isZero(andWord({ lo, hi: 0 }, { lo: present, hi: 0 })),
    rightsBelow: 6,
  };
}

/** Bits of a frame number that take part in a walk of `format`. */
const reachOf = (format: Format): number => (format.levels <= 3 ? 20 : format.levels * 9);

/** The way of the first byte of an access; undefined where there is not exactly one tree. */
export function wayOf(one: AccessCase): Way | undefined {
  const tables = tablesOf(one);
  if (tables === undefined) return undefined;
  const { format, rights, rootOffset } = tables;
  const words = new Map(one.image.map(({ mfn, index, word }) => [mfn * WORDS + index, word]));
  const vfn = vfnOf(one.access.linear) % pow2(one.engine === 'native' ? reachOf(format) : 20);
  const latched = one.engine === 'native' ? one.registers.pdptes : [];
  const entries: Entry[] = [];
  let table = tables.root;
  for (let level = format.levels; level >= 1 && table < CASE_FRAMES; level -= 1) {
    const order = orderAt(format, level);
    const digit = Math.floor(vfn / pow2(order)) % pow2(format.indexBits);
    const index = format.isNarrow ? Math.floor(digit / 2) : level === format.levels ? rootOffset + digit : digit;
    const isHighHalf = format.isNarrow && digit % 2 === 1;
    const isLatched = latched.length > 0 && level === 3 && format.levels === 3;
    const whole = isLatched ? (latched[digit]?.entry ?? ZERO) : (words.get(table * WORDS + index) ?? ZERO);
    const word = format.isNarrow ? { lo: isHighHalf ? whole.hi : whole.lo, hi: 0 } : whole;
    if (!tables.isPresent(word)) break;
    if (level < tables.rightsBelow) entries.push({ mfn: table, index, isHighHalf, word });
    if (format.isLeaf(word, level)) break;
    table = format.frameOf(word, level);
  }
  // A PDPTE that is an entry of another level too has other rules: what is put into one changes the other.
  const isPdpte = ({ mfn, index }: Entry): boolean =>
    tables.rightsBelow === 3 && mfn === tables.root && Math.floor(index / 4) * 4 === rootOffset;
  if (entries.some(isPdpte)) return undefined;
  const places = new Set(entries.map(({ mfn, index, isHighHalf }) => `${mfn}.${index}.${isHighHalf}`));
  return places.size === entries.length ? { entries, rights, isNarrow: format.isNarrow } : undefined;
}

/** The rights of an entry alone: what allows and what forbids. */
const rightsOf = ({ word }: Entry, { allow, forbid }: Rights): Word => andWord(word, orWord(allow, forbid));

/** What all entries give together: allowed by all, forbidden by any. */
export function foldOf({ entries, rights }: Way): Word {
  const words = entries.map((entry) => rightsOf(entry, rights));
  const allowed = words.reduce(andWord, rights.allow);
  const forbidden = words.reduce(orWord, ZERO);
  return orWord(andWord(allowed, rights.allow), andWord(forbidden, rights.forbid));
}

/** Whether each entry's rights are in themselves well formed, and the fold leaves an entry present: EPT has rules of its own. */
export function mayCarryFold(way: Way): boolean {
  if (way.rights !== rightsIn.ept) return true;
  const isWellFormed = way.entries.every(({ word }) => hasBit(word, 0) || !hasBit(word, 1));
  return isWellFormed && !isZero(andWord(foldOf(way), orWord(READ, orWord(WRITE, bitOf(2)))));
}

/** The image with the rights of the way's entries replaced, from the top. */
export function withRights(image: readonly Poke[], way: Way, rights: readonly Word[]): readonly Poke[] {
  const mask = orWord(way.rights.allow, way.rights.forbid);
  const changed = way.entries.map((entry, i) => ({
    ...entry,
    word: orWord(withoutWord(entry.word, mask), andWord(rights[i] ?? ZERO, mask)),
  }));
  const words = new Map(image.map((poke) => [poke.mfn * WORDS + poke.index, poke]));
  for (const { mfn, index, isHighHalf, word } of changed) {
    const key = mfn * WORDS + index;
    const old = words.get(key)?.word ?? ZERO;
    const narrow = isHighHalf ? { lo: old.lo, hi: word.lo } : { lo: word.lo, hi: old.hi };
    words.set(key, { mfn, index, word: way.isNarrow ? narrow : word });
  }
  return [...words.values()];
}

/** Rights of the way's entries, one level on: the last one's at the top. */
export const rotated = ({ entries, rights }: Way): readonly Word[] =>
  entries.map((_, i) => rightsOf(entries[(i + entries.length - 1) % entries.length] as Entry, rights));

/** The fold at one entry, every right at the others. */
export const gathered = (way: Way, at: number): readonly Word[] =>
  way.entries.map((_, i) => (i === at ? foldOf(way) : way.rights.allow));

/** Whether flags that were marked are those of EPT. */
const isEptMark = (marked: Word): boolean => !isZero(andWord(marked, { lo: 0x300, hi: 0 }));

/** Whether flags that were marked are those of the processor's own tables, perhaps among others. */
export const hasOwnMark = (marked: Word): boolean => !isZero(andWord(marked, { lo: 0x60, hi: 0x60 }));

/** Bits of a word that mean "present", by the flags that were marked in it: EPT's are 8 and 9, the others' 5 and 6. */
export const presentBits = (marked: Word): Word => {
  if (isEptMark(marked)) return rightsIn.ept.allow;
  return { lo: field(marked.lo, 5, 2) === 0 ? 0 : 1, hi: field(marked.hi, 5, 2) === 0 ? 0 : 1 };
};

/** The write right of the entry or entries marked so. */
export const writeBits = (marked: Word): Word => {
  const { lo, hi } = presentBits(marked);
  return lo > 1 ? WRITE : { lo: lo * 2, hi: hi * 2 };
};

/** The user right of entries marked so; none for EPT. */
export const userBits = (marked: Word): Word => {
  const { lo, hi } = presentBits(marked);
  return lo > 1 ? ZERO : { lo: lo * 4, hi: hi * 4 };
};

/** Whether PDPTEs take part that are read in every walk, so that they may be entries of another level too. */
export function readsPdptes(one: AccessCase): boolean {
  if (one.engine !== 'svm') return false;
  const { cr0, cr4, efer, hostCr0, hostCr4, hostEfer } = one.registers;
  return modeIn(cr0, cr4, efer) === 'pae' || modeIn(hostCr0, hostCr4, hostEfer) === 'pae';
}

/** Whether all tables of a case have entries of 8 bytes with an NX bit in force. */
export function hasNx(one: AccessCase): boolean {
  const { cr0, cr4, efer } = one.registers;
  const isWide = (mode: Mode): boolean => mode === 'none' || mode !== 'legacy';
  const guest = isWide(modeIn(cr0, cr4, efer)) && hasAll(efer, EFER.nxe);
  if (one.engine !== 'svm') return guest;
  const { hostCr0, hostCr4, hostEfer } = one.registers;
  return guest && isWide(modeIn(hostCr0, hostCr4, hostEfer)) && hasAll(hostEfer, EFER.nxe);
}

/** NX in an entry of the processor's own tables; EPT's have none. */
export const nxBits = (marked: Word): Word => (presentBits(marked).lo > 1 ? ZERO : { lo: 0, hi: or(pow2(31), 0) });
