// Arithmetic of 64-bit words in two halves, as packing and comparing need it.
// A first reader may skip this file.

import type { Word } from '#abi/address.ts';
import { and, bit, field, low32, or, without } from '#lib/bits.ts';

/** `a` with the bits of `b` as well. */
export const orWords = (a: Word, b: Word): Word => ({ lo: or(a.lo, b.lo), hi: or(a.hi, b.hi) });

/** The bits that `a` and `b` share. */
export const andWords = (a: Word, b: Word): Word => ({ lo: and(a.lo, b.lo), hi: and(a.hi, b.hi) });

/** `a` without the bits of `b`. */
export const withoutBits = (a: Word, b: Word): Word => ({ lo: without(a.lo, b.lo), hi: without(a.hi, b.hi) });

/** The bits in which `a` and `b` differ. */
export const differing = (a: Word, b: Word): Word => orWords(withoutBits(a, b), withoutBits(b, a));

export const isSame = (a: Word, b: Word): boolean => a.lo === b.lo && a.hi === b.hi;
export const isZero = (a: Word): boolean => a.lo === 0 && a.hi === 0;

/** Whether bit `n` (0..63) is set. */
export const hasBit = ({ lo, hi }: Word, n: number): boolean =>
  n < 32 ? field(lo, n, 1) === 1 : field(hi, n - 32, 1) === 1;

/** The word with only bit `n` (0..63) set. */
export const wordOfBit = (n: number): Word => (n < 32 ? { lo: bit(n), hi: 0 } : { lo: 0, hi: bit(n - 32) });

/** Byte `n` (0..7, the lowest first). */
export const byteOf = ({ lo, hi }: Word, n: number): number => field(n < 4 ? lo : hi, (n % 4) * 8, 8);

/** A non-negative integer below 2^53 as a word. */
export const wordOf = (value: number): Word => ({ lo: low32(value % 2 ** 32), hi: Math.floor(value / 2 ** 32) });

/** The word as a number; exact below 2^53. */
export const numberOf = ({ lo, hi }: Word): number => hi * 2 ** 32 + lo;

/** `0x1f`. */
export const hex = (value: number): string => `0x${value.toString(16)}`;

/** The word in one hexadecimal number. */
export const hexWord = ({ lo, hi }: Word): string =>
  hi === 0 ? hex(lo) : `0x${hi.toString(16)}${lo.toString(16).padStart(8, '0')}`;
