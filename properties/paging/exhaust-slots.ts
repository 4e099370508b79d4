// Where the entries of an enumeration lie, and which values they take. Tables are put so that each frame number an entry
// holds is good for a table and, with bit 7 set, for a superpage of that level:
//
//   level    5        4        3        2        1       page
//   frame  0x2002   0x2001   0x2000    0x0    0x1000    0x3000
//
// A first reader may skip this file. Sources: Intel SDM vol. 3A, "Paging" (formats of the entries); vol. 3C, "EPT Translation Mechanism".

import type { Word } from '#abi/address.ts';
import type { Poke } from '#abi/case.ts';
import { and, field, pow2 } from '#lib/bits.ts';
import { bitOf, frameWord, hasBit, orWord, withoutWord, WORDS, ZERO } from './cases-image.ts';
import type { Mode } from './cases-registers.ts';
import type { Slot } from './exhaust.ts';

/** A mode with tables. */
export type TableMode = Exclude<Mode, 'none'>;

export const tableModes = ['legacy', 'pae', 'four', 'five'] as const satisfies readonly TableMode[];

export const levelsOf: Readonly<Record<TableMode, number>> = { legacy: 2, pae: 3, four: 4, five: 5 };

/** Frames of a tree: by level, what its entries lead to is one level below; 0 is the page. */
const treeFrames = [0x3000, 0x1000, 0, 0x2000, 0x2001, 0x2002] as const;
/** A second tree, for the guest's own tables above the nested ones: in frames that nothing else uses. */
const guestFrames = [0, 0x2401, 0x2402, 0x2403, 0x2404, 0x2405] as const;

/** Where a tree lies. */
export interface Place {
  readonly frames: readonly number[];
  readonly indexBits: number;
  /** The frame number that is walked for. */
  readonly frame: number;
}

/** The digits are small and differ, so that a walker that takes the wrong ones comes elsewhere. Narrow ones are even. */
const digits = [0, 6, 10, 2, 12, 1] as const;

const frameOf = (levels: number, indexBits: number): number =>
  Array.from({ length: levels }, (_, i) => levels - i).reduce(
    (frame, level) => frame * pow2(indexBits) + (digits[level] ?? 0),
    0,
  );

/** The tree that is enumerated. */
export const treeOf = (mode: TableMode): Place => {
  const indexBits = mode === 'legacy' ? 10 : 9;
  return { frames: treeFrames, indexBits, frame: frameOf(levelsOf[mode], indexBits) };
};

export const guestTree: Place = { frames: guestFrames, indexBits: 9, frame: frameOf(4, 9) };

export const rootFrame = ({ frames }: Place, levels: number): number => frames[levels] ?? 0;

const SUPERPAGE = bitOf(7);
const PRESENT = bitOf(0);
export const NX = bitOf(63);

/** Present, writable, user; accessed and dirty, too. */
export const X86_FULL: Word = { lo: 0x67, hi: 0 };
/** Read, write, execute for both modes, accessed, dirty. */
export const EPT_FULL: Word = { lo: 0x707, hi: 0 };
const WRITE_BACK: Word = { lo: 0x30, hi: 0 };

const X86_RIGHTS = 3;
const FLAGS: Word = { lo: 0x60, hi: 0 };
const EPT_FLAGS: Word = { lo: 0x300, hi: 0 };

const x86Rights = (entry: Word): number => field(entry.lo, 1, 2) + (hasBit(entry, 63) ? 0 : X86_RIGHTS + 1);
const eptRights = ({ lo }: Word): number => and(lo, 7) + (field(lo, 10, 1) === 1 ? 8 : 0);

/** All words made of some of these bits over `base`. */
export const combinations = (base: Word, bits: readonly Word[]): readonly Word[] =>
  bits.reduce<readonly Word[]>((words, one) => [...words, ...words.map((word) => orWord(word, one))], [base]);

/** How the entry at a level of a tree is to be enumerated: bits that vary, over those that stay. */
export interface Varying {
  readonly bits: readonly Word[];
  readonly fixed?: Word;
}

const indexAt = ({ frame, indexBits }: Place, level: number): number => {
  const digit = Math.floor(frame / pow2((level - 1) * indexBits)) % pow2(indexBits);
  return indexBits === 10 ? digit / 2 : digit % WORDS;
};

/** Whether the entry at a level is a PDPTE of PAE, which has neither rights nor flags. */
const isPdpte = (mode: TableMode, level: number): boolean => mode === 'pae' && level === 3;

const targetOf = ({ frames }: Place, level: number): Word => frameWord(frames[level - 1] ?? 0);

/** A slot of the processor's own tables. `leaf`: the level of the leaf. */
export function x86Slot(mode: TableMode, at: { level: number; leaf: number; place?: Place }, varying: Varying): Slot {
  const { level, leaf } = at;
  const place = at.place ?? treeOf(mode);
  const target = orWord(targetOf(place, level), level === leaf && level > 1 ? SUPERPAGE : ZERO);
  const isPlain = isPdpte(mode, level);
  return {
    mfn: rootFrame(place, level),
    index: indexAt(place, level),
    choices: combinations(orWord(target, varying.fixed ?? ZERO), varying.bits),
    full: orWord(target, isPlain ? PRESENT : X86_FULL),
    flags: isPlain ? ZERO : FLAGS,
    rightsOf: isPlain ? () => 15 : x86Rights,
  };
}

/** A slot of EPT. */
export function eptSlot(at: { level: number; leaf: number; place: Place }, varying: Varying): Slot {
  const { level, leaf, place } = at;
  const large = level > 1 ? SUPERPAGE : ZERO;
  const target = orWord(targetOf(place, level), level === leaf ? orWord(WRITE_BACK, large) : ZERO);
  return {
    mfn: rootFrame(place, level),
    index: indexAt(place, level),
    choices: combinations(orWord(target, varying.fixed ?? ZERO), varying.bits),
    full: orWord(target, EPT_FULL),
    flags: EPT_FLAGS,
    rightsOf: eptRights,
  };
}

/** A slot as a word that stays: full, but for what is taken away. */
export const asPoke = ({ mfn, index, full }: Slot, less: Word = ZERO): Poke => ({
  mfn,
  index,
  word: withoutWord(full, less),
});

/** Levels of a tree from the top down to its leaf. */
export const levelsDown = (top: number, leaf: number): readonly number[] =>
  Array.from({ length: top - leaf + 1 }, (_, i) => top - i);
