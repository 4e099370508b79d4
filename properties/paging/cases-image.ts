// A memory image under construction, and where its frames lie: the ground that random cases are built on.
// Tables lie in frames 0x1000..0x2fff and data in 0x3000..0x3fff, so that an emulator with 64 MiB keeps the rest for itself;
// guest-physical frames have the same low 18 bits, so that superpages of any size lead into memory that exists.
// A first reader may skip the arithmetic of words.

import type { Word } from '#abi/address.ts';
import type { Poke } from '#abi/case.ts';
import { and, bit, field, low32, or, pow2, without } from '#lib/bits.ts';
import type { Prng } from '#lib/prng.ts';

/** Words in a frame of the real machine. */
export const WORDS = 512;

export const ZERO: Word = { lo: 0, hi: 0 };

/** The word with only bit `n` (0..63) set. */
export const bitOf = (n: number): Word => (n < 32 ? { lo: bit(n), hi: 0 } : { lo: 0, hi: bit(n - 32) });

export const orWord = (a: Word, b: Word): Word => ({ lo: or(a.lo, b.lo), hi: or(a.hi, b.hi) });
export const andWord = (a: Word, b: Word): Word => ({ lo: and(a.lo, b.lo), hi: and(a.hi, b.hi) });
export const withoutWord = (a: Word, b: Word): Word => ({ lo: without(a.lo, b.lo), hi: without(a.hi, b.hi) });
export const isZero = ({ lo, hi }: Word): boolean => lo === 0 && hi === 0;
export const isSameWord = (a: Word, b: Word): boolean => a.lo === b.lo && a.hi === b.hi;

/** Whether bit `n` (0..63) of a word is set. */
export const hasBit = ({ lo, hi }: Word, n: number): boolean =>
  n < 32 ? field(lo, n, 1) === 1 : field(hi, n - 32, 1) === 1;

const FRAMES_IN_LOW = 0x10_0000;

/** A word whose bits from 12 on are a frame number (below 2^52). */
export const frameWord = (frame: number): Word => ({
  lo: (frame % FRAMES_IN_LOW) * 4096,
  hi: Math.floor(frame / FRAMES_IN_LOW),
});

/** The frame number in bits 12..51 of a word. */
export const frameIn = ({ lo, hi }: Word): number => field(lo, 12, 20) + field(hi, 0, 20) * FRAMES_IN_LOW;

/** A linear address: frame number and offset in it. */
export const linearOf = (vfn: number, offset: number): Word => ({
  lo: (vfn % FRAMES_IN_LOW) * 4096 + offset,
  hi: low32(Math.floor(vfn / FRAMES_IN_LOW)),
});

/** The frame number of a linear address (below 2^52). */
export const vfnOf = ({ lo, hi }: Word): number => Math.floor(lo / 4096) + hi * FRAMES_IN_LOW;

/** The words of a case while it comes into being. */
export class Image {
  readonly #words = new Map<number, Poke>();

  /** The word at a place; undefined if nothing has been put there. */
  read(mfn: number, index: number): Word | undefined {
    return this.#words.get(mfn * WORDS + index)?.word;
  }

  write(mfn: number, index: number, word: Word): void {
    this.#words.set(mfn * WORDS + index, { mfn, index, word });
  }

  /** What has been put, in the order in which places were first used. Words that are 0 say nothing and are left out. */
  pokes(): readonly Poke[] {
    return [...this.#words.values()].filter(({ word }) => !isZero(word));
  }
}

/** What a frame is for. */
export type Role = 'table' | 'data';

/** Frames of 4 KiB in a mapping of 1 GiB, as a power of two. */
export const GIB_ORDER = 18;

const areas = { table: { from: 0x1000, count: 0x2000 }, data: { from: 0x3000, count: 0x1000 } } as const;

/** Whether a frame's low 18 bits lie where frames of `role` lie. */
export const liesIn = (role: Role, frame: number): boolean => {
  const low = frame % pow2(GIB_ORDER);
  return low >= areas[role].from && low < areas[role].from + areas[role].count;
};

/** What a case is to be like. */
export interface Manner {
  /** Keep to what an emulator can be asked: no strange frames, nothing that is in its own way. */
  readonly oracle: boolean;
  /** Frame numbers have so many bits. */
  readonly frameBits: number;
}

/** Hands out frame numbers of one address space. */
export class Frames {
  readonly #prng: Prng;
  readonly #manner: Manner;
  readonly #highs: readonly number[];
  readonly #tables: number[] = [];

  /** `highs`: what may stand above the low 18 bits. */
  constructor(prng: Prng, manner: Manner, highs: readonly number[]) {
    this.#prng = prng;
    this.#manner = manner;
    this.#highs = highs;
  }

  /** A frame number aligned to 2^`order` for a superpage or for one frame (0). */
  fresh(role: Role, order = 0): number {
    const prng = this.#prng;
    if (!this.#manner.oracle && prng.chance(1, 48)) return this.#strange(order);
    const { from, count } = areas[role];
    const span = pow2(order);
    const low = span > from ? 0 : from + prng.below(count / span) * span;
    const high = span > pow2(GIB_ORDER) ? 0 : prng.pick(this.#highs);
    return high * pow2(GIB_ORDER) + low;
  }

  /** A frame for a table, now and then one that already is a table: tables are shared and lead back to themselves. */
  table(reuse: readonly [number, number] = [1, 14]): number {
    const isShared = this.#tables.length > 0 && this.#prng.chance(...reuse);
    const frame = isShared ? this.#prng.pick(this.#tables) : this.fresh('table');
    if (!isShared) this.#tables.push(frame);
    return frame;
  }

  /** A table already handed out, or a fresh one. */
  someTable(): number {
    return this.#tables.length > 0 ? this.#prng.pick(this.#tables) : this.table();
  }

  #strange(order: number): number {
    const prng = this.#prng;
    const frames = pow2(this.#manner.frameBits);
    const span = pow2(order);
    const near = prng.chance(1, 2) ? prng.below(0x4010) : frames - 1 - prng.below(4);
    return Math.floor(Math.min(near, frames - 1) / span) * span;
  }
}
