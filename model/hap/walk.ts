// The architecture's walk of nested page tables, as pure functions over words: what an entry means at its level, where a
// guest frame leads, and what can be reached below a table. Isolation is judged with these, from the bytes alone.
// Reserved bits and bad combinations in a present entry are misconfigurations; an entry without any right is absent.
// Execute-only entries are allowed; mode-based execute control and the other extensions are off.
// A first reader may skip the predicates over single bits. Source: Intel SDM vol. 3C, "EPT Translation Mechanism" (formats of the entries),
// "EPT Misconfigurations", "EPT Violations".

import type { Gfn, Mfn, Word } from '#abi/address.ts';
import { framesPerLeaf, gfnCount, tableEntries, type Geometry } from '#abi/geometry.ts';
import { eptBits } from '#abi/hap.ts';
import { RIGHT } from '#abi/rights.ts';
import { and, bit, field, hasAll, pow2 } from '#lib/bits.ts';

/** What an entry means at its level. `type` is the software's code of the p2m type. */
export type EntryMeaning =
  | { readonly kind: 'absent' }
  | { readonly kind: 'misconfiguration' }
  | { readonly kind: 'table'; readonly mfn: Mfn; readonly rights: number; readonly accessed: boolean }
  | {
      readonly kind: 'leaf';
      readonly mfn: Mfn;
      readonly rights: number;
      readonly type: number;
      readonly accessed: boolean;
      readonly dirty: boolean;
    };

/** The word `index` of frame `mfn`, as the hardware reads it. */
export type WordReader = (mfn: Mfn, index: number) => Word;

const ABSENT: EntryMeaning = { kind: 'absent' };
const MISCONFIGURED: EntryMeaning = { kind: 'misconfiguration' };
const ALL_RIGHTS = RIGHT.read + RIGHT.write + RIGHT.execute;

/** In the high half of an entry: bits of the frame number, the reserved ones among them included. */
const FRAME_BITS_HIGH = 20;
const FRAME_BITS_LOW = 32 - eptBits.frameFrom;

const frameIn = ({ lo, hi }: Word): number =>
  field(lo, eptBits.frameFrom, FRAME_BITS_LOW) + field(hi, 0, FRAME_BITS_HIGH) * pow2(FRAME_BITS_LOW);

/** Whether the frame number reaches beyond the physical address width. */
const isTooWide = (geometry: Geometry, hi: number): boolean =>
  field(hi, geometry.maxPhysAddr - 32, FRAME_BITS_HIGH - (geometry.maxPhysAddr - 32)) !== 0;

const isReservedMemoryType = (lo: number): boolean => {
  const type = field(lo, eptBits.memoryTypeFrom, eptBits.memoryTypeCount);
  return type === 2 || type === 3 || type === 7;
};

/** Bits 3 to 6, which are reserved in an entry that leads to a table. */
const hasLeafBits = (lo: number): boolean => field(lo, eptBits.memoryTypeFrom, 4) !== 0;

function decodeLeaf(geometry: Geometry, level: number, word: Word): EntryMeaning {
  const mfn = frameIn(word);
  const isAligned = mfn % framesPerLeaf(geometry, level) === 0;
  if (level > geometry.superpageLevels || !isAligned || isReservedMemoryType(word.lo)) return MISCONFIGURED;
  return {
    kind: 'leaf',
    mfn: mfn as Mfn,
    rights: and(word.lo, ALL_RIGHTS),
    type: field(word.hi, eptBits.typeFrom, eptBits.typeCount),
    accessed: hasAll(word.lo, bit(eptBits.accessed)),
    dirty: hasAll(word.lo, bit(eptBits.dirty)),
  };
}

/** What `word` means as an entry of a table at `level` (1: the lowest). */
export function decodeEntry(geometry: Geometry, level: number, word: Word): EntryMeaning {
  const rights = and(word.lo, ALL_RIGHTS);
  if (rights === 0) return ABSENT;
  const isWriteWithoutRead = hasAll(rights, RIGHT.write) && !hasAll(rights, RIGHT.read);
  if (isWriteWithoutRead || isTooWide(geometry, word.hi)) return MISCONFIGURED;
  if (level === 1 || hasAll(word.lo, bit(eptBits.superpage))) return decodeLeaf(geometry, level, word);
  if (hasLeafBits(word.lo)) return MISCONFIGURED;
  return { kind: 'table', mfn: frameIn(word) as Mfn, rights, accessed: hasAll(word.lo, bit(eptBits.accessed)) };
}

/**
 * Where a walk ends. frame: the machine frame and the rights that all levels give together (perhaps none), `accessed` if
 * every entry used is marked so. violation: nothing is present at `level`.
 */
export type Walk =
  | {
      readonly kind: 'frame';
      readonly mfn: Mfn;
      readonly rights: number;
      readonly level: number;
      readonly type: number;
      readonly accessed: boolean;
      readonly dirty: boolean;
    }
  | { readonly kind: 'violation'; readonly level: number }
  | { readonly kind: 'misconfiguration'; readonly level: number };

/** Walks from the table `root` for `gfn`. A gfn beyond the tables' reach is a violation at the top. */
export function walkEpt(geometry: Geometry, read: WordReader, from: { root: Mfn; gfn: Gfn }): Walk {
  const { gfn } = from;
  if (gfn >= gfnCount(geometry)) return { kind: 'violation', level: geometry.levels };
  let table = from.root;
  let rights = ALL_RIGHTS;
  let accessed = true;
  for (let { levels: level } = geometry; ; level -= 1) {
    const span = framesPerLeaf(geometry, level);
    const entry = decodeEntry(geometry, level, read(table, Math.floor(gfn / span) % tableEntries(geometry)));
    if (entry.kind === 'absent') return { kind: 'violation', level };
    if (entry.kind === 'misconfiguration') return { kind: 'misconfiguration', level };
    rights = and(rights, entry.rights);
    accessed &&= entry.accessed;
    if (entry.kind === 'leaf') {
      const { type, dirty } = entry;
      return { kind: 'frame', mfn: (entry.mfn + (gfn % span)) as Mfn, rights, level, type, accessed, dirty };
    }
    table = entry.mfn;
  }
}
