// Entries of page tables as random cases need them: made with the bits that rules are about set at random around an
// intention (mostly present, mostly permitted), and read back just well enough to go on building below them. What an entry
// means is for model and implementation to say; nothing here judges.
// A first reader may skip this file. Sources: Intel SDM vol. 3A, "Paging" (formats of the entries), vol. 3C, "EPT Translation Mechanism".

import type { Word } from '#abi/address.ts';
import { and, field, low32, or, pow2 } from '#lib/bits.ts';
import type { Prng } from '#lib/prng.ts';
import { bitOf, frameIn, frameWord, GIB_ORDER, hasBit, orWord, withoutWord, ZERO } from './cases-image.ts';

/** Where an entry stands and what it is to lead to. */
export interface Slot {
  readonly level: number;
  readonly isLeaf: boolean;
  readonly frame: number;
  /** Nothing may go wrong here: the entry is on the way of the emulator's own code. */
  readonly isPlain: boolean;
}

/** One kind of table. */
export interface Format {
  readonly levels: number;
  /** Index bits of an ordinary level; the top one of PAE has 2. */
  readonly indexBits: number;
  /** Entries of 4 bytes, two in a word. */
  readonly isNarrow: boolean;
  /** How often entries at a level are superpages, of 16. */
  readonly leafOf: (level: number) => number;
  readonly make: (prng: Prng, slot: Slot) => Word;
  readonly isPresent: (entry: Word) => boolean;
  readonly isLeaf: (entry: Word, level: number) => boolean;
  readonly frameOf: (entry: Word, level: number) => number;
}

/** What the entries of one tree are mostly like; chances are of 1000. */
export interface Mood {
  readonly present: number;
  readonly writable: number;
  /** Whether it is to be a user page, or for EPT one for user-mode execution too. */
  readonly user: boolean;
  readonly executable: number;
  readonly odd: number;
}

/** What decides about formats besides the mode. */
export interface FormatSetting {
  readonly mood: Mood;
  readonly physBits: number;
  readonly pse: boolean;
  readonly page1Gb: boolean;
  readonly nxe: boolean;
  readonly oracle: boolean;
}

const orderOf = (level: number, indexBits: number): number => (level - 1) * indexBits;

/** Frames covered by one entry at `level`, as a power of two. */
export const orderAt = (format: Format, level: number): number => orderOf(level, format.indexBits);

const flag = (isSet: boolean, n: number): Word => (isSet ? bitOf(n) : ZERO);
const all = (...words: readonly Word[]): Word => words.reduce(orWord);

/** An address bit that a large page at `level` must not have, or may have for PAT; for others one of the lowest. */
const withinPage = (prng: Prng, { level, isLeaf }: Slot, indexBits: number): number =>
  12 + prng.below(isLeaf && level > 1 ? orderOf(level, indexBits) : 2);

/** One bit somewhere that may or may not be reserved. */
function oddBit(prng: Prng, { physBits, oracle }: FormatSetting, slot: Slot, indexBits: 9 | 10): Word {
  const reserved = physBits < 52 ? physBits + prng.below(52 - physBits) : 51;
  const within = oracle ? 13 : withinPage(prng, slot, indexBits);
  const kinds = oracle
    ? [7, 8, 13, reserved, 63]
    : [7, 8, within, within, within, reserved, 52 + prng.below(11), 63, prng.below(64)];
  const n = prng.pick(kinds);
  return indexBits === 9 ? bitOf(n) : bitOf(n < 32 ? n : 21);
}

/** How often an entry has such a bit, of 1000. Large pages are few and have most of the rules, so they have it more often. */
const oddChance = ({ mood, oracle }: FormatSetting, { level, isLeaf }: Slot): number =>
  !oracle && isLeaf && level > 1 ? Math.min(1000, 4 * mood.odd) : mood.odd;

/** Bits 0..6 and those that are ignored or cache types, alike in all formats of the processor's own paging. */
function x86Flags(prng: Prng, { mood }: FormatSetting, { isPlain, isLeaf }: Slot): Word {
  const isUser = isPlain || (mood.user ? prng.chance(985, 1000) : prng.chance(1, 2));
  return all(
    flag(isPlain || prng.chance(mood.present, 1000), 0),
    flag(isPlain || prng.chance(mood.writable, 1000), 1),
    flag(isUser, 2),
    flag(prng.chance(1, 8), 3),
    flag(prng.chance(1, 8), 4),
    flag(prng.chance(1, 2), 5),
    flag(prng.chance(1, 2), 6),
    // Above leaves AMD reserves the place of the global flag.
    flag(isLeaf && prng.chance(1, 4), 8),
    { lo: prng.chance(1, 8) ? prng.below(8) * 512 : 0, hi: 0 },
  );
}

/** Protection key, ignored bits and NX, in the high half of an entry of 8 bytes. */
function x86High(prng: Prng, { mood, nxe }: FormatSetting, mayHaveKey: boolean): Word {
  const key = mayHaveKey && prng.chance(1, 2) ? prng.below(16) * pow2(27) : 0;
  const ignored = mayHaveKey && prng.chance(1, 8) ? prng.below(128) * pow2(20) : 0;
  return { lo: 0, hi: or(or(key, ignored), nxe && !prng.chance(mood.executable, 1000) ? pow2(31) : 0) };
}

const SUPERPAGE = 7;

/** Tables of 4-byte entries; superpages have up to 40 address bits (PSE-36). */
export const legacyFormat = (setting: FormatSetting): Format => ({
  levels: 2,
  indexBits: 10,
  isNarrow: true,
  leafOf: (level) => (level === 2 && setting.pse ? 5 : 0),
  make: (prng, slot) => {
    const { level, isLeaf, frame, isPlain } = slot;
    const isLarge = isLeaf && level > 1;
    const base = isLarge
      ? { lo: or(low32((frame % pow2(20)) * 4096), field(low32(Math.floor(frame / pow2(20))), 0, 8) * pow2(13)), hi: 0 }
      : { lo: frameWord(frame).lo, hi: 0 };
    const odd = !isPlain && prng.chance(oddChance(setting, slot), 1000) ? oddBit(prng, setting, slot, 10) : ZERO;
    return all(base, x86Flags(prng, setting, slot), flag(isLarge, SUPERPAGE), odd);
  },
  isPresent: (entry) => hasBit(entry, 0),
  isLeaf: (entry, level) => level === 1 || (setting.pse && hasBit(entry, SUPERPAGE)),
  frameOf: ({ lo }, level) =>
    level === 2 && setting.pse && hasBit({ lo, hi: 0 }, SUPERPAGE)
      ? field(lo, 22, 10) * pow2(10) + field(lo, 13, 8) * pow2(20)
      : field(lo, 12, 20),
});

/** Where there are no pages of 1 GiB, software may still have made one; emulators are not asked about such processors. */
const leafChance = (level: number, { page1Gb, oracle }: FormatSetting): number => {
  if (level !== 3) return level === 2 ? 4 : 0;
  return page1Gb ? 2 : oracle ? 0 : 1;
};

/** A PDPTE of PAE paging: rights do not exist there, and most low bits are reserved. */
const pdpteOf = (prng: Prng, setting: FormatSetting, { frame, isPlain }: Slot): Word => {
  const isOdd = !isPlain && prng.chance(setting.mood.odd, 1000);
  const odd = isOdd ? bitOf(prng.pick([1, 2, 5, 6, 7, 8, 63, Math.min(setting.physBits, 51)])) : ZERO;
  const isPresent = isPlain || prng.chance(setting.mood.present, 1000);
  return all(frameWord(frame), flag(isPresent, 0), flag(prng.chance(1, 8), 3), flag(prng.chance(1, 8), 10), odd);
};

/** Tables of 8-byte entries: PAE (3 levels), 4-level and 5-level paging. */
export const wideFormat = (levels: 3 | 4 | 5, setting: FormatSetting): Format => ({
  levels,
  indexBits: 9,
  isNarrow: false,
  leafOf: (level) => (levels === 3 && level === 3 ? 0 : leafChance(level, setting)),
  make: (prng, slot) => {
    const { level, isLeaf, frame, isPlain } = slot;
    if (levels === 3 && level === 3) return pdpteOf(prng, setting, slot);
    const odd = !isPlain && prng.chance(oddChance(setting, slot), 1000) ? oddBit(prng, setting, slot, 9) : ZERO;
    const high = isPlain ? ZERO : x86High(prng, setting, levels > 3);
    return all(frameWord(frame), x86Flags(prng, setting, slot), high, flag(isLeaf && level > 1, SUPERPAGE), odd);
  },
  isPresent: (entry) => hasBit(entry, 0),
  isLeaf: (entry, level) => level === 1 || (level < largest(levels) && hasBit(entry, SUPERPAGE)),
  frameOf: (entry, level) =>
    alignedFrame(entry, level, level > 1 && level < largest(levels) && hasBit(entry, SUPERPAGE)),
});

/** Superpages stand below this level; a PDPTE of PAE is none. */
const largest = (levels: number): number => Math.min(levels, 4);

/** The frame of an entry; low address bits of a superpage are flags or reserved. */
const alignedFrame = (entry: Word, level: number, isLarge: boolean): number => {
  const span = isLarge ? pow2(orderOf(level, 9)) : 1;
  return Math.floor(frameIn(entry) / span) * span;
};

/** EPT tables. Bit 10 is execute for user-mode addresses where mode-based execute control is on, else ignored. */
export const eptFormat = (levels: 4 | 5, setting: FormatSetting): Format => ({
  levels,
  indexBits: 9,
  isNarrow: false,
  leafOf: (level) => leafChance(level, setting),
  make: (prng, slot) => {
    const { level, isLeaf, frame, isPlain } = slot;
    const { mood } = setting;
    const isEmpty = !isPlain && !prng.chance(mood.present, 1000);
    const rights = all(
      flag(isPlain || prng.chance(996, 1000), 0),
      flag(isPlain || prng.chance(mood.writable, 1000), 1),
      flag(isPlain || prng.chance(mood.executable, 1000), 2),
      flag(isPlain || prng.chance(mood.user ? mood.executable : 500, 1000), 10),
    );
    const type = isLeaf
      ? prng.chance(mood.odd, 1000) && !isPlain
        ? prng.below(8)
        : prng.pick([6, 6, 6, 0, 1, 4, 5])
      : 0;
    const isOdd = !isPlain && prng.chance(oddChance(setting, slot), 1000);
    const odd = isOdd ? orWord(oddBit(prng, setting, slot, 9), flag(prng.chance(1, 4), 3 + prng.below(4))) : ZERO;
    const marks = all(flag(prng.chance(1, 2), 8), flag(prng.chance(1, 2), 9), flag(isLeaf && prng.chance(1, 4), 6));
    const made = all(
      frameWord(frame),
      rights,
      { lo: type * 8, hi: 0 },
      flag(isLeaf && level > 1, SUPERPAGE),
      marks,
      odd,
    );
    return isEmpty ? withoutWord(made, { lo: prng.chance(1, 2) ? 0x407 : 7, hi: 0 }) : made;
  },
  isPresent: ({ lo }) => and(lo, 0x407) !== 0,
  isLeaf: (entry, level) => level === 1 || (level < 4 && hasBit(entry, SUPERPAGE)),
  frameOf: (entry, level) => alignedFrame(entry, level, level > 1 && level < 4 && hasBit(entry, SUPERPAGE)),
});

/** Whether a superpage at `level` may be asked of an emulator: it leads into memory only if the address says so. */
export const isGibLeaf = (format: Format, level: number): boolean => orderAt(format, level) === GIB_ORDER;
