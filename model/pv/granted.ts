// Frames of others in the tables of a paravirtual guest: they come there by grants alone, and go by grant operations or as other
// entries go. An entry of a lowest table is made, taken away, or put in the place of another, found by linear frame or by machine
// address. The holds of a grant are the entry's as long as it stands.
// A frame of another's is let go of when the guest's processors have forgotten it, however it goes.
// A first reader may begin with `creating` and `removing`. Sources: Xen arch/x86/pv/grant_table.c (create_grant_pv_mapping,
// steal_linear_address, replace_grant_pv_mapping), arch/x86/mm.c (put_page_from_l1e), arch/x86/pv/mm.c (map_guest_l1e).

import { FRAME_SHIFT, ZERO_WORD, type DomId, type Gfn, type Mfn, type Word } from '#abi/address.ts';
import type { Geometry } from '#abi/geometry.ts';
import { mapFlags } from '#abi/grants.ts';
import { tableFlags } from '#abi/paging.ts';
import { levelOfType, pvBits } from '#abi/pv.ts';
import { bit, field, hasAll, pow2 } from '#lib/bits.ts';
import { isCanonicalPage } from '../paging/context.ts';
import { frameOf, isParavirtual, type State } from '../state.ts';
import { wordAt } from '../words.ts';
import type { Effect, Performers } from './effect.ts';
import { adjusted, isHypervisors, isPresent, isWritable, mfnIn } from './entries.ts';
import { forgetLent, indexAt } from './flush.ts';
import type { Edit, Expected, GrantedAct, GrantedPlan } from './granted-work.ts';
import { isSeen } from './references.ts';
import { attempt, fail, type Todo } from './work.ts';

/** Where an entry is: about a linear frame, in the tree of a root; or in a frame, so many bytes from its beginning. */
export type Place =
  | { readonly by: 'page'; readonly root: Mfn; readonly page: Gfn }
  | { readonly by: 'address'; readonly mfn: Mfn; readonly offset: number };

/** Which of the low bits of a frame number an entry has in its low half. */
const LOW_FRAME_BITS = 32 - FRAME_SHIFT;
const AVAILABLE_FROM = 16;

/** The entry that maps a granted frame, as map flags ask for it. */
export function grantEntry(geometry: Geometry, mfn: Mfn, flags: number): Word {
  const { present, accessed, dirty, write, user } = tableFlags;
  const forUser = hasAll(flags, mapFlags.applicationMap) ? user : 0;
  const forWriting = hasAll(flags, mapFlags.readOnly) ? 0 : write;
  const available = field(flags, AVAILABLE_FROM, pvBits.availableCount) * pow2(pvBits.availableFrom);
  const lo = field(mfn, 0, LOW_FRAME_BITS) * pow2(FRAME_SHIFT);
  const hi = Math.floor(mfn / pow2(LOW_FRAME_BITS)) + bit(31);
  return adjusted(geometry, { lo: lo + present + accessed + dirty + forUser + forWriting + available, hi }, 1);
}

/** A use of a frame by an entry of a lowest table of `domain` counts for its type: not of a frame whose owner has none. */
export const isTypedFor = (state: State, domain: DomId, mfn: Mfn): boolean => {
  const { owner } = frameOf(state, mfn);
  return owner === domain || isParavirtual(state, owner);
};

/** What an entry of a lowest table of `domain` held is let go of. */
export function letGoOfLeaf(state: State, domain: DomId, word: Word): Todo {
  const mfn = mfnIn(word);
  if (!isPresent(word) || mfn >= state.geometry.frameCount) return [];
  const forget: Todo = frameOf(state, mfn).owner === domain ? [] : [{ do: 'forgetLent', domain, mfn }];
  const type: Todo = isWritable(word) && isTypedFor(state, domain, mfn) ? [{ do: 'putType', mfn }] : [];
  return [...forget, ...type, { do: 'putPage', mfn }];
}

/** The entry about a linear frame is sought: not in the hypervisor's part. */
function sought({ geometry }: State, root: Mfn, page: Gfn, edit: Edit): Todo {
  const { levels } = geometry;
  const isGuests = isCanonicalPage(geometry, page) && !isHypervisors(geometry, levels, indexAt(geometry, page, levels));
  return isGuests ? [{ do: 'approach', mfn: root, level: levels, page, edit }] : [fail('EINVAL')];
}

/** A table is held and locked, and its entry looked at. */
function found(mfn: Mfn, index: number, edit: Edit): Todo {
  const otherwise: Todo = [{ do: 'putPage', mfn }, fail('EINVAL')];
  return [
    attempt({ do: 'getPage', mfn, owner: edit.domain }, 'EINVAL'),
    { do: 'lock', mfn, then: [{ do: 'edit', mfn, index, edit }], otherwise },
  ];
}

const WORD_BYTES = 8;

/** An entry is changed, wherever it is. Addresses of entries are aligned. */
function edited(state: State, place: Place, edit: Edit): Todo {
  if (place.by === 'page') return sought(state, place.root, place.page, edit);
  const index = Math.floor(place.offset / WORD_BYTES) % state.geometry.wordsPerFrame;
  return place.offset % WORD_BYTES === 0 ? found(place.mfn, index, edit) : [fail('EINVAL')];
}

/** A granted frame, held and typed, is mapped at a place; what was there is let go of. */
export const creating = (state: State, domain: DomId, place: Place, word: Word): Todo =>
  edited(state, place, { domain, word, expects: undefined, fate: { kind: 'letGo' } });

/** A granted frame is taken away; its holds are in hand. */
export const removing = (state: State, domain: DomId, place: Place, expects: Expected): Todo =>
  edited(state, place, { domain, word: ZERO_WORD, expects, fate: { kind: 'inHand' } });

/** The same, and what is at another linear frame comes to stand there: it is taken away first, whatever comes of the rest. */
export function replacing(
  state: State,
  domain: DomId,
  at: { readonly place: Place; readonly newPage: Gfn; readonly root: Mfn },
  expects: Expected,
): Todo {
  const { place, newPage, root } = at;
  // Not by machine address.
  if (place.by === 'address') return [fail('EINVAL')];
  const fate = { kind: 'moved', root, page: place.page, expects } as const;
  return sought(state, root, newPage, { domain, word: ZERO_WORD, expects: undefined, fate });
}

const isMatch = (state: State, word: Word, { mfn, incarnation, writes }: Expected): boolean =>
  isPresent(word) &&
  mfnIn(word) === mfn &&
  frameOf(state, mfn).incarnation === incarnation &&
  isWritable(word) === writes;

const released = (mfn: Mfn): Todo => [
  { do: 'unlock', mfn },
  { do: 'putPage', mfn },
];

/** What is done after an entry has been replaced, its table unlocked. */
function after(state: State, { domain, fate }: Edit, old: Word): Todo {
  if (fate.kind === 'inHand') return [];
  const left = letGoOfLeaf(state, domain, old);
  if (fate.kind === 'letGo') return left;
  const edit: Edit = { domain, word: old, expects: fate.expects, fate: { kind: 'inHand' } };
  return [attempt(sought(state, fate.root, fate.page, edit), undefined, ...left)];
}

export const granted: Performers<(GrantedAct | GrantedPlan)['do']> = {
  // The lowest table is held and locked where it is found; those above are only read.
  approach: (state, { mfn, level, page, edit }): Effect => {
    if (!isSeen(state, mfn, edit.domain)) return { state, failed: 'EINVAL' };
    const entry = wordAt(state, mfn, indexAt(state.geometry, page, level));
    if (!isPresent(entry)) return { state, failed: 'EINVAL' };
    const next = mfnIn(entry);
    if (level > 2) return { state, first: [{ do: 'approach', mfn: next, level: level - 1, page, edit }] };
    return { state, first: found(next, indexAt(state.geometry, page, 1), edit) };
  },

  edit: (state, { mfn, index, edit }): Effect => {
    const isLowest = levelOfType(frameOf(state, mfn).type) === 1;
    return { state, first: isLowest ? [{ do: 'match', mfn, index, edit }] : [...released(mfn), fail('EINVAL')] };
  },

  match: (state, { mfn, index, edit }): Effect => {
    const old = wordAt(state, mfn, index);
    const { expects, word, domain } = edit;
    if (expects !== undefined && !isMatch(state, old, expects))
      return { state, first: [...released(mfn), fail('EINVAL')] };
    const write = { do: 'write', mfn, index, word, keepsFlags: false, author: domain } as const;
    return { state, first: [write, ...released(mfn), ...after(state, edit, old)] };
  },

  forgetLent: (state, { domain, mfn }) => ({ state: forgetLent(state, domain, mfn) }),
};
