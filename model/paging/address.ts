// Addresses of 64 bits as two halves: frames and offsets, canonical form, and the pages that an access touches.
// A first reader may skip this file. Sources: Intel SDM vol. 1, "Canonical Addressing"; vol. 3A, "Paging".

import { FRAME_SHIFT, type Word } from '#abi/address.ts';
import { field, high21, low32, pow2, withField } from '#lib/bits.ts';

const BYTES = pow2(FRAME_SHIFT);

/** Bytes of the smallest page, in every mode. */
export const pageBytes: number = BYTES;

/** What a half of an address, and what the part of a frame number in its low half, can be. */
const HALVES = pow2(32);
const LOW_FRAMES = pow2(32 - FRAME_SHIFT);

/** Bits 51:12 of an entry or a root register, where addresses of tables and pages stand. */
export const frameOf = ({ lo, hi }: Word): number =>
  field(lo, FRAME_SHIFT, 32 - FRAME_SHIFT) + field(hi, 0, 20) * LOW_FRAMES;

const ONES = 0xffff_ffff;

/** Whether bits 63:`width` - 1 of an address are all the same. */
export function isCanonical({ hi }: Word, width: 48 | 57): boolean {
  const sign = field(hi, width - 33, 65 - width);
  return sign === 0 || sign === field(ONES, 0, 65 - width);
}

/** Whether an address has more than `width` bits, which are 32 at least. */
export const isTooWide = ({ hi }: Word, width: number): boolean => field(hi, width - 32, 64 - width) !== 0;

/** `count` bits of an address, 32 at most, from bit `from`. */
export function bitsOf({ lo, hi }: Word, from: number, count: number): number {
  if (from >= 32) return field(hi, from - 32, count);
  const inLow = 32 - from;
  return count <= inLow ? field(lo, from, count) : withField(field(lo, from, inLow), inLow, count - inLow, hi);
}

/** A physical address as two halves. */
export const wordOf = (address: number): Word => ({ lo: low32(address), hi: high21(address) });

/** The address of the first byte of a frame. */
export const addressOf = (frame: number): number => frame * BYTES;

/** The frame that a physical address lies in. */
export const frameAt = (address: number): number => Math.floor(address / BYTES);

/** The offset of a physical address in its frame. */
export const offsetAt = (address: number): number => address - addressOf(frameAt(address));

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
  const from = width === 32 ? { lo: linear.lo, hi: 0 } : linear;
  const count = Math.min(size, BYTES - field(from.lo, 0, FRAME_SHIFT));
  const first: Piece = { linear: from, count };
  return count === size ? [first] : [first, { linear: add(from, count, width), count: size - count }];
}
