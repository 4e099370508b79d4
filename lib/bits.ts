// The only place where numbers are taken apart bit by bit outside the files that tidy lists.
// JavaScript's bit operators keep 32 bits and give signed results; these keep what they say.

/** 2^n for 0 <= n <= 53, exact. */
export const pow2 = (n: number): number => powers[n] ?? 2 ** n;

/** Looked up: `**` is a call of the mathematics library, and sizes of tables are asked for everywhere. */
const powers: readonly number[] = Array.from({ length: 54 }, (_, n) => 2 ** n);

/** The low 32 bits of a non-negative integer below 2^53, as an unsigned number. */
export const low32 = (value: number): number => value >>> 0;

/** Bits 32..52 of a non-negative integer below 2^53. */
export const high21 = (value: number): number => Math.floor(value / 0x1_0000_0000);

/** `count` bits of `word` (32 bits) from bit `from`, unsigned. */
export const field = (word: number, from: number, count: number): number =>
  count >= 32 ? word >>> from : (word >>> from) & ((1 << count) - 1);

/** `word` (32 bits) with `count` bits from bit `from` replaced by `value`; unsigned. */
export const withField = (word: number, from: number, count: number, value: number): number => {
  const mask = count >= 32 ? 0xffff_ffff : ((1 << count) - 1) << from;
  return ((word & ~mask) | ((value << from) & mask)) >>> 0;
};

/** Bits 0, 2, ... 30 of `word` (32 bits) as bits 0 to 15. */
export function evenBits(word: number): number {
  const pairs = ((word & 0x5555_5555) | ((word & 0x5555_5555) >>> 1)) & 0x3333_3333;
  const fours = (pairs | (pairs >>> 2)) & 0x0f0f_0f0f;
  const eights = (fours | (fours >>> 4)) & 0x00ff_00ff;
  return (eights | (eights >>> 8)) & 0xffff;
}

/** Whether all bits of `mask` are set in `word` (both 32 bits). */
export const hasAll = (word: number, mask: number): boolean => (word & mask) >>> 0 === mask >>> 0;

/** Whether any bit of `mask` is set in `word` (both 32 bits). */
export const hasAny = (word: number, mask: number): boolean => (word & mask) !== 0;

/** Bitwise and of two 32-bit words, unsigned. */
export const and = (a: number, b: number): number => (a & b) >>> 0;

/** Bitwise or of two 32-bit words, unsigned. */
export const or = (a: number, b: number): number => (a | b) >>> 0;

/** `a` without the bits of `b`, unsigned. */
export const without = (a: number, b: number): number => (a & ~b) >>> 0;

/** The 32-bit word with only bit `n` set, unsigned. */
export const bit = (n: number): number => (1 << n) >>> 0;
