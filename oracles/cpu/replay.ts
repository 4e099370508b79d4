// Recorded answers held against the model, and the implementation held against the model on the same cases: what both say, and
// which flags the implementation leaves in memory. A first reader may skip this file.

import { isDeepStrictEqual } from 'node:util';
import type { AccessOutcome, Mark } from '#abi/case.ts';
import { CASE_FRAMES } from '#abi/case.ts';
import { type Word, ZERO_WORD } from '#abi/address.ts';
import { low32 } from '#lib/bits.ts';
import { AccessUnit } from '#impl/paging/access.ts';
import { translateAccess } from '#model/paging/translate.ts';
import { type Comparison, describeResult } from './compare.ts';
import type { Recorded } from './corpus.ts';
import { interpret } from './interpret.ts';
import { judge, type Verdict, type Witness } from './judge.ts';
import type { AccessCase } from './pack.ts';
import { expected } from './window.ts';
import { differing, hex, hexWord, isZero, orWords, withoutBits } from './words.ts';

const WORDS = 512;

/** The implementation with a memory to run cases in. */
export class Bench {
  readonly #memory = new Int32Array(CASE_FRAMES * WORDS * 2);
  readonly #unit = new AccessUnit(this.#memory);

  #put(place: number, { lo, hi }: Word): void {
    this.#memory[2 * place] = lo;
    this.#memory[2 * place + 1] = hi;
  }

  #get(place: number): Word {
    return { lo: low32(this.#memory[2 * place] ?? 0), hi: low32(this.#memory[2 * place + 1] ?? 0) };
  }

  /** How the implementation differs from `outcome`; undefined if it does not. */
  difference(one: AccessCase, outcome: AccessOutcome): string | undefined {
    const places = one.image.map(({ mfn, index }) => mfn * WORDS + index);
    one.image.forEach(({ word }, i) => this.#put(places[i] ?? 0, word));
    const result = this.#unit.run(one);
    const after = places.map((place) => this.#get(place));
    for (const place of places) this.#put(place, ZERO_WORD);
    if (!isDeepStrictEqual(result, outcome.result))
      return `model: ${describeResult(outcome.result)}; implementation: ${describeResult(result)}`;
    return flagsDiffer(one, outcome, after);
  }
}

const bitsOf = (marks: readonly Mark[], mfn: number, index: number): Word =>
  marks.reduce((bits, mark) => (mark.mfn === mfn && mark.index === index ? orWords(bits, mark.bits) : bits), ZERO_WORD);

function flagsDiffer(
  one: AccessCase,
  { required, allowed }: AccessOutcome,
  after: readonly Word[],
): string | undefined {
  for (const [i, { mfn, index, word }] of one.image.entries()) {
    const set = differing(word, after[i] ?? ZERO_WORD);
    const must = withoutBits(bitsOf(required, mfn, index), word);
    const missing = withoutBits(must, set);
    const extra = withoutBits(set, orWords(must, bitsOf(allowed, mfn, index)));
    const where = `implementation, mfn ${hex(mfn)}, word ${index}`;
    if (!isZero(missing)) return `${where}: bits ${hexWord(missing)} were not set`;
    if (!isZero(extra)) return `${where}: bits ${hexWord(extra)} were changed`;
  }
  return undefined;
}

/** What comes of a recorded case. `comparison`: undefined if the model has the kernel out of reach. */
export interface Replayed {
  readonly own: AccessOutcome;
  readonly comparison: Comparison | undefined;
  readonly verdict: Verdict;
}

/** Replays a recorded case on the model; `own` is what the model makes of it. */
export function replay(witness: Witness, { case: one, direct, raw }: Recorded): Replayed {
  const own = translateAccess(one);
  const outcome = expected(one, direct, own);
  if (outcome === undefined) {
    const why = 'the model has the kernel out of reach';
    return { own, comparison: undefined, verdict: { kind: 'different', why, rules: [] } };
  }
  const comparison = { case: one, modelled: one, outcome, direct, raw, seen: interpret(one, raw) };
  return { own, comparison, verdict: judge(witness, { case: one, outcome, manner: { direct, hasPcid: false }, raw }) };
}
