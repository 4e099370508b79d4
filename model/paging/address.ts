// Addresses of 64 bits as two halves: frames and offsets, canonical form, and the pages that an access touches.
// A first reader may skip this file. Sources: Intel SDM vol. 1, "Canonical Addressing"; vol. 3A, "Paging".

import { FRAME_SHIFT, type Word } from '#abi/address.ts';
import { field, low32, pow2 } from '#lib/bits.ts';

/** Bytes of the smallest page, in every mode. */
export const pageBytes: number = pow2(FRAME_SHIFT);

/** What a half of an address, and what the part of a frame number in its low half, can be. */
const HALVES = pow2(32);
const LOW_FRAMES = pow2(32 - FRAME_SHIFT);

/** Bits 63:12 of an address: its page among all pages of 4 KiB. */
export const pageOf = ({ lo, hi }: Word): number => field(lo, FRAME_SHIFT, 32 - FRAME_SHIFT) + hi * LOW_FRAMES;

/** Bits 11:0 of an address. */
export const offsetOf = ({ lo }: Word): number => field(lo, 0, FRAME_SHIFT);

/** Bits 51:12 of an entry or a root register, where addresses of tables and pages stand. */
export const frameOf = ({ lo, hi }: Word): number =>
  field(lo, FRAME_SHIFT, 32 - FRAME_SHIFT) + field(hi, 0, 20) * LOW_FRAMES;

const ONES = 0xffff_ffff;

/** Whether bits 63:`width` - 1 of an address are all the same. */
export function isCanonical({ hi }: Word, width: 48 | 57): boolean {
  const sign = field(hi, width - 33, 65 - width);
  return sign === 0 || sign === field(ONES, 0, 65 - width);
}

/** What is left of `value` by a power of two: exact below 2^53 where it is a division, and much quicker than `%`. */
export const remainder = (value: number, divisor: number): number => value - Math.floor(value / divisor) * divisor;

/** The frame and the offset of a physical address. */
export const splitAddress = (address: number): { readonly page: number; readonly offset: number } => ({
  page: Math.floor(address / pageBytes),
  offset: remainder(address, pageBytes),
});

/** How wide linear addresses are: they wrap at the end. */
export type LinearWidth = 32 | 64;

const add = ({ lo, hi }: Word, bytes: number, width: LinearWidth): Word => {
  const sum = lo + bytes;
  const carry = sum < HALVES ? 0 : 1;
  return { lo: low32(sum), hi: width === 32 ? 0 : low32(hi + carry) };
};

/** The bytes of an access that lie in one page of 4 KiB. */
export interface Piece {
  readonly linear: Word;
  readonly count: number;
}

/** The one or two pieces of `size` bytes from `linear`. */
export function piecesOf(linear: Word, size: number, width: LinearWidth): readonly Piece[] {
  const from = add(linear, 0, width);
  const count = Math.min(size, pageBytes - offsetOf(from));
  const first: Piece = { linear: from, count };
  return count === size ? [first] : [first, { linear: add(from, count, width), count: size - count }];
}
