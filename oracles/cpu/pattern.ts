// What the frames of an emulator hold where a case has poked nothing: every word tells its own place, and runs as an
// instruction that loads it into EAX (kernel/frames.c). Read as a table entry it is not present, as the zeros of the image are.

import type { Word } from '#abi/address.ts';
import { CASE_FRAMES } from '#abi/case.ts';
import { field, low32, or } from '#lib/bits.ts';

/** First frame that belongs to cases; the kernel lives below. */
export const CASE_FRAMES_FROM = 0x1000;

const FROM = CASE_FRAMES_FROM * 4096;
const END = CASE_FRAMES * 4096;

/** Whether the byte at `maddr` is a case's. */
export const isOurs = (maddr: number): boolean => maddr >= FROM && maddr < END;

/** The number of a word, spread around bit 2 so that bit 10 of the word is 0. */
const spread = (number: number): number => field(number, 0, 2) + field(number, 2, 30) * 8;

/** What the instruction at a word of a case's frame leaves in EAX. */
export const loadedAt = (maddr: number): number => spread(Math.floor(maddr / 8));

/** The word at an address (a multiple of 8) that nothing has poked. */
export const patternAt = (maddr: number): Word => {
  const loaded = loadedAt(maddr);
  return { lo: or(low32(loaded * 256), 0xb8), hi: or(field(loaded, 24, 8), 0x0f0b0f00) };
};

/** What writes leave behind. */
export const MAGIC: Word = { lo: 0x96c3_5a69, hi: 0x5ac3_9669 };
