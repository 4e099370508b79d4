// The memory of a case: words of the image, over zeros, up to its last frame; and marks, which are flags set in it.
// An access sees the flags that it has set so far: tables may serve two dimensions, and mean another thing with them.
// A first reader may skip this file. Source: Intel SDM vol. 3A, "Accessed and Dirty Flags".

import type { Mfn, Word } from '#abi/address.ts';
import { ZERO_WORD } from '#abi/address.ts';
import { CASE_FRAMES, type Mark, type Poke } from '#abi/case.ts';
import { or } from '#lib/bits.ts';
import type { WordReader } from '../hap/walk.ts';
import { frameAt, offsetAt, pageBytes } from './address.ts';

const WORDS_PER_FRAME = pageBytes / 8;
const ONES: Word = { lo: 0xffff_ffff, hi: 0xffff_ffff };

const placeOf = ({ mfn, index }: { readonly mfn: number; readonly index: number }): number =>
  mfn * WORDS_PER_FRAME + index;

/** The memory that `image` describes. */
export function memoryOf(image: readonly Poke[]): WordReader {
  const words = new Map<number, Word>();
  for (const poke of image) words.set(placeOf(poke), poke.word);
  return (mfn: Mfn, index: number): Word =>
    mfn >= CASE_FRAMES ? ONES : (words.get(mfn * WORDS_PER_FRAME + index) ?? ZERO_WORD);
}

const mfnAt = (maddr: number): Mfn => frameAt(maddr) as Mfn;
const indexAt = (maddr: number): number => Math.floor(offsetAt(maddr) / 8);

/** The entry of `bytes` bytes at `maddr`, which is a multiple of them; the high half of a short one is 0. */
export function entryAt(read: WordReader, maddr: number, bytes: 4 | 8): Word {
  const word = read(mfnAt(maddr), indexAt(maddr));
  if (bytes === 8) return word;
  return { lo: maddr % 8 === 0 ? word.lo : word.hi, hi: 0 };
}

/** No flag set. */
export const NO_MARKS: readonly Mark[] = [];

/** One list and then another: mostly one of them is empty. */
export const joined = <T>(some: readonly T[], more: readonly T[]): readonly T[] =>
  more.length === 0 ? some : some.length === 0 ? more : [...some, ...more];

/** Flags, all of them in the low half of an entry, set in the entry at `maddr`: one mark, or none for no flags. */
export function marksAt(maddr: number, flags: number): readonly Mark[] {
  if (flags === 0) return NO_MARKS;
  const bits: Word = maddr % 8 === 0 ? { lo: flags, hi: 0 } : { lo: 0, hi: flags };
  return [{ mfn: mfnAt(maddr), index: indexAt(maddr), bits }];
}

const unite = (a: Word, b: Word): Word => ({ lo: or(a.lo, b.lo), hi: or(a.hi, b.hi) });

/** `read` once `marks` are set. */
export function withMarks(read: WordReader, marks: readonly Mark[]): WordReader {
  if (marks.length === 0) return read;
  return (mfn, index) => {
    let word = read(mfn, index);
    for (const mark of marks) if (mark.mfn === mfn && mark.index === index) word = unite(word, mark.bits);
    return word;
  };
}

/** One mark for each word, in the order of addresses. Marks behind the last frame are lost. */
export function gather(marks: readonly Mark[]): readonly Mark[] {
  if (marks.length === 0) return marks;
  const byPlace = new Map<number, Mark>();
  for (const mark of marks) {
    const known = byPlace.get(placeOf(mark));
    byPlace.set(placeOf(mark), known === undefined ? mark : { ...mark, bits: unite(known.bits, mark.bits) });
  }
  return [...byPlace.values()].filter(({ mfn }) => mfn < CASE_FRAMES).toSorted((a, b) => placeOf(a) - placeOf(b));
}
