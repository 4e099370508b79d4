// 64-bit words of the machine's memory as they come out of it. Arithmetic instead of bit operators, like everywhere here.
// A first reader may skip this file.

import type { Word } from '#abi/address.ts';

/** `count` bits of `quad` from bit `from` on. */
export const bitsOf = (quad: bigint, from: number, count: number): number =>
  Number((quad / 2n ** BigInt(from)) % 2n ** BigInt(count));

/** A frame number as an address of its first byte, or the address of byte `offset` in it. */
export const addressOf = (frame: number, offset = 0): bigint => BigInt(frame) * 4096n + BigInt(offset);

export const quadOf = ({ lo, hi }: Word): bigint => BigInt(hi) * 2n ** 32n + BigInt(lo);

/** The low `size` bytes of `quad`. */
export const wordOf = (quad: bigint, size: number): Word => {
  const kept = BigInt.asUintN(8 * size, quad);
  return { lo: bitsOf(kept, 0, 32), hi: bitsOf(kept, 32, 32) };
};
