// What calls write into frames of a paravirtual guest: words, whole frames, and what a frame is called by its guest (M2P).
// A first reader may begin at `update`. Sources: Xen arch/x86/mm.c (do_mmu_update, MMUEXT_CLEAR_PAGE, MMUEXT_COPY_PAGE,
// MMU_MACHPHYS_UPDATE), arch/x86/pv/mm.c (map_guest_l1e).

import type { Mfn } from '#abi/address.ts';
import { isTrusted, levelOfType } from '#abi/pv.ts';
import { frameOf, withFrame } from '../state.ts';
import { eraseFrame, wordAt, withWord } from '../words.ts';
import { isSeen } from './references.ts';
import type { Effect, Performers } from './effect.ts';
import { isPresent, mfnIn } from './entries.ts';
import { forget, indexAt } from './flush.ts';
import { attempt, fail, type Item, type Todo } from './work.ts';

type ContentActs = 'update' | 'descend' | 'clear' | 'copy' | 'name' | 'forget';

export const contents: Performers<ContentActs> = {
  update: (state, { change, lowest }): Effect => {
    const level = levelOfType(frameOf(state, change.mfn).type);
    if (lowest && level !== 1) return { state, first: [...change.after, fail('EINVAL')] };
    if (level > 0) return { state, first: [{ do: 'change', ...change, level }] };
    if (isTrusted(frameOf(state, change.mfn).type)) return { state, first: [...change.after, fail('EINVAL')] };
    return { state, first: [{ ...change, do: 'write', keepsFlags: false }, ...change.after] };
  },

  // The lowest table is held and locked where it is found; those above are only read.
  descend: (state, { mfn, level, page, word, owner }): Effect => {
    // What has become somebody else's meanwhile is not read.
    if (!isSeen(state, mfn, owner)) return { state, failed: 'EINVAL' };
    const entry = wordAt(state, mfn, indexAt(state.geometry, page, level));
    const next = mfnIn(entry);
    if (!isPresent(entry)) return { state, failed: 'EINVAL' };
    if (level > 2) return { state, first: [{ do: 'descend', mfn: next, level: level - 1, page, word, owner }] };
    return { state, first: changeLowest(next, { index: indexAt(state.geometry, page, 1), word, owner }) };
  },

  clear: (state, { mfn }) => ({ state: eraseFrame(state, mfn) }),

  copy: (state, { mfn, source, author }) => {
    let now = eraseFrame(state, mfn);
    for (let index = 0; index < state.geometry.wordsPerFrame; index += 1)
      now = withWord(now, { mfn, index }, { ...wordAt(state, source, index), author });
    return { state: now };
  },

  name: (state, { mfn, gfn }) => ({ state: withFrame(state, mfn, { pseudo: gfn }) }),

  forget: (state, flush) => ({ state: forget(state, flush) }),
};

/** Lets go of a table that was held and locked. */
export const release = (mfn: Mfn): Todo => [
  { do: 'unlock', mfn },
  { do: 'putPage', mfn },
];

type Replacement = Pick<Extract<Item, { do: 'change' }>, 'index' | 'word' | 'owner'>;

function changeLowest(mfn: Mfn, { index, word, owner }: Replacement): Todo {
  const change = { mfn, index, word, owner, author: owner, keepsFlags: false, after: release(mfn) };
  const otherwise: Todo = [{ do: 'putPage', mfn }, fail('EINVAL')];
  return [
    attempt({ do: 'getPage', mfn, owner }, 'EINVAL'),
    { do: 'lock', mfn, then: [{ do: 'update', lowest: true, change }], otherwise },
  ];
}
