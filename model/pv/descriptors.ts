// Segment descriptors of a paravirtual guest: which may stand in a table that processors use, and how they are changed for that. Guests run
// in ring 3 alone, so no descriptor is for a lower ring; call gates are emulated, and lead to segments of the guest.
// A first reader may skip the masks. Sources: Xen arch/x86/pv/descriptor-tables.c (check_descriptor, validate_segdesc_page,
// do_update_descriptor), asm/desc.h; Intel SDM vol. 3A, "Segment Descriptors", "Call-Gate Descriptors".

import type { Mfn, Word } from '#abi/address.ts';
import type { Geometry } from '#abi/geometry.ts';
import { bit, field, hasAll, hasAny, withField } from '#lib/bits.ts';
import { frameOf, type State } from '../state.ts';
import { wordAt, withWord } from '../words.ts';
import { isSameWord } from './entries.ts';
import type { Effect, Performers } from './effect.ts';
import { attempt, type Item } from './work.ts';

/** Places in the high half. */
const TYPE_FROM = 8;
const TYPE_BITS = 4;
const SEGMENT = bit(12);
const RING_FROM = 13;
const PRESENT = bit(15);

const CALL_GATE = 12;
/** The ring of guests. */
const GUEST_RING = 3;
/** The segment of code that the hypervisor has for kernels of 64-bit guests. */
const FLAT_KERNEL_CODE = 0xe033;
const IN_LDT = bit(2);

/** Descriptors that a guest's GDT can have. */
export const gdtLimit = ({ capacity, wordsPerFrame }: Geometry): number => capacity.gdtFrames * wordsPerFrame;

/** Whether a call gate may lead to a segment: one of the guest's own, or the one that is there for it. */
const isOfGuest = (geometry: Geometry, selector: number): boolean =>
  Math.floor(selector / 8) < gdtLimit(geometry) || selector === FLAT_KERNEL_CODE || hasAll(selector, IN_LDT);

/** A descriptor as it may stand; undefined: it may not. */
export function adjustedDescriptor(geometry: Geometry, word: Word): Word | undefined {
  const { lo, hi } = word;
  if (!hasAll(hi, PRESENT)) return word;
  if (hasAll(hi, SEGMENT)) return { lo, hi: withField(hi, RING_FROM, 2, GUEST_RING) };
  const type = field(hi, TYPE_FROM, TYPE_BITS);
  // The second half of a call gate.
  if (type === 0) return word;
  const selector = field(lo, 16, 16);
  if (type !== CALL_GATE || !isOfGuest(geometry, selector) || hasAny(hi, 0xff)) return undefined;
  return { lo: withField(lo, 16, 2, GUEST_RING), hi: withField(hi, RING_FROM, 2, 0) };
}

const indexes = ({ geometry }: State): readonly number[] =>
  Array.from({ length: geometry.wordsPerFrame }, (_, index) => index);

/** Which descriptors of a frame have to be changed; undefined: one may not be there at all. */
function changes(state: State, mfn: Mfn): readonly (Word & { readonly index: number })[] | undefined {
  const found: (Word & { readonly index: number })[] = [];
  for (const index of indexes(state)) {
    const { lo, hi } = wordAt(state, mfn, index);
    const next = adjustedDescriptor(state.geometry, { lo, hi });
    if (next === undefined) return undefined;
    if (!isSameWord({ lo, hi }, next)) found.push({ ...next, index });
  }
  return found;
}

export const descriptors: Performers<'checkDescriptors' | 'adjustDescriptors' | 'describe'> = {
  checkDescriptors: (state, { mfn }): Effect => {
    const changed = changes(state, mfn);
    if (changed === undefined) return { state, first: [{ do: 'clearCount', mfn, forgets: true }], failed: 'EINVAL' };
    const valid: Item = { do: 'setValidated', mfn };
    return { state, first: changed.length === 0 ? [valid] : [{ do: 'adjustDescriptors', mfn }, valid] };
  },

  adjustDescriptors: (state, { mfn }) => ({
    state: (changes(state, mfn) ?? []).reduce(
      (now, { index, lo, hi }) => withWord(now, { mfn, index }, { lo, hi, author: undefined }),
      state,
    ),
  }),

  describe: (state, { mfn, index, word, author }): Effect => {
    const type = frameOf(state, mfn).type === 'descriptors' ? 'descriptors' : 'writable';
    return {
      state,
      first: [
        attempt({ do: 'getType', mfn, type }, 'EINVAL', { do: 'putPage', mfn }),
        { do: 'write', mfn, index, word, keepsFlags: false, author },
        { do: 'putType', mfn },
        { do: 'putPage', mfn },
      ],
    };
  },
};
