// Writable page tables: a guest's kernel writes where its own tables let it read, and where a lowest table lies. Its processor
// faults; the hypervisor finds the table by the guest's tables as they stand, and changes the entry as an update would. Whatever is
// against that leaves the guest with its fault.
// A first reader may skip the bytes. Source: Xen arch/x86/pv/ro-page-fault.c (pv_ro_page_fault, ptwr_do_page_fault,
// ptwr_emulated_update, and x86_emulate for what reads before it writes).

import { ZERO_WORD, type Mfn, type Word } from '#abi/address.ts';
import { levelOfType } from '#abi/pv.ts';
import { frameOf, type State } from '../state.ts';
import { bytesOf, wordAt, wordOf, withWord } from '../words.ts';
import { release } from './contents.ts';
import type { Effect, Performers } from './effect.ts';
import { adjusted, hasForbidden, isPresent, isSameWord, isWritable, mfnIn } from './entries.ts';
import { indexAt } from './flush.ts';
import { isSeen } from './references.ts';
import { hasDevices, letGo, takeEntry } from './tables.ts';
import { attempt, fail, type TableWrite, type Todo } from './work.ts';

const WORD_BYTES = 8;

const placeOf = ({ offset }: TableWrite): { readonly index: number; readonly from: number } => ({
  index: Math.floor(offset / WORD_BYTES),
  from: offset % WORD_BYTES,
});

/** The bytes of a word that are written. */
const written = (word: Word, write: TableWrite): Word => {
  const { from } = placeOf(write);
  return wordOf(bytesOf(word, WORD_BYTES).slice(from, from + write.size));
};

/** A word in which the bytes that are written are those of `value`. */
function merged(word: Word, value: Word, write: TableWrite): Word {
  const { from } = placeOf(write);
  const bytes = bytesOf(word, WORD_BYTES);
  return wordOf([...bytes.slice(0, from), ...bytesOf(value, write.size), ...bytes.slice(from + write.size)]);
}

/** Whether it is what an instruction writes at once, in its place. */
const isNatural = ({ size, count, offset }: TableWrite): boolean =>
  size === count && (size === 1 || size === 2 || size === 4 || size === WORD_BYTES) && offset % size === 0;

/** What is written is part of an entry: the rest is read first. */
const whole = (mfn: Mfn, write: TableWrite): Todo =>
  write.size < WORD_BYTES ? [{ do: 'fill', mfn, write }] : [{ do: 'fit', mfn, write, rest: ZERO_WORD }];

type Writes = 'seek' | 'overwrite' | 'look' | 'fill' | 'fit' | 'swap' | 'exchange';

/** What a compare-exchange comes upon where it writes nothing: its caller hears of it. */
const seeing = (state: State, word: Word, write: TableWrite, first: Todo): Effect => ({
  state,
  first,
  seen: written(word, write),
});

export const writes: Performers<Writes> = {
  seek: (state, { mfn, level, write }): Effect => {
    const { page, domain: owner } = write;
    if (!isSeen(state, mfn, owner)) return { state, failed: 'EINVAL' };
    const entry = wordAt(state, mfn, indexAt(state.geometry, page, level));
    const next = mfnIn(entry);
    if (!isPresent(entry)) return { state, failed: 'EINVAL' };
    if (level > 1) return { state, first: [{ do: 'seek', mfn: next, level: level - 1, write }] };
    if (isWritable(entry)) return { state, failed: 'EINVAL' };
    const otherwise: Todo = [{ do: 'putPage', mfn: next }, fail('EINVAL')];
    const held = attempt({ do: 'getPage', mfn: next, owner }, 'EINVAL');
    return {
      state,
      first: [held, { do: 'lock', mfn: next, then: [{ do: 'overwrite', mfn: next, write }], otherwise }],
    };
  },

  overwrite: (state, { mfn, write }): Effect => {
    const isLowest = levelOfType(frameOf(state, mfn).type) === 1;
    if (!isLowest || !isNatural(write)) return { state, first: [...release(mfn), fail('EINVAL')] };
    return { state, first: write.expected === undefined ? whole(mfn, write) : [{ do: 'look', mfn, write }] };
  },

  look: (state, { mfn, write }): Effect => {
    const there = wordAt(state, mfn, placeOf(write).index);
    const expected = wordOf(bytesOf(write.expected ?? ZERO_WORD, write.size));
    if (isSameWord(written(there, write), expected)) return { state, first: whole(mfn, write) };
    return seeing(state, there, write, release(mfn));
  },

  fill: (state, { mfn, write }) => ({
    state,
    first: [{ do: 'fit', mfn, write, rest: wordAt(state, mfn, placeOf(write).index) }],
  }),

  fit: (state, { mfn, write, rest }): Effect => {
    const { domain: owner, expected } = write;
    const asked = merged(rest, write.value, write);
    const isThere = isPresent(asked);
    if (isThere && hasForbidden(asked, 1, hasDevices(state, owner)))
      return { state, first: [...release(mfn), fail('EINVAL')] };
    const { todo, word: taken } = isThere
      ? takeEntry(state, owner, { level: 1, word: asked })
      : { todo: [], word: asked };
    const word = adjusted(state.geometry, taken, 1);
    const next: Todo =
      expected === undefined
        ? [{ do: 'swap', mfn, write, word }]
        : [{ do: 'exchange', mfn, write, word, expected: merged(rest, expected, write) }];
    return { state, first: [attempt(todo, undefined, ...release(mfn)), ...next] };
  },

  swap: (state, { mfn, write, word }): Effect => {
    const { index } = placeOf(write);
    const left = letGo(state, { level: 1, owner: write.domain }, wordAt(state, mfn, index));
    const stored = { do: 'write', mfn, index, word, keepsFlags: false, author: write.domain } as const;
    return { state, first: [stored, ...left, ...release(mfn)] };
  },

  // Processors may have set flags there since it was read.
  exchange: (state, { mfn, write, word, expected }): Effect => {
    const { index } = placeOf(write);
    const there = wordAt(state, mfn, index);
    const leaf = { level: 1, owner: write.domain };
    if (!isSameWord(there, expected))
      return seeing(state, there, write, [...letGo(state, leaf, word), ...release(mfn)]);
    const stored = withWord(state, { mfn, index }, { ...word, author: write.domain });
    return { state: stored, first: [...letGo(state, leaf, expected), ...release(mfn)] };
  },
};
