// Words taken apart and put together: each function against the same thing said bit by bit.
// A first reader may skip it.

import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { evenBits, field, pow2, withField } from './bits.ts';

const word = fc.integer({ min: 0, max: 0xffff_ffff });
const bitsOf = (value: number): readonly number[] =>
  Array.from({ length: 32 }, (_, i) => Math.floor(value / 2 ** i) % 2);
const wordOf = (bits: readonly number[]): number => bits.reduce((sum, one, i) => sum + one * 2 ** i, 0);

/** A field of a word: where it begins and how many bits it has. */
const place = fc
  .integer({ min: 0, max: 31 })
  .chain((from) => fc.integer({ min: 1, max: 32 - from }).map((count) => ({ from, count })));

describe('bits', () => {
  it('pow2 is exact up to 2^53', () => {
    for (let n = 0; n <= 53; n += 1) expect(pow2(n)).toBe(2 ** n);
  });

  it('evenBits takes every second bit', () => {
    fc.assert(
      fc.property(word, (value) => {
        expect(evenBits(value)).toBe(wordOf(bitsOf(value).filter((_, i) => i % 2 === 0)));
      }),
    );
  });

  it('a field is the bits that it names', () => {
    fc.assert(
      fc.property(word, place, (value, { from, count }) => {
        expect(field(value, from, count)).toBe(wordOf(bitsOf(value).slice(from, from + count)));
      }),
    );
  });

  it('a field that is replaced is there, and nothing else has changed', () => {
    fc.assert(
      fc.property(word, word, place, (value, other, { from, count }) => {
        const bits = bitsOf(value).map((one, i) =>
          i < from || i >= from + count ? one : (bitsOf(other)[i - from] ?? 0),
        );
        expect(withField(value, from, count, other)).toBe(wordOf(bits));
      }),
    );
  });
});
