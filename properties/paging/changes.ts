// Changes of entries that a guest's walks pass. Every field of an entry is as likely to be changed as every other, in one bit,
// and so is every way to replace an entry as a whole: which of them a walker looks at is not for a generator to know.
// A first reader may begin at `changedEntry`.
// Sources: Intel SDM vol. 3A, "4-Level Paging and 5-Level Paging" (formats of the entries); AMD64 APM vol. 2, "Long-Mode Page
// Translation".

import { ZERO_WORD, type DomId, type Word } from '#abi/address.ts';
import { tableEntries, type Geometry } from '#abi/geometry.ts';
import type { Literal } from '#abi/operand.ts';
import { tableFlags } from '#abi/paging.ts';
import { and, bit, field, hasAll, or, pow2, without } from '#lib/bits.ts';
import { frameIn } from '#model/hap/meaning.ts';
import type { State } from '#model/state.ts';
import { wordAt } from '#model/words.ts';
import { mappedOf } from '../harness/census.ts';
import { operandOf, type Gen } from '../harness/decisions.ts';
import type { Place } from './recent-changes.ts';
import type { Table, Tree } from './tables.ts';

/**
 * Fields of an entry: the first bit and how many there are. The frame's are three: bits that lead to another gfn (or, in a
 * superpage, that must be 0), bits beyond what any P2M maps, and bits beyond the physical-address width.
 */
function fieldsOf({ levels, bitsPerLevel, maxPhysAddr }: Geometry): readonly (readonly [number, number])[] {
  const reach = Math.min(12 + levels * bitsPerLevel, maxPhysAddr);
  const low = [0, 1, 2, 3, 4, 5, 6, 7, 8].map((at) => [at, 1] as const);
  const frame = [[12, reach - 12], [reach, maxPhysAddr - reach], [maxPhysAddr, 52 - maxPhysAddr]] as const; // prettier-ignore
  const all = [...low, [9, 3], ...frame, [52, 7], [59, 4], [63, 1]] as const;
  return all.filter(([, count]) => count > 0);
}

const toggled = (half: number, one: number): number => (hasAll(half, one) ? without(half, one) : or(half, one));

/** `word` with one bit turned over. */
const flipped = ({ lo, hi }: Word, at: number): Word =>
  at < 32 ? { lo: toggled(lo, bit(at)), hi } : { lo, hi: toggled(hi, bit(at - 32)) };

/** `word` with another frame. */
const leadingTo = ({ lo, hi }: Word, frame: number): Word => ({
  lo: field(lo, 0, 12) + (frame % pow2(20)) * pow2(12),
  hi: without(hi, pow2(20) - 1) + (Math.floor(frame / pow2(20)) % pow2(20)),
});

/** Entries of a table that are there; of one without, its first. */
function entriesOf(state: State, table: Table): readonly number[] {
  const from = table.mfn * state.geometry.wordsPerFrame;
  const found: number[] = [];
  for (let index = 0; index < tableEntries(state.geometry); index += 1)
    if (and(state.words.get(from + index)?.lo ?? 0, tableFlags.present) !== 0) found.push(index);
  return found.length === 0 ? [0] : found;
}

/** An entry of one of these tables. Every level has rules of its own, so every level is as likely as every other. */
export function placeIn(g: Gen, tables: readonly Table[]): Place {
  const levels = [...new Set(tables.map(({ level }) => level))];
  const level = g.prng.pick(levels);
  const table = g.prng.pick(tables.filter((one) => one.level === level));
  return { table, index: g.prng.pick(entriesOf(g.state, table)) };
}

/** Another word for the entry at `place` of a tree of `domain`. */
export function changedEntry(g: Gen, of: { domain: DomId; tree: Tree; place: Place }): Word {
  const { domain, tree, place } = of;
  const word = wordAt(g.state, place.table.mfn, place.index);
  const fields = fieldsOf(g.geometry);
  const drawn = g.prng.below(fields.length + 4);
  const one = fields[drawn];
  if (one !== undefined) return flipped(word, one[0] + g.prng.below(one[1]));
  switch (drawn - fields.length) {
    case 0:
      return ZERO_WORD;
    case 1: {
      const mapped = mappedOf(g.state, domain);
      return leadingTo(word, mapped.length > 0 ? g.prng.pick(mapped) : 0);
    }
    case 2:
      return leadingTo(word, g.prng.pick(tree.tables).gfn);
  }
  const { table, index } = placeIn(g, tree.tables);
  return wordAt(g.state, table.mfn, index);
}

/** A word as a literal: an entry, unless it has bits that the literal of an entry cannot say. */
export const literalOf = (geometry: Geometry, word: Word): Literal =>
  field(word.hi, 20, 8) === 0
    ? {
        as: 'tableEntry',
        flags: field(word.lo, 0, 12) + field(word.hi, 28, 4) * pow2(12),
        gfn: operandOf(geometry, frameIn(word)),
      }
    : { as: 'word', ...word };
