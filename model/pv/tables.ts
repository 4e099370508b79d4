// Tables of a paravirtual guest: each entry that is taken holds a reference on its frame, and the use of that frame as what the
// entry makes of it; each that goes lets go of both. A table refers to one of its own level (a linear table) for reading alone.
// A first reader may begin at `takeEntry`. Sources: Xen arch/x86/mm.c (promote_l1_table to promote_l4_table, demote_*,
// get_page_from_l1e to get_page_from_l4e, put_page_from_*, mod_l1_entry to mod_l4_entry, define_get_linear_pagetable), arch/x86/pv/mm.h (update_intpte).

import type { DomId, Mfn, Word } from '#abi/address.ts';
import { tableType } from '#abi/pv.ts';
import { frameOf, type State } from '../state.ts';
import { wordAt, withWord } from '../words.ts';
import {
  adjusted,
  hasForbidden,
  hasMemoryType,
  isHarmless,
  isHypervisors,
  isNoFrame,
  isPresent,
  isSameWord,
  isWritable,
  mfnIn,
  nextPresent,
  uncached,
  withFlagsOf,
} from './entries.ts';
import { isRunSomewhere } from './flush.ts';
import { letGoOfLeaf } from './granted.ts';
import type { Effect, Performers } from './effect.ts';
import { attempt, either, fail, halting, putUnparked, type Item, type Slot, type Todo } from './work.ts';

/** What taking an entry comes to: what has to be taken, and the entry as it may stand; or the error. */
interface Taken {
  readonly todo: Todo;
  readonly word: Word;
}

/** An entry for what is no memory: a device that its owner may have, uncached. Nothing is held. */
function takeDevice(state: State, owner: DomId, word: Word): Taken {
  const mfn = mfnIn(word);
  if (state.domains.get(owner)?.iomem.has(mfn) === true) return { todo: [], word: uncached(word) };
  return { todo: [fail(isNoFrame(mfn) ? 'EINVAL' : 'EPERM')], word };
}

function takeLowest(state: State, owner: DomId, word: Word): Taken {
  const mfn = mfnIn(word);
  if (mfn >= state.geometry.frameCount) return takeDevice(state, owner, word);
  const writing: Todo = isWritable(word)
    ? [attempt({ do: 'getType', mfn, type: 'writable' }, 'EBUSY', { do: 'putPage', mfn })]
    : [];
  const looking: Todo = hasMemoryType(word) ? [{ do: 'checkMemory', mfn, isWritable: isWritable(word) }] : [];
  return { todo: [attempt({ do: 'getPage', mfn, owner }, 'EBUSY'), ...writing, ...looking], word };
}

/** An entry that is to be taken. `holds`: it holds its frame already; `retains`: it goes on holding it if the operation stops. */
interface Wanted {
  readonly table: Mfn;
  readonly level: number;
  readonly word: Word;
  readonly holds?: boolean;
  readonly retains?: boolean;
}

/** A present entry of a table at `level` is taken for `owner`. */
export function takeEntry(state: State, owner: DomId, wanted: Wanted): Taken {
  const { level, word, holds, retains } = wanted;
  if (level === 1) return takeLowest(state, owner, word);
  const mfn = mfnIn(word);
  const typed: Item = { do: 'getType', mfn, type: tableType(level - 1) };
  const linear = takeLinear(state, owner, wanted);
  if (holds === true) return { todo: [either([typed], linear)], word };
  const undo = putUnparked(mfn);
  const taken: Todo = [
    attempt({ do: 'getPage', mfn, owner }, 'EINVAL'),
    retains === true ? halting(typed, [], undo) : attempt(typed, undefined, undo),
  ];
  return { todo: [either(taken, linear)], word };
}

/** An entry may lead to a table of its own level instead, for reading: to the very one that it stands in, or to one that has no such entries. */
function takeLinear(state: State, owner: DomId, { table, level, word, holds }: Wanted): Todo {
  const mfn = mfnIn(word);
  if (!state.policies.pvLinear || isWritable(word)) return [fail('EINVAL')];
  if (mfn === table) return [];
  const put: Todo = holds === true ? [] : [{ do: 'putPage', mfn }];
  return [
    ...(holds === true ? [] : [attempt({ do: 'getPage', mfn, owner }, 'EINVAL')]),
    attempt({ do: 'addLinear', mfn: table }, undefined, ...put),
    attempt({ do: 'useLinear', mfn, type: tableType(level) }, undefined, { do: 'dropLinear', mfn: table }, ...put),
  ];
}

/** Whether an entry that is taken leads to another table of its own level. */
const isLinear = (state: State, { mfn, level }: Pick<Slot, 'mfn' | 'level'>, word: Word): boolean =>
  level > 1 && isPresent(word) && mfnIn(word) !== mfn && frameOf(state, mfnIn(word)).type === tableType(level);

/** An entry that is let go of is none of the linear ones of its table. */
const unlink = (state: State, slot: Pick<Slot, 'mfn' | 'level'>, word: Word): Todo =>
  isLinear(state, slot, word) ? [{ do: 'dropLinear', mfn: slot.mfn }] : [];

/** An entry lets go of what it held. `parks`: what is done when the operation stops in the course of that. */
export function letGo(state: State, slot: Pick<Slot, 'mfn' | 'level'>, word: Word, parks: Todo = []): Todo {
  const mfn = mfnIn(word);
  if (slot.level === 1) return letGoOfLeaf(state, frameOf(state, slot.mfn).owner as DomId, word);
  if (!isPresent(word) || mfn >= state.geometry.frameCount || mfn === slot.mfn) return [];
  return [halting({ do: 'putType', mfn, isLinear: isLinear(state, slot, word) }, parks), { do: 'putPage', mfn }];
}

export const hasDevices = (state: State, owner: DomId): boolean => (state.domains.get(owner)?.iomem.size ?? 0) > 0;

/** Whether an operation looks within tables of a level whether it is to stop: not in the lowest, nor in those that have few tables below. */
const hasChecks = (level: number): boolean => level === 2 || level === 3;

/** The last acts of finding a table fit. */
function completed(state: State, mfn: Mfn, level: number): Todo {
  const { levels, rootSlots } = state.geometry;
  const slots = Array.from({ length: level === levels ? rootSlots.count : 0 }, (_, i) => rootSlots.from + i);
  const isClean = slots.every((index) => isSameWord(wordAt(state, mfn, index), { lo: 0, hi: 0 }));
  return isClean
    ? [{ do: 'setValidated', mfn }]
    : [
        { do: 'zeroSlots', mfn },
        { do: 'setValidated', mfn },
      ];
}

type TableActs =
  | 'take' | 'takeRest' | 'giveUp' | 'drop' | 'dropRest' | 'checkMemory' | 'adjust' | 'zeroSlots' | 'write' | 'change' | 'replace' | 'forgetChanged'; // prettier-ignore

export const tables: Performers<TableActs> = {
  takeRest: (state, { mfn, level, index, isFirst, holds }): Effect => {
    const next = nextPresent(state, { mfn, level, index });
    if (next === undefined) return { state, first: completed(state, mfn, level) };
    const take: Item = { do: 'take', mfn, level, index: next, holds: holds === true && next === index };
    const isChecked = hasChecks(level) && isFirst !== true;
    return {
      state,
      first: isChecked ? [{ do: 'check', mfn, level, index: next, way: 'takes', keeps: false }, take] : [take],
    };
  },

  take: (state, slot): Effect => {
    const { mfn, level, index, holds } = slot;
    const owner = frameOf(state, mfn).owner as DomId;
    const old = wordAt(state, mfn, index);
    const isForbidden = hasForbidden(old, level, hasDevices(state, owner));
    const { todo, word } = isForbidden
      ? { todo: [fail('EINVAL')], word: old }
      : takeEntry(state, owner, { table: mfn, level, word: old, holds: holds === true, retains: true });
    const parks: Todo = [{ do: 'park', mfn, entries: index, holds: true, keeps: false, errno: 'restart' }];
    const stands = adjusted(state.geometry, word, level);
    const adjust: Todo = isSameWord(stands, old) ? [] : [{ do: 'adjust', mfn, index, word: stands }];
    return {
      state,
      first: [
        halting(todo, parks, { ...slot, do: 'giveUp', errno: 'EINVAL' }),
        ...adjust,
        { do: 'takeRest', mfn, level, index: index + 1 },
      ],
    };
  },

  // What was found fit of a higher table is left to whoever asked, if it is any, and so is a table below that was left so.
  giveUp: (state, { mfn, level, index, holds, errno, parked }): Effect => {
    const clear: Item = { do: 'clearCount', mfn, forgets: true };
    if (level === 1) return { state, first: [{ do: 'dropRest', mfn, level, index: index - 1, by: -1 }, clear] };
    const isHeld = holds === true || parked !== undefined;
    if (index === 0 && !isHeld) return { state, first: [clear] };
    return { state, first: [{ do: 'park', mfn, entries: index, holds: isHeld, keeps: false, errno }] };
  },

  adjust: (state, { mfn, index, word: { lo, hi } }) => ({
    state: withWord(state, { mfn, index }, { lo, hi, author: undefined }),
  }),

  zeroSlots: (state, { mfn }) => {
    const { from, count } = state.geometry.rootSlots;
    let now = state;
    for (let index = from; index < from + count; index += 1)
      now = withWord(now, { mfn, index }, { lo: 0, hi: 0, author: undefined });
    return { state: now };
  },

  dropRest: (state, { mfn, level, index, by, isFirst, holds, keeps = false }): Effect => {
    const next = nextPresent(state, { mfn, level, index }, by);
    if (next === undefined) return { state };
    const drop: Item = { do: 'drop', mfn, level, index: next, holds: holds === true && next === index, keeps };
    const rest: Todo = [drop, { do: 'dropRest', mfn, level, index: next + by, by, keeps }];
    const isChecked = hasChecks(level) && isFirst !== true;
    return {
      state,
      first: isChecked ? [{ do: 'check', mfn, level, index: next, way: 'drops', keeps }, ...rest] : rest,
    };
  },

  drop: (state, { mfn, level, index, holds, keeps = false }): Effect => {
    const word = wordAt(state, mfn, index);
    const parks: Todo = [{ do: 'park', mfn, entries: index, holds: true, keeps, errno: 'restart' }];
    const slot = { mfn, level };
    if (holds !== true) return { state, first: [...unlink(state, slot, word), ...letGo(state, slot, word, parks)] };
    const below = mfnIn(word);
    return {
      state,
      first: [halting({ do: 'putPartial', mfn: below }, parks), { do: 'putPage', mfn: below }],
    };
  },

  checkMemory: (state, { mfn, isWritable: isTyped }): Effect => {
    if (frameOf(state, mfn).role === 'ram') return { state };
    const put: Todo = isTyped
      ? [
          { do: 'putType', mfn },
          { do: 'putPage', mfn },
        ]
      : [{ do: 'putPage', mfn }];
    return { state, first: [...put, fail('EACCES')] };
  },

  change: (state, { mfn, level, index, word, keepsFlags, author, owner, after }): Effect => {
    const isRefused =
      isHypervisors(state.geometry, level, index) ||
      (isPresent(word) && hasForbidden(word, level, hasDevices(state, owner)));
    if (isRefused) return { state, first: [...after, fail('EINVAL')] };
    const fit = adjusted(state.geometry, word, level);
    return { state, first: [{ do: 'replace', mfn, level, index, word: fit, keepsFlags, author, owner, after }] };
  },

  // What an entry of level 1 held is let go of while the table is locked; for others processors are flushed first.
  replace: (state, { mfn, level, index, word, keepsFlags, author, owner, after }): Effect => {
    const old = wordAt(state, mfn, index);
    const isKept = isHarmless(old, word);
    const taken =
      isPresent(word) && !isKept ? takeEntry(state, owner, { table: mfn, level, word }) : { todo: [], word };
    const write = { do: 'write', mfn, index, word: taken.word, keepsFlags, author } as const;
    const slot = { mfn, level };
    const left = isKept ? [] : letGo(state, slot, old, [fail('onwards', mfnIn(old))]);
    const last: Todo = level === 1 ? [...left, ...after] : [...after, { do: 'forgetChanged', domain: owner }, ...left];
    const unlinked = isKept ? [] : unlink(state, slot, old);
    return { state, first: [attempt(taken.todo, undefined, ...after), write, ...unlinked, ...last] };
  },

  forgetChanged: (state, { domain }) => ({
    state,
    first: isRunSomewhere(state, domain) ? [{ do: 'forget', domain, vcpus: undefined, page: undefined }] : [],
  }),

  write: (state, { mfn, index, word, keepsFlags, author }) => {
    const { lo, hi } = keepsFlags ? withFlagsOf(word, wordAt(state, mfn, index)) : word;
    return { state: withWord(state, { mfn, index }, { lo, hi, author }) };
  },
};
