// The word that an ordinary store writes: a tag that says which step wrote it, so that content found anywhere has an origin.
// Tags are chosen not to be taken for anything else: no byte string of a tag's start is zero, as a grant entry a tag is of
// kind `invalid` and as an x86 table entry it is not present.
//
//   63             48 47            32 31                 3 2 1 0
//  |  marker 0xf3e5  | operand number |       label        | 100 |

import { field } from '#lib/bits.ts';
import type { Word } from './address.ts';
import type { Label } from './operand.ts';

const MARKER = 0xf3e5;
const LOW_BITS = 4;

/** Labels are at most this, so that they fit into a tag. */
export const LABEL_MAX = 2 ** 29 - 1;

/** The tag that the operand number `position` of step `label` writes. */
export const freshTag = (label: Label, position: number): Word => ({
  lo: label * 8 + LOW_BITS,
  hi: MARKER * 0x1_0000 + position,
});

/** The step whose tag `word` is; undefined if it is no tag. */
export const tagLabel = (word: Word): Label | undefined =>
  field(word.hi, 16, 16) === MARKER && field(word.lo, 0, 3) === LOW_BITS ? field(word.lo, 3, 29) : undefined;
