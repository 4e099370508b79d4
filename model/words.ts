// Contents of memory: words of frames, and bytes within them. (What hypercalls fetch and store is in buffers.ts.)
// A first reader may skip the byte arithmetic.

import { ZERO_WORD, type DomId, type Mfn, type Word } from '#abi/address.ts';
import { bytesPerFrame, isDeviceFrame } from '#abi/geometry.ts';
import { field, withField } from '#lib/bits.ts';
import { withParts, type Authored, type State } from './state.ts';

/** A byte in a guest's physical address space. */
export interface Byte {
  readonly gfn: number;
  readonly offset: number;
}

/** What is read where no memory is: devices answer nothing here. */
const ALL_ONES: Word = { lo: 0xffff_ffff, hi: 0xffff_ffff };

export const wordAt = (state: State, mfn: Mfn, index: number): Word =>
  state.words.get(mfn * state.geometry.wordsPerFrame + index) ??
  (isDeviceFrame(state.geometry, mfn) ? ALL_ONES : ZERO_WORD);

/** `state` with a word of a frame replaced. What is written to a device is gone. */
export function withWord(state: State, at: { mfn: Mfn; index: number }, word: Authored): State {
  if (isDeviceFrame(state.geometry, at.mfn)) return state;
  const key = at.mfn * state.geometry.wordsPerFrame + at.index;
  const isZero = word.lo === 0 && word.hi === 0;
  return withParts(state, { words: isZero ? state.words.delete(key) : state.words.set(key, word) });
}

/** `state` with all words of a frame zero. */
export function eraseFrame(state: State, mfn: Mfn): State {
  const from = mfn * state.geometry.wordsPerFrame;
  const words = state.words.withoutRange(from, from + state.geometry.wordsPerFrame);
  return words === state.words ? state : withParts(state, { words });
}

const byteOf = (word: Word, i: number): number => field(i < 4 ? word.lo : word.hi, (i % 4) * 8, 8);

const withByte = (word: Word, i: number, byte: number): Word =>
  i < 4
    ? { lo: withField(word.lo, i * 8, 8, byte), hi: word.hi }
    : { lo: word.lo, hi: withField(word.hi, (i - 4) * 8, 8, byte) };

/** The little-endian bytes of `word`, the first `size` of them. */
export const bytesOf = (word: Word, size: number): readonly number[] =>
  Array.from({ length: size }, (_, i) => byteOf(word, i));

/** The word that up to 8 little-endian bytes make. */
export const wordOf = (bytes: readonly number[]): Word =>
  bytes.reduce<Word>((word, byte, i) => withByte(word, i, byte), ZERO_WORD);

/** `count` bytes of a frame. */
export function readBytes(state: State, at: { mfn: Mfn; offset: number }, count: number): readonly number[] {
  const bytes: number[] = [];
  for (let from = at.offset; from < at.offset + count; from = 8 * Math.floor(from / 8) + 8) {
    const word = wordAt(state, at.mfn, Math.floor(from / 8));
    for (let i = from % 8; i < 8 && bytes.length < count; i += 1) bytes.push(byteOf(word, i));
  }
  return bytes;
}

/** `state` with bytes of a frame replaced by `author`. */
export function writeBytes(
  state: State,
  at: { mfn: Mfn; offset: number; author: DomId | undefined },
  bytes: readonly number[],
): State {
  let now = state;
  for (let done = 0; done < bytes.length;) {
    const index = Math.floor((at.offset + done) / 8);
    let word = wordAt(now, at.mfn, index);
    for (let i = (at.offset + done) % 8; i < 8 && done < bytes.length; i += 1, done += 1)
      word = withByte(word, i, bytes[done] ?? 0);
    now = withWord(now, { mfn: at.mfn, index }, { lo: word.lo, hi: word.hi, author: at.author });
  }
  return now;
}

/** A run of bytes that lies within one frame: where it starts and how long it is. */
export interface Piece extends Byte {
  readonly count: number;
}

/** Cuts `count` bytes from `from` at frame borders; an offset past the frame counts into the next ones, one below 0 into those before. */
export function pieces(state: State, from: Byte, count: number): readonly Piece[] {
  const size = bytesPerFrame(state.geometry);
  const frames = Math.floor(from.offset / size);
  const gfn = from.gfn + frames;
  const offset = from.offset - frames * size;
  const first = Math.min(count, size - offset);
  const head: Piece = { gfn, offset, count: first };
  return first === count ? [head] : [head, ...pieces(state, { gfn: gfn + 1, offset: 0 }, count - first)];
}
