// The one source of randomness: integer-only, seeded, the same on every machine.
// xoroshiro64** (Blackman and Vigna, "Scrambled linear pseudorandom number generators"): two 32-bit words of state.
// Probabilities are ratios of integers, never floats.

import { fold, hashText, mix } from './hash.ts';

/** A deterministic stream of integers; mutable, owned by whoever made it. */
export class Prng {
  #a: number;
  #b: number;

  /** `seed` is any integer; equal seeds give equal streams. */
  constructor(seed: number) {
    this.#a = mix(seed) | 1;
    this.#b = fold(0x6a09_e667, seed);
  }

  /** The next 32 bits, unsigned. */
  next(): number {
    const a = this.#a;
    let b = this.#b;
    const product = Math.imul(a, 0x9e37_79bb);
    const result = Math.imul((product << 5) | (product >>> 27), 5) >>> 0;
    b ^= a;
    this.#a = ((a << 26) | (a >>> 6)) ^ b ^ (b << 9);
    this.#b = (b << 13) | (b >>> 19);
    return result;
  }

  /** An integer in 0..`bound`-1; `bound` between 1 and 2^31. The bias of at most `bound`/2^32 is accepted. */
  below(bound: number): number {
    return Math.floor((this.next() / 0x1_0000_0000) * bound);
  }

  /** Whether an event of probability `numerator`/`denominator` happens. */
  chance(numerator: number, denominator: number): boolean {
    return this.below(denominator) < numerator;
  }

  /** One element of a non-empty list. */
  pick<T>(list: readonly T[]): T {
    return list[this.below(list.length)] as T;
  }

  /** An independent stream derived from this one. */
  fork(): Prng {
    return new Prng(this.next());
  }
}

/** A seed from a command-line argument: an integer as it is, anything else (a git hash, say) hashed. */
export const seedOf = (text: string): number => (/^\d{1,9}$/u.test(text) ? Number(text) : hashText(text));
