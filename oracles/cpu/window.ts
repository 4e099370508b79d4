// The kernel's tables as the model reads them: the way from slot 0 of a case's tables to the window (kernel/tables.c). With
// them the model tells whether a guest can fetch the kernel's instructions at all, and which flags in the case's nested
// tables that leaves. A first reader may skip the numbers.

import { type Word, ZERO_WORD } from '#abi/address.ts';
import type { AccessOutcome } from '#abi/case.ts';
import { or } from '#lib/bits.ts';
import { memoryOf } from '#model/paging/memory.ts';
import { translateAccess } from '#model/paging/translate.ts';
import { type AccessCase, stubAt } from './pack.ts';

/** First frame of the tables, and the frame of the instructions that user mode may execute. */
const TABLES = 0x180;
const USER_FRAME = 0x1a1;

const PATH = 0x27;
const LEAF = 0x67;
const USER = 4;
const EPT_PATH = 0x507;
const EPT_LEAF = 0x737;

const only = (lo: number): Word => ({ lo, hi: 0 });

/** A leaf of the processor's own tables: for the supervisor, but for one frame. */
const guestLeaf = (frame: number): number => frame * 4096 + LEAF - (frame === USER_FRAME ? 0 : USER);

const narrowPair = (leaf: (frame: number) => number, index: number): Word =>
  index < 256 ? { lo: leaf(2 * index), hi: leaf(2 * index + 1) } : ZERO_WORD;

/** The word `index` of the kernel's table number `n`; undefined for what is none. */
function tableWord(n: number, index: number): Word | undefined {
  const next = (TABLES + n - 1) * 4096;
  switch (n) {
    case 0:
      return only(guestLeaf(index));
    case 4:
      return narrowPair(guestLeaf, index);
    case 5:
      return only(index * 4096 + LEAF);
    case 9:
      return narrowPair((frame) => frame * 4096 + LEAF, index);
    case 10:
      return only(index * 4096 + EPT_LEAF);
    case 1:
    case 2:
    case 3:
    case 6:
    case 7:
    case 8:
      return index === 0 ? only(or(next, PATH)) : ZERO_WORD;
    case 11:
    case 12:
    case 13:
      return index === 0 ? only(or(next, EPT_PATH)) : ZERO_WORD;
    default:
      return undefined;
  }
}

/** What the model makes of fetching the instruction that does the access of `one`. */
function fetchOfStub(one: AccessCase): AccessOutcome {
  const memory = memoryOf(one.image);
  const privilege = one.access.privilege === 'supervisor' ? 'supervisor' : 'user';
  const access = { ...one.access, kind: 'fetch', privilege, size: 1, linear: only(stubAt(one).start) } as const;
  return translateAccess(
    { ...one, access } as AccessCase,
    (mfn, index) => tableWord(mfn - TABLES, index) ?? memory(mfn, index),
  );
}

/**
 * The model's outcome, with the flags that fetching the kernel's instructions leaves in nested tables as well; undefined if they
 * are out of reach. `direct`: none of them is needed.
 */
export function expected(one: AccessCase, direct: boolean, outcome = translateAccess(one)): AccessOutcome | undefined {
  if (one.engine === 'native' || direct || outcome.result.kind === 'invalidState') return outcome;
  const fetched = fetchOfStub(one);
  if (fetched.result.kind !== 'done') return undefined;
  return { ...outcome, allowed: [...outcome.allowed, ...fetched.required] };
}
