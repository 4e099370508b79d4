// One access on both sides: what the implementation comes to must be what the architecture says, and the flags it leaves in
// memory must be those that are required, and beyond them only such as are allowed. Memory is put back after every case.
// A first reader may skip the keeping of memory.
// Sources: Intel SDM vol. 3A, "Paging"; vol. 3C, "Extended-Page-Table Mechanism"; AMD APM vol. 2, "Nested Paging".

import type { Word } from '#abi/address.ts';
import { type AccessOutcome, type AccessResult, CASE_FRAMES, type Mark, type Poke } from '#abi/case.ts';
import { low32 } from '#lib/bits.ts';
import { AccessUnit } from '#impl/paging/access.ts';
import { translateAccess } from '#model/paging/translate.ts';
import type { Problem } from '../harness/law.ts';
import type { AccessCase } from './cases.ts';
import { andWord, isSameWord, isZero, orWord, withoutWord, WORDS, ZERO } from './cases-image.ts';

/** An implementation of accesses in one memory. */
export interface Unit {
  readonly run: (one: AccessCase) => AccessResult;
}

/** Makes an implementation for a memory. */
export type UnitOf = (memory: Int32Array) => Unit;

/** What differs first between two sides. */
export interface Difference {
  readonly field: string;
  readonly expected: string;
  readonly actual: string;
}

const hex = (n: number): string => `0x${n.toString(16)}`;
const word = ({ lo, hi }: Word): string => `0x${hi.toString(16)}_${lo.toString(16).padStart(8, '0')}`;

/** A result in words. */
export function resultInWords(result: AccessResult): string {
  const told = Object.entries(result).flatMap(([name, value]: [string, unknown]): string[] => {
    if (name === 'kind' || value === undefined) return [];
    if (typeof value === 'number') return [`${name} ${hex(value)}`];
    if (Array.isArray(value))
      return result.kind === 'done' ? result.bytes.map((b) => `${b.count} at ${hex(b.maddr)}`) : [];
    return [`${name} ${word(value as Word)}`];
  });
  return [result.kind, ...told].join(', ');
}

/** The first field in which two results differ; undefined if they are the same. */
export function differenceOf(expected: AccessResult, actual: AccessResult): Difference | undefined {
  const told = { expected: resultInWords(expected), actual: resultInWords(actual) };
  if (expected.kind !== actual.kind) return { field: `access.${expected.kind}.${actual.kind}`, ...told };
  if (told.expected === told.actual) return undefined;
  const other: Readonly<Record<string, unknown>> = { ...actual };
  const name = Object.entries(expected).find(
    ([key, value]) => JSON.stringify(value) !== JSON.stringify(other[key]),
  )?.[0];
  return { field: `access.${expected.kind}.${name ?? 'fields'}`, ...told };
}

const keyOf = ({ mfn, index }: { readonly mfn: number; readonly index: number }): number => mfn * WORDS + index;

/** Marks as one word of bits per place. */
export function bitsByPlace(marks: readonly Mark[]): ReadonlyMap<number, Word> {
  const found = new Map<number, Word>();
  for (const mark of marks) found.set(keyOf(mark), orWord(found.get(keyOf(mark)) ?? ZERO, mark.bits));
  return found;
}

/** The words of an image that lie in memory, the last poke of a place alone. */
export const wordsOf = (image: readonly Poke[]): ReadonlyMap<number, Word> =>
  new Map(image.filter(({ mfn, index }) => mfn < CASE_FRAMES && index < WORDS).map((poke) => [keyOf(poke), poke.word]));

/** A place of the image in words. */
export const placeInWords = (key: number): string => `word ${key % WORDS} of frame ${hex(Math.floor(key / WORDS))}`;

/** What is wrong with a word that was `before` and is `after`. */
function flagsProblem(
  key: number,
  of: { before: Word; after: Word; required: Word; allowed: Word },
): Difference | undefined {
  const { before, after, required, allowed } = of;
  const told = {
    expected: `${placeInWords(key)} goes from ${word(before)} to ${word(orWord(before, required))}, perhaps also ${word(allowed)}`,
    actual: word(after),
  };
  if (!isSameWord(andWord(after, before), before)) return { field: 'access.memory', ...told };
  if (!isZero(withoutWord(required, after))) return { field: 'access.flags.missing', ...told };
  if (!isZero(withoutWord(after, orWord(before, orWord(required, allowed)))))
    return { field: 'access.flags.stray', ...told };
  return undefined;
}

/** Cases between two looks at all of memory. */
const AUDIT_EVERY = 2048;

/** A memory of zeroes that takes the image of one case at a time. */
class Bench {
  readonly memory = new Int32Array(CASE_FRAMES * WORDS * 2);
  #since = 0;

  put(words: ReadonlyMap<number, Word>): void {
    for (const [key, { lo, hi }] of words) {
      this.memory[2 * key] = lo;
      this.memory[2 * key + 1] = hi;
    }
  }

  read(key: number): Word {
    return { lo: low32(this.memory[2 * key] ?? 0), hi: low32(this.memory[2 * key + 1] ?? 0) };
  }

  /** Back to zeroes; the place of a word that should have been zero already, if there is one. */
  clear(words: ReadonlyMap<number, Word>): number | undefined {
    for (const key of words.keys()) this.memory.fill(0, 2 * key, 2 * key + 2);
    this.#since += 1;
    const isAudit = this.#since % AUDIT_EVERY === 0;
    const frames = isAudit ? [] : new Set([...words.keys()].map((key) => Math.floor(key / WORDS)));
    let stray = isAudit ? this.#clearRange(0, CASE_FRAMES * WORDS) : undefined;
    for (const mfn of frames) stray = this.#clearRange(mfn * WORDS, (mfn + 1) * WORDS) ?? stray;
    return stray;
  }

  #clearRange(from: number, to: number): number | undefined {
    const { memory } = this;
    for (let at = 2 * from; at < 2 * to; at += 1)
      if (memory[at] !== 0) {
        memory.fill(0, 2 * from, 2 * to);
        return Math.floor(at / 2);
      }
    return undefined;
  }
}

/** The first thing in which memory afterwards is not what the outcome says. */
function memoryDifference(
  bench: Bench,
  words: ReadonlyMap<number, Word>,
  outcome: AccessOutcome,
): Difference | undefined {
  const required = bitsByPlace(outcome.required);
  const allowed = bitsByPlace(outcome.allowed);
  for (const [key, before] of words) {
    const of = {
      before,
      after: bench.read(key),
      required: required.get(key) ?? ZERO,
      allowed: allowed.get(key) ?? ZERO,
    };
    const problem = flagsProblem(key, of);
    if (problem !== undefined) return problem;
  }
  return undefined;
}

const ownUnit: UnitOf = (memory) => new AccessUnit(memory);

/** What the architecture says of a case. */
export type Told = (one: AccessCase) => AccessOutcome;

/** Compares one case; has a memory of its own. `unitOf`: another implementation than this one; `tell`: answers known before. */
export function accessDifference(
  unitOf: UnitOf = ownUnit,
  tell: Told = translateAccess,
): (one: AccessCase) => Difference | undefined {
  const bench = new Bench();
  const unit = unitOf(bench.memory);
  return (one) => {
    const outcome = tell(one);
    const words = wordsOf(one.image);
    bench.put(words);
    const actual = unit.run(one);
    const difference = differenceOf(outcome.result, actual) ?? memoryDifference(bench, words, outcome);
    const stray = bench.clear(words);
    if (difference !== undefined || stray === undefined) return difference;
    return { field: 'access.memory', expected: 'nothing else is written', actual: `${placeInWords(stray)} is` };
  };
}

/** Judges cases of one memory after the other. */
export function accessJudge(
  unitOf: UnitOf = ownUnit,
  tell: Told = translateAccess,
): (one: AccessCase) => Problem | undefined {
  const compare = accessDifference(unitOf, tell);
  return (one) => {
    const difference = compare(one);
    if (difference === undefined) return undefined;
    const sentence = `the implementation comes to ${difference.actual}, the architecture to ${difference.expected}`;
    const mechanism = one.engine === 'native' ? 'paging' : 'hap';
    return { invariant: 'WALK', mechanism, sentence, ...difference };
  };
}
