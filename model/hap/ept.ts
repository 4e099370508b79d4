// What an EPT entry means. Reserved bits and bad combinations in a present entry are misconfigurations; an entry without
// any right is absent. Execute-only entries are allowed; mode-based execute control and the other extensions are off.
// A first reader may skip the predicates over single bits. Source: Intel SDM vol. 3C, "EPT Translation Mechanism" (formats of
// the entries), "EPT Misconfigurations".

import type { Mfn, Word } from '#abi/address.ts';
import { framesPerLeaf, type Geometry } from '#abi/geometry.ts';
import { eptBits } from '#abi/hap.ts';
import { RIGHT } from '#abi/rights.ts';
import { and, bit, field, hasAll } from '#lib/bits.ts';
import { ABSENT, ALL_RIGHTS, frameIn, isTooWide, MISCONFIGURED, type EntryMeaning } from './meaning.ts';

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

/** What `word` means as an entry of an EPT table at `level`. */
export function decodeEpt(geometry: Geometry, level: number, word: Word): EntryMeaning {
  const rights = and(word.lo, ALL_RIGHTS);
  if (rights === 0) return ABSENT;
  const isWriteWithoutRead = hasAll(rights, RIGHT.write) && !hasAll(rights, RIGHT.read);
  if (isWriteWithoutRead || isTooWide(geometry, word)) return MISCONFIGURED;
  if (level === 1 || hasAll(word.lo, bit(eptBits.superpage))) return decodeLeaf(geometry, level, word);
  if (hasLeafBits(word.lo)) return MISCONFIGURED;
  return { kind: 'table', mfn: frameIn(word) as Mfn, rights, accessed: hasAll(word.lo, bit(eptBits.accessed)) };
}
