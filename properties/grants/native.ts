// Where paravirtual guests map grants, and where they have them: entries of their lowest tables, named by linear address or by machine
// address. A first reader may skip it.

import type { DomId, Mfn } from '#abi/address.ts';
import { tableEntries } from '#abi/geometry.ts';
import { mapFlags } from '#abi/grants.ts';
import type { GfnOperand } from '#abi/operand.ts';
import { tableFlags } from '#abi/paging.ts';
import { hasAll } from '#lib/bits.ts';
import { wordAt } from '#model/words.ts';
import { RIGHT_BITS } from '#model/paging/rights.ts';
import type { Gen } from '../harness/decisions.ts';
import { frameBelow, isPresent } from '../harness/entry.ts';
import { linearOf, treeOf, type Table } from '../paging/tables.ts';
import { indexIn, levelOf, tablesAt } from '../pv/entries.ts';
import { framesOf, numberNamed } from '../pv/names.ts';

/** An address as a grant operation takes it. */
export interface Address {
  readonly gfn: GfnOperand;
  readonly offset: number;
}

export const isNative = (g: Gen, id: DomId): boolean => g.state.domains.get(id)?.kind === 'pv';

const WORD_BYTES = 8;

/** Lowest tables that the caller's vCPU goes by. */
const lowest = (g: Gen): readonly Table[] => treeOf(g.state, g.agent).tables.filter(({ level }) => level === 1);

/** So many entries of a large table are looked at. */
const FIRST = 8;

const indices = (g: Gen): readonly number[] => g.list(Math.min(FIRST, tableEntries(g.geometry)), (index) => index);

/** An entry by the linear address that goes by it. */
function linear(g: Gen, table: Table, index: number): Address {
  const page = linearOf(g.geometry, table.first + index);
  // Zero is no address for those who unmap.
  return { gfn: g.gfn(page), offset: page === 0 || g.share(10) ? WORD_BYTES * (1 + g.prng.below(3)) : 0 };
}

/** An entry by its machine address. */
const machine = (g: Gen, mfn: Mfn, index: number): Address => ({
  gfn: numberNamed(g.state, mfn),
  offset: WORD_BYTES * index + (g.bends() ? 4 : 0),
});

/** Where a paravirtual caller maps a grant, rather where nothing is; and the flag that says how it names that. */
export function placeFor(g: Gen, caller: DomId): Address & { readonly flags: number } {
  const isFree = (mfn: Mfn, index: number): boolean => !isPresent(wordAt(g.state, mfn, index).lo);
  const pick = (mfn: Mfn): number => g.prefer(indices(g), (index) => isFree(mfn, index) !== g.share(25)) ?? indexIn(g);
  const tables = lowest(g);
  if (tables.length > 0 && !g.share(30)) {
    const table = g.prng.pick(tables);
    return { ...linear(g, table, pick(table.mfn)), flags: 0 };
  }
  const all = tablesAt(g, caller, 1);
  const others = framesOf(g.state, caller).filter((mfn) => levelOf(g, mfn) !== 1);
  const from = all.length > 0 && !g.bends() ? all : others;
  const mfn = from.length > 0 ? g.prng.pick(from) : (0 as Mfn);
  return { ...machine(g, mfn, pick(mfn)), flags: mapFlags.containsPte };
}

interface Entry {
  readonly mfn: Mfn;
  readonly index: number;
  readonly isWritable: boolean;
}

/** Entries of a guest's lowest tables that lead to a frame. */
function entriesTo(g: Gen, caller: DomId, mfn: Mfn): readonly Entry[] {
  return tablesAt(g, caller, 1).flatMap((table) =>
    indices(g).flatMap((index): readonly Entry[] => {
      const word = wordAt(g.state, table, index);
      const isThere = isPresent(word.lo) && frameBelow(word) === (mfn as number);
      return isThere ? [{ mfn: table, index, isWritable: hasAll(word.lo, tableFlags.write) }] : [];
    }),
  );
}

/** Where a paravirtual caller has what a handle stands for; somewhere else if it has taken that away. */
export function placeOf(g: Gen, caller: DomId, handle: number): Address {
  const mapped = g.state.domains.get(caller)?.grants.handles.get(handle);
  const active = mapped && g.state.domains.get(mapped.domain)?.grants.active.get(mapped.ref);
  const entries = active === undefined ? [] : entriesTo(g, caller, active.mfn);
  const writes = mapped !== undefined && !hasAll(mapped.flags, mapFlags.readOnly);
  // Mappings of one frame are told apart by their rights alone.
  const isOdd = g.share(15);
  const entry = g.prefer(entries, ({ isWritable }) => isWritable === (writes !== isOdd));
  if (entry === undefined) return placeFor(g, caller);
  if (hasAll(mapped?.flags ?? 0, mapFlags.containsPte)) return machine(g, entry.mfn, entry.index);
  const table = lowest(g).find(({ mfn }) => mfn === entry.mfn);
  return table === undefined ? placeFor(g, caller) : linear(g, table, entry.index);
}

/** Where a caller has something that could come to stand where a grant was: a linear address; seldom none. */
export function sourceFor(g: Gen): Address {
  const tables = lowest(g);
  if (tables.length === 0 || g.share(10)) return { gfn: { raw: 0 }, offset: 0 };
  const table = g.prng.pick(tables);
  const there = indices(g).filter((index) => isPresent(wordAt(g.state, table.mfn, index).lo));
  return linear(g, table, there.length > 0 && g.share(80) ? g.prng.pick(there) : indexIn(g));
}

/** What a paravirtual guest grants: memory of its own, at times what is a table, or what is another guest's. */
export function grantable(g: Gen, id: DomId): GfnOperand {
  const others = g.share(8) ? g.state.domains.values().filter((one) => one.id !== id) : [];
  const frames = framesOf(g.state, others.length > 0 ? g.prng.pick(others).id : id);
  const memory = frames.filter((mfn) => levelOf(g, mfn) === 0);
  const from = memory.length > 0 && !g.share(20) ? memory : frames;
  return from.length === 0 ? { raw: 0 } : numberNamed(g.state, g.prng.pick(from));
}

/** Flags of an entry that only paravirtual guests can ask for. */
export const extraFlags = (g: Gen): number =>
  (g.share(30) ? mapFlags.applicationMap : 0) + (g.share(20) ? mapFlags.available * (1 + g.prng.below(7)) : 0);

/** Where a paravirtual guest's processor has its grant frame `index`, to write there: a linear frame. Undefined: nowhere. */
export function grantFramePage(g: Gen, caller: DomId, index: number): number | undefined {
  const mfn = g.state.domains.get(caller)?.grants.frames[index];
  if (mfn === undefined || !isNative(g, caller)) return undefined;
  const page = treeOf(g.state, g.agent).pages.find(
    ({ gfn, guest }) => (gfn as number) === (mfn as number) && hasAll(guest, RIGHT_BITS.write),
  );
  return page && linearOf(g.geometry, page.page);
}
