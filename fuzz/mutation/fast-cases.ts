// Many cases in little time: images as flat lists of words, the model's answers asked for once, and a comparison that allocates
// next to nothing. It only looks for cases that may differ; whether one does, accessJudge says.
// A first reader may skip it.

import { CASE_FRAMES } from '#abi/case.ts';
import { low32, without } from '#lib/bits.ts';
import { translateAccess } from '#model/paging/translate.ts';
import type { AccessCase } from '#properties/paging/cases.ts';
import { accessJudge, bitsByPlace, type Unit, type UnitOf, wordsOf } from '#properties/paging/cases-judge.ts';

/** A case with the model's answer. */
export interface Known {
  readonly one: AccessCase;
  readonly result: string;
  /** FIELDS numbers for each half of a word: where it is, what is there, what must be set, what may be set. */
  readonly halves: Uint32Array;
}

const FIELDS = 4;

/** Asks the model. */
export function known(one: AccessCase): Known {
  const outcome = translateAccess(one);
  const required = bitsByPlace(outcome.required);
  const permitted = bitsByPlace([...outcome.required, ...outcome.allowed]);
  const halves = [...wordsOf(one.image)].flatMap(([key, word]) =>
    (['lo', 'hi'] as const).flatMap((half, n) => [
      2 * key + n,
      word[half],
      required.get(key)?.[half] ?? 0,
      permitted.get(key)?.[half] ?? 0,
    ]),
  );
  return { one, result: JSON.stringify(outcome.result), halves: Uint32Array.from(halves) };
}

/** One for all implementations: it is large, and zeros between two of them. */
const memory = new Int32Array(CASE_FRAMES * 1024);
const zeros = Buffer.alloc(2 ** 20);

/** Whether anything is left in memory. */
function isStained(): boolean {
  for (let at = 0; at < memory.byteLength; at += zeros.length)
    if (!Buffer.from(memory.buffer, at, zeros.length).equals(zeros)) return true;
  return false;
}

/** Runs known cases on one implementation, which nobody else does meanwhile. */
export class Sieve {
  readonly #unitOf: UnitOf;
  readonly #unit: Unit;
  #isRunning = false;

  constructor(unitOf: UnitOf) {
    this.#unitOf = unitOf;
    memory.fill(0);
    this.#unit = unitOf(memory);
  }

  /** Whether the implementation comes to something else in one of these cases, or writes where it must not. */
  differs(cases: readonly Known[]): boolean {
    // Whoever was cut off has left his words behind.
    if (this.#isRunning) memory.fill(0);
    this.#isRunning = true;
    for (const of of cases) if (this.#mayDiffer(of) && accessJudge(this.#unitOf)(of.one) !== undefined) return true;
    this.#isRunning = false;
    return isStained();
  }

  #mayDiffer({ one, result, halves }: Known): boolean {
    for (let i = 0; i < halves.length; i += FIELDS) memory[halves[i] as number] = halves[i + 1] as number;
    let isOdd = JSON.stringify(this.#unit.run(one)) !== result;
    for (let i = 0; i < halves.length; i += FIELDS) {
      const at = halves[i] as number;
      const before = halves[i + 1] as number;
      const required = halves[i + 2] as number;
      const after = low32(memory[at] ?? 0);
      memory[at] = 0;
      if (after === before && required === 0) continue;
      isOdd ||= without(before, after) !== 0 || without(required, after) !== 0;
      isOdd ||= without(without(after, before), halves[i + 3] as number) !== 0;
    }
    return isOdd;
  }
}
