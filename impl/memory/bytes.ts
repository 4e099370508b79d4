// Bytes of 64-bit words that are kept as two halves.
// A first reader may skip nothing.

import { field, withField } from '#lib/bits.ts';

/** Byte `i`, from 0, of a word. */
export const byteOf = (i: number, lo: number, hi: number): number => field(i < 4 ? lo : hi, (i % 4) * 8, 8);

/** `half` of a word, 0 low or 1 high, with byte `i` of the whole word replaced if it lies there. */
export const withByte = (half: number, word: number, at: { readonly i: number; readonly value: number }): number =>
  Math.floor(at.i / 4) === half ? withField(word, (at.i % 4) * 8, 8, at.value) : word;
