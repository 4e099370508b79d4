// From a failing case to a small one that fails in the same way: words of the image are dropped in chunks, frames merged,
// registers and access simplified field by field, single bits of words cleared. `smallerCases` is the stream, `shrinkCase`
// walks it and accepts only the same failure. Every candidate is smaller by `isSmallerCase`, which is well founded, so any
// search that only moves to candidates ends.
// A first reader may skip the sizes. Source: Zeller and Hildebrandt, "Simplifying and Isolating Failure-Inducing Input" (ddmin).

import type { Word } from '#abi/address.ts';
import { type Case, engines, type Poke } from '#abi/case.ts';
import { elementsOf, type Loose } from '#abi/fields.ts';
import type { Field, Fields } from '#abi/field.ts';
import { bit, field as bitsOf, without } from '#lib/bits.ts';

/** Numbers of a smaller range are counted down; others lose bits. */
const SMALL_RANGE = 64;

const bitCount = (n: number): number => {
  let count = 0;
  for (let left = n; left > 0; left = Math.floor(left / 2)) count += left % 2;
  return count;
};

const wordSize = ({ lo, hi }: Word): number => bitCount(lo) + bitCount(hi);

/** Bits 0..31 that are set, highest first. */
const bitsSet = (half: number): readonly number[] =>
  Array.from({ length: 32 }, (_, i) => 31 - i).filter((n) => bitsOf(half, n, 1) === 1);

/** Words with fewer bits: none, none in one half, each bit alone cleared. */
function* simplerWords({ lo, hi }: Word): Iterable<Word> {
  if (lo !== 0 && hi !== 0) yield { lo: 0, hi: 0 };
  if (hi !== 0) yield { lo, hi: 0 };
  if (lo !== 0) yield { lo: 0, hi };
  for (const n of bitsSet(hi)) yield { lo, hi: without(hi, bit(n)) };
  for (const n of bitsSet(lo)) yield { lo: without(lo, bit(n)), hi };
}

function* simplerNumbers(value: number, min: number, isSmall: boolean): Iterable<number> {
  if (value <= min) return;
  yield min;
  if (isSmall) {
    if (value - min >= 4) yield min + Math.floor((value - min) / 2);
    if (value - min >= 2) yield value - 1;
    return;
  }
  for (let span = 2 ** 52; span >= 1; span /= 2)
    if (Math.floor(value / span) % 2 === 1 && value - span > min) yield value - span;
}

const isSmallRange = (field: Extract<Field, { type: 'int' }>): boolean => field.max - field.min <= SMALL_RANGE;

/** How complicated a value of a field is. Cases have numbers, words, names and lists of those. */
function valueSize(field: Field, value: unknown): number {
  if (field.type === 'int') return isSmallRange(field) ? Number(value) - field.min : bitCount(Number(value));
  if (field.type === 'quad') return wordSize(value as Word);
  if (field.type === 'oneOf') return field.values.indexOf(String(value));
  if (field.type !== 'list') return 0;
  return elementsOf(value).reduce((sum, element) => sum + 1 + recordSize(field.of, element), 0);
}

const recordSize = (fields: Fields, record: Loose): number =>
  Object.entries(fields).reduce((sum, [name, field]) => sum + valueSize(field, record[name]), 0);

function* simplerValues(field: Field, value: unknown): Iterable<unknown> {
  if (field.type === 'int') yield* simplerNumbers(Number(value), field.min, isSmallRange(field));
  if (field.type === 'quad') yield* simplerWords(value as Word);
  if (field.type === 'oneOf') yield* field.values.slice(0, Math.max(0, field.values.indexOf(String(value))));
  if (field.type !== 'list') return;
  const elements = elementsOf(value);
  if (elements.length > 0) yield [];
  for (const [i, element] of elements.entries())
    for (const simpler of simplerRecords(field.of, element)) yield elements.with(i, simpler);
}

function* simplerRecords(fields: Fields, record: Loose): Iterable<Loose> {
  for (const [name, field] of Object.entries(fields))
    for (const value of simplerValues(field, record[name])) yield { ...record, [name]: value };
}

/** A case with other registers or another access, which suit its engine's fields: the one place where that is asserted. */
const withPart = (one: Case, part: { readonly registers: Loose } | { readonly access: Loose }): Case =>
  ({ ...one, ...part }) as unknown as Case;

const withImage = (one: Case, image: readonly Poke[]): Case => ({ ...one, image });

const framesOf = (image: readonly Poke[]): readonly number[] => [...new Set(image.map(({ mfn }) => mfn))];

/** Words, then frames, then bits and numbers. */
function sizeOf(one: Case): readonly [number, number, number] {
  const { registers, access } = engines[one.engine];
  const words = one.image.reduce((sum, { word, index }) => sum + wordSize(word) + bitCount(index), 0);
  return [
    one.image.length,
    framesOf(one.image).length,
    words + recordSize(registers, one.registers) + recordSize(access, one.access),
  ];
}

/** Whether `a` is smaller than `b`: fewer words, or as many in fewer frames, or simpler ones. */
export function isSmallerCase(a: Case, b: Case): boolean {
  const [left, right] = [sizeOf(a), sizeOf(b)];
  const at = left.findIndex((n, i) => n !== right[i]);
  return at >= 0 && (left[at] ?? 0) < (right[at] ?? 0);
}

/** Images without chunks of halving size, down to single words. */
function* withoutWords(one: Case): Iterable<Case> {
  const { image } = one;
  for (let size = image.length; size >= 1; size = Math.floor(size / 2))
    for (let end = image.length; end > 0; end -= size)
      yield withImage(one, image.toSpliced(Math.max(0, end - size), size));
}

const HIGH = 0x10_0000;

/** A word in which the frame number `from` in bits 12.. is `to`; others as they are. Flags above the number stay. */
function renamedWord(word: Word, from: number, to: number): Word {
  const frame = bitsOf(word.lo, 12, 20) + bitsOf(word.hi, 0, 20) * HIGH;
  if (frame !== from) return word;
  const flags = { lo: word.lo % 4096, hi: Math.floor(word.hi / HIGH) * HIGH };
  return { lo: (to % HIGH) * 4096 + flags.lo, hi: Math.floor(to / HIGH) + flags.hi };
}

/** Everything of a record that names the frame names another one. */
const renamedRecord = (fields: Fields, record: Loose, names: readonly [number, number]): Loose =>
  Object.fromEntries(
    Object.entries(fields).map(([name, field]) => {
      const value = record[name];
      if (field.type === 'quad') return [name, renamedWord(value as Word, ...names)];
      if (field.type === 'list')
        return [name, elementsOf(value).map((element) => renamedRecord(field.of, element, names))];
      return [name, name === 'root' && value === names[0] ? names[1] : value];
    }),
  );

/** Two frames made one, where their words do not clash; pointers follow. */
function* mergedFrames(one: Case): Iterable<Case> {
  const frames = framesOf(one.image);
  const taken = new Set(one.image.map(({ mfn, index }) => `${mfn}.${index}`));
  for (const from of frames.toReversed())
    for (const to of frames) {
      if (to === from || one.image.some((poke) => poke.mfn === from && taken.has(`${to}.${poke.index}`))) continue;
      const image = one.image.map((poke) => ({
        ...poke,
        mfn: poke.mfn === from ? to : poke.mfn,
        word: renamedWord(poke.word, from, to),
      }));
      const registers = renamedRecord(engines[one.engine].registers, one.registers, [from, to]);
      yield withPart(withImage(one, image), { registers });
    }
}

function* simplerParts(one: Case): Iterable<Case> {
  const { registers, access } = engines[one.engine];
  for (const simpler of simplerRecords(registers, one.registers)) yield withPart(one, { registers: simpler });
  for (const simpler of simplerRecords(access, one.access)) yield withPart(one, { access: simpler });
}

function* simplerImages(one: Case): Iterable<Case> {
  for (const [i, poke] of one.image.entries())
    for (const word of simplerWords(poke.word)) yield withImage(one, one.image.with(i, { ...poke, word }));
}

const stages = [withoutWords, mergedFrames, simplerParts, simplerImages] as const;

/** Where in the stream of candidates a case was found; its own stream goes on from there. */
interface Position {
  readonly stage: number;
  readonly index: number;
}

interface Candidate {
  readonly case: Case;
  readonly position: Position;
}

const START: Position = { stage: 0, index: 0 };

function* candidatesFrom(one: Case, from: Position): Generator<Candidate, void, undefined> {
  for (let stage = from.stage; stage < stages.length; stage += 1) {
    let index = 0;
    for (const smaller of stages[stage]?.(one) ?? []) {
      const isBefore = stage === from.stage && index < from.index;
      if (!isBefore && isSmallerCase(smaller, one)) yield { case: smaller, position: { stage, index } };
      index += 1;
    }
  }
}

/** Cases smaller than `one`, best first. Finite; may be empty. */
export function* smallerCases(one: Case): Generator<Case, void, undefined> {
  for (const { case: smaller } of candidatesFrom(one, START)) yield smaller;
}

export interface ShrunkCase {
  readonly case: Case;
  readonly executions: number;
  /** Whether nothing smaller fails alike, within the limit. */
  readonly isExhausted: boolean;
}

/** How a case fails, as the name of the disagreement; undefined: it does not. */
export type FailsAs = (one: Case) => string | undefined;

/**
 * The smallest case found that fails as `one` does, under the same name. Deterministic. `mayRun`: candidates that may be
 * executed at all; an emulator's own memory must not be overwritten.
 */
export function shrinkCase(
  one: Case,
  of: { readonly failsAs: FailsAs; readonly executions: number; readonly mayRun?: (one: Case) => boolean },
): ShrunkCase {
  const wanted = of.failsAs(one);
  const tried = new Set<string>();
  let best = one;
  let executions = 0;
  let from = START;
  for (;;) {
    let accepted: Candidate | undefined;
    for (const candidate of candidatesFrom(best, from)) {
      const key = JSON.stringify(candidate.case);
      if (tried.has(key) || of.mayRun?.(candidate.case) === false) continue;
      if (wanted === undefined || executions >= of.executions) return { case: best, executions, isExhausted: false };
      tried.add(key);
      executions += 1;
      if (of.failsAs(candidate.case) !== wanted) continue;
      accepted = candidate;
      break;
    }
    if (accepted !== undefined) {
      best = accepted.case;
      from = accepted.position;
    } else if (from === START) return { case: best, executions, isExhausted: true };
    // Once more from the beginning: what had to stay may have become superfluous.
    else from = START;
  }
}
