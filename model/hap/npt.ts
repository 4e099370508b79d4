// What an NPT entry means: the entries of long mode, walked for a user. Every access of a guest counts as one by a user, so
// an entry without the user bit gives no right, and neither do those below it; and a write needs the write bit whatever
// the host's control registers say. The host has execute-disable on. Reserved bits in a present entry end the walk.
// Global bits and memory types mean nothing here. Levels are the processor's: 3 is a page-directory-pointer entry.
// A first reader may skip the predicates over single bits. Sources: AMD64 APM vol. 2, "Nested Paging" (nested table walk,
// nested page faults), "Long-Mode Page Translation" (formats of the entries).

import type { Mfn, Word } from '#abi/address.ts';
import { framesPerLeaf, type Geometry } from '#abi/geometry.ts';
import { nptBits } from '#abi/hap.ts';
import { RIGHT } from '#abi/rights.ts';
import { bit, field, hasAll } from '#lib/bits.ts';
import { ABSENT, frameIn, isTooWide, MISCONFIGURED, type EntryMeaning } from './meaning.ts';

/** The rights of a present entry: none without the user bit; reading with it; and what the other two bits say. */
function rightsIn({ lo, hi }: Word): number {
  if (!hasAll(lo, bit(nptBits.user))) return 0;
  const write = hasAll(lo, bit(nptBits.write)) ? RIGHT.write : 0;
  const execute = hasAll(hi, bit(nptBits.noExecute)) ? 0 : RIGHT.execute;
  return RIGHT.read + write + execute;
}

/** The frame of a leaf. In a superpage the lowest bit of the number selects the memory type instead. */
function frameOfLeaf(level: number, word: Word): number {
  const mfn = frameIn(word);
  return level > 1 ? mfn - (mfn % 2) : mfn;
}

function decodeLeaf(geometry: Geometry, level: number, word: Word): EntryMeaning {
  const mfn = frameOfLeaf(level, word);
  const isAligned = mfn % framesPerLeaf(geometry, level) === 0;
  if (!isAligned) return MISCONFIGURED;
  return {
    kind: 'leaf',
    mfn: mfn as Mfn,
    rights: rightsIn(word),
    type: field(word.hi, nptBits.typeFrom, nptBits.typeCount),
    accessed: hasAll(word.lo, bit(nptBits.accessed)),
    dirty: hasAll(word.lo, bit(nptBits.dirty)),
  };
}

/** Whether an entry that leads to a table has the global bit where that is reserved. */
const isGlobalTable = (level: number, lo: number): boolean =>
  level >= nptBits.globalReservedFrom && hasAll(lo, bit(nptBits.global));

/** What `word` means as an entry of an NPT table at `level`. */
export function decodeNpt(geometry: Geometry, level: number, word: Word): EntryMeaning {
  if (!hasAll(word.lo, bit(nptBits.present))) return ABSENT;
  if (isTooWide(geometry, word)) return MISCONFIGURED;
  if (level === 1) return decodeLeaf(geometry, level, word);
  if (hasAll(word.lo, bit(nptBits.superpage)))
    return level > geometry.superpageLevels ? MISCONFIGURED : decodeLeaf(geometry, level, word);
  if (isGlobalTable(level, word.lo)) return MISCONFIGURED;
  const accessed = hasAll(word.lo, bit(nptBits.accessed));
  return { kind: 'table', mfn: frameIn(word) as Mfn, rights: rightsIn(word), accessed };
}
