// Entries that paravirtual guests ask for: where, and what is to stand there. Mostly what could be; frames of the wrong type, of
// others, and of devices among them. A first reader may begin at `newEntry`.

import type { DomId, Mfn, Word } from '#abi/address.ts';
import { tableEntries } from '#abi/geometry.ts';
import type { Literal } from '#abi/operand.ts';
import { tableFlags } from '#abi/paging.ts';
import { levelOfType, pvBits, tableType } from '#abi/pv.ts';
import { bit, hasAll } from '#lib/bits.ts';
import { frameOf } from '#model/state.ts';
import { wordAt } from '#model/words.ts';
import type { Gen } from '../harness/decisions.ts';
import { frameBelow } from '../harness/entry.ts';
import { directGuests, entryNamed, framesOf, numberNamed } from './names.ts';

const { present, write, user, accessed, dirty, superpage, global, noExecute } = tableFlags;

/** Level of the tables that a frame is; 0: it is none. */
export const levelOf = (g: Gen, mfn: Mfn): number => levelOfType(frameOf(g.state, mfn).type);

/** Frames of a guest that are tables of `level`, validated. */
export const tablesAt = (g: Gen, id: DomId, level: number): readonly Mfn[] =>
  framesOf(g.state, id).filter((mfn) => frameOf(g.state, mfn).validated && levelOf(g, mfn) === level);

/** Frames of a guest that nothing uses as any type: they can become anything. */
export const idle = (g: Gen, id: DomId): readonly Mfn[] =>
  framesOf(g.state, id).filter((mfn) => frameOf(g.state, mfn).typeCount === 0);

/** Frames of a guest that are memory, or nothing yet. */
export const memoryOf = (g: Gen, id: DomId): readonly Mfn[] =>
  framesOf(g.state, id).filter((mfn) => levelOf(g, mfn) === 0);

/** Some frame that the guest must not have: another's, one of the heap, a device's, none at all. */
function strange(g: Gen, id: DomId): Mfn {
  const { frameCount, deviceFrames } = g.geometry;
  const others = g.state.domains.values().filter((domain) => domain.id !== id);
  const drawn = g.prng.below(10);
  if (drawn < 3) return (frameCount + g.prng.below(Math.min(deviceFrames, 4))) as Mfn;
  if (drawn < 5) return g.prng.pick([0, frameCount - 1, frameCount + deviceFrames, 2 ** 40 - 1]) as Mfn;
  const other = others.length === 0 ? undefined : g.prng.pick(others);
  const theirs = other === undefined ? [] : framesOf(g.state, other.id);
  return theirs.length > 0 ? g.prng.pick(theirs) : (g.prng.below(frameCount) as Mfn);
}

/** One of the first of these lists that has any; else any frame of the guest. */
function firstOf(g: Gen, id: DomId, lists: readonly (readonly Mfn[])[]): Mfn {
  const list = lists.find((one) => one.length > 0) ?? framesOf(g.state, id);
  return list.length === 0 ? (0 as Mfn) : g.prng.pick(list);
}

/** Frames of a guest that operations in flight are about. */
export const inFocus = (g: Gen, id: DomId): readonly Mfn[] =>
  g.focus.frames.size === 0 ? [] : framesOf(g.state, id).filter((mfn) => g.focus.frames.has(mfn));

/** What an entry of a table of `level` is to lead to. */
export function aim(g: Gen, id: DomId, level: number): Mfn {
  if (g.bends() || g.share(3)) return strange(g, id);
  const focused = g.share(50) ? inFocus(g, id) : [];
  if (focused.length > 0) return g.prng.pick(focused);
  const drawn = g.prng.below(100);
  const tables = framesOf(g.state, id).filter((mfn) => levelOf(g, mfn) > 0);
  if (level === 1) return firstOf(g, id, drawn < 65 ? [memoryOf(g, id)] : drawn < 90 ? [tables] : [idle(g, id)]);
  const linear = g.state.policies.pvLinear && g.share(30) ? tablesAt(g, id, level) : [];
  if (linear.length > 0) return g.prng.pick(linear);
  const below = tablesAt(g, id, level - 1);
  const unused = idle(g, id);
  return firstOf(g, id, drawn < 55 ? [below, unused] : drawn < 90 ? [unused, below] : [tables]);
}

/** Flags of a new entry. A table is mostly mapped so that it could be. */
function flagsFor(g: Gen, level: number, target: Mfn): number {
  const isRead = level === 1 ? levelOf(g, target) > 0 : levelOf(g, target) === level;
  const mayWrite = g.share(isRead ? 25 : level > 1 ? 95 : 65);
  const odd = g.bends() ? g.prng.pick([superpage, global, 0x8, 0x10]) : 0;
  return (
    present +
    odd +
    (mayWrite ? write : 0) +
    (g.share(70) ? user : 0) +
    (g.share(30) ? accessed : 0) +
    (g.share(20) ? dirty : 0) +
    (level === 1 && g.share(10) && odd === 0 ? global : 0) +
    (g.share(15) ? noExecute : 0)
  );
}

const CLEAR: Literal = { as: 'word', lo: 0, hi: 0 };

/** An entry as it stood, or none. */
export const entryOrNothing = (g: Gen, word: Word): Literal =>
  hasAll(word.lo, present) ? entryNamed(g.state, word) : CLEAR;

/** Every flag that an entry can have; writing is what matters most. */
const flags = [...Object.values(tableFlags), bit(pvBits.writeThrough), bit(pvBits.cacheDisable), write, write];

/** An entry with one of its flags turned. */
function turned(g: Gen, word: { lo: number; hi: number }): Literal {
  const entry = entryNamed(g.state, word);
  if (entry.as !== 'tableEntry') return entry;
  const flag = g.prng.pick(flags);
  return { ...entry, flags: hasAll(entry.flags, flag) ? entry.flags - flag : entry.flags + flag };
}

/** What is to stand at `index` of a table of `level` of a guest. */
export function newEntry(g: Gen, id: DomId, { level, mfn, index }: Slot): Literal {
  const old = wordAt(g.state, mfn, index);
  const isPresent = hasAll(old.lo, present);
  if (isPresent && g.share(20)) return CLEAR;
  if (isPresent && g.share(30)) return turned(g, old);
  if (g.share(3)) return { as: 'fresh' };
  const target = aim(g, id, level);
  return { as: 'tableEntry', flags: flagsFor(g, level, target), gfn: numberNamed(g.state, target) };
}

/** So many of the first entries are looked at in large tables. */
const FIRST = 8;

/** An entry of a table: any of a small one; of a large one rather the first few, and borders of the hypervisor's slots. */
export function indexIn(g: Gen): number {
  const entries = tableEntries(g.geometry);
  if (entries <= FIRST) return g.prng.below(entries);
  const { from, count } = g.geometry.rootSlots;
  return g.share(85) ? g.prng.below(FIRST) : g.prng.pick([from - 1, from, from + count - 1, from + count, entries - 1]);
}

/** A word that is to be changed: in which frame, and the level that the frame has or is to have as a table. */
export interface Slot {
  readonly mfn: Mfn;
  readonly level: number;
  readonly index: number;
}

/** Entries of a table that lead somewhere: of a large one among the first few. */
const presentIn = (g: Gen, mfn: Mfn): readonly number[] =>
  g
    .list(Math.min(FIRST, tableEntries(g.geometry)), (index) => index)
    .filter((index) => hasAll(wordAt(g.state, mfn, index).lo, present));

/** Where a table leads to a frame that operations in flight are about: to memory, or to a table of theirs. */
function focusedSlot(g: Gen, id: DomId): Slot | undefined {
  if (inFocus(g, id).length === 0) return undefined;
  // Without its upper entries a guest soon has nothing left that it could use.
  const most = g.share(12) ? g.geometry.levels : 1;
  const tables = framesOf(g.state, id).filter(
    (mfn) => levelOf(g, mfn) > 0 && levelOf(g, mfn) <= most && frameOf(g.state, mfn).validated,
  );
  const slots = tables.flatMap((mfn) =>
    presentIn(g, mfn)
      .filter((index) => g.focus.frames.has(frameBelow(wordAt(g.state, mfn, index))))
      .map((index): Slot => ({ mfn, level: levelOf(g, mfn), index })),
  );
  return slots.length === 0 ? undefined : g.prng.pick(slots);
}

/** A table of a guest that is in use, rather a lowest one half of the time: they are most, and what stands there decides most. */
function someTable(g: Gen, id: DomId): Mfn | undefined {
  const tables = framesOf(g.state, id).filter((mfn) => levelOf(g, mfn) > 0 && frameOf(g.state, mfn).validated);
  const level = g.share(50) ? 1 : 1 + g.prng.below(g.geometry.levels);
  return g.prefer(tables, (one) => levelOf(g, one) === level);
}

/**
 * What operations in flight are about comes into use and out of it again meanwhile: an entry that leads there goes, or a new one of a
 * lowest table that is in use leads there.
 */
export function contested(g: Gen, id: DomId): { readonly slot: Slot; readonly value: Literal } | undefined {
  const frames = inFocus(g, id);
  if (frames.length === 0) return undefined;
  const there = focusedSlot(g, id);
  if (there !== undefined && g.share(75)) return { slot: there, value: g.share(70) ? CLEAR : newEntry(g, id, there) };
  const tables = tablesAt(g, id, 1);
  if (tables.length === 0) return undefined;
  const mfn = g.prng.pick(tables);
  const slot = { mfn, level: 1, index: indexIn(g) };
  const target = g.prng.pick(frames);
  const value = { as: 'tableEntry', flags: flagsFor(g, 1, target), gfn: numberNamed(g.state, target) } as const;
  return { slot, value };
}

/** An entry of a table, rather one that leads somewhere; or a word of a frame that nothing uses, or that is memory. */
export function someSlot(g: Gen, id: DomId): Slot {
  const drawn = g.prng.below(100);
  const table = drawn < 75 ? someTable(g, id) : undefined;
  if (table !== undefined) {
    const there = g.share(50) ? presentIn(g, table) : [];
    return { mfn: table, level: levelOf(g, table), index: there.length > 0 ? g.prng.pick(there) : indexIn(g) };
  }
  const mfn = firstOf(g, id, drawn < 95 ? [idle(g, id)] : [memoryOf(g, id)]);
  return { mfn, level: g.share(70) ? 1 : 1 + g.prng.below(g.geometry.levels), index: indexIn(g) };
}

/** What a table of `level` leads to where it is as guests build them: tables that there are, or that were built and are not looked through yet. */
function below(g: Gen, id: DomId, level: number): Mfn {
  if (level === 1) return firstOf(g, id, [memoryOf(g, id)]);
  const ready = tablesAt(g, id, level - 1);
  return firstOf(g, id, level > 2 && g.share(65) ? [built(g, id), ready] : [ready, idle(g, id)]);
}

/** Frames that nothing uses and that hold several entries. */
const built = (g: Gen, id: DomId): readonly Mfn[] => idle(g, id).filter((mfn) => presentIn(g, mfn).length > 1);

/** A table that is partial, or that was built and is in no use; and as which level. Undefined: there is none. */
export function tableWaiting(g: Gen, id: DomId): { readonly mfn: Mfn; readonly level: number } | undefined {
  const begun = framesOf(g.state, id).filter((mfn) => frameOf(g.state, mfn).partial !== undefined);
  const one = begun.length > 0 && g.share(70) ? g.prng.pick(begun) : undefined;
  if (one !== undefined) return { mfn: one, level: levelOf(g, one) };
  const trees = g.geometry.levels > 2 && g.share(65) ? treesBuilt(g, id) : [];
  const list = trees.length > 0 ? trees : built(g, id);
  if (list.length === 0) return undefined;
  return { mfn: g.prng.pick(list), level: trees.length > 0 ? 3 + g.prng.below(g.geometry.levels - 2) : 2 };
}

/** Frames that nothing uses and that lead to such frames. */
function treesBuilt(g: Gen, id: DomId): readonly Mfn[] {
  const parts = new Set<number>(built(g, id));
  return idle(g, id).filter((mfn) =>
    presentIn(g, mfn).some((index) => parts.has(frameBelow(wordAt(g.state, mfn, index)))),
  );
}

/** A table that a guest builds of a frame which nothing uses: several entries at once, in order, of which each could be. */
export function tableBuilt(
  g: Gen,
  id: DomId,
  count: number,
): readonly { readonly slot: Slot; readonly value: Literal }[] {
  const frames = idle(g, id);
  if (frames.length === 0) return [];
  const mfn = g.prefer(frames, (one) => presentIn(g, one).length === 0) ?? g.prng.pick(frames);
  const level = g.prng.below(4) === 0 ? 1 : 2 + g.prng.below(g.geometry.levels - 1);
  const first = g.prng.below(2);
  return g.list(Math.min(count, tableEntries(g.geometry) - first), (i) => {
    const target = g.share(70) ? below(g, id, level) : aim(g, id, level);
    const value = { as: 'tableEntry', flags: flagsFor(g, level, target), gfn: numberNamed(g.state, target) } as const;
    return { slot: { mfn, level, index: first + i }, value };
  });
}

/** Tables of a guest that an operation has left partial. */
const partialAt = (g: Gen, id: DomId, level: number): readonly Mfn[] =>
  framesOf(g.state, id).filter((mfn) => frameOf(g.state, mfn).partial !== undefined && levelOf(g, mfn) === level);

/** A frame that could be pinned or loaded as a table of `level`: rather one that was begun to be, or that was built so. */
export function tableLike(g: Gen, id: DomId, level: number): Mfn {
  if (g.bends()) return strange(g, id);
  const begun = g.share(60) ? partialAt(g, id, level) : [];
  if (begun.length > 0) return g.prng.pick(begun);
  const trees = level > 2 && g.share(60) ? treesBuilt(g, id) : [];
  const whole = level > 1 && g.share(50) ? built(g, id) : [];
  const fit = trees.length > 0 ? trees : whole;
  if (fit.length > 0) return g.prng.pick(fit);
  const ready = tablesAt(g, id, level);
  const unused = idle(g, id).filter((mfn) => frameOf(g.state, mfn).type === tableType(level));
  return firstOf(
    g,
    id,
    g.share(60) ? [ready, unused, idle(g, id)] : g.share(50) ? [unused, idle(g, id)] : [idle(g, id)],
  );
}

/** Guests that have memory to ask about. */
export const askers = (g: Gen): readonly DomId[] =>
  directGuests(g.state)
    .map(({ id }) => id)
    .filter((id) => framesOf(g.state, id).length > 0);
