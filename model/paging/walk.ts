// The walk of page tables, from the root to a page, a fault or an exit. The tables may lie in machine memory or in guest-physical
// memory, every access to which is translated again: the walk is the same and asks a `Space`.
// Sources: Intel SDM vol. 3A, "Hierarchical Paging Structures: an Overview", "Accessed and Dirty Flags"; vol. 3C, "EPT
// Translation Mechanism"; AMD APM vol. 2, "Nested Paging". A first reader may skip nothing.

import { type Word, ZERO_WORD } from '#abi/address.ts';
import type { AccessResult, Mark } from '#abi/case.ts';
import { field, without } from '#lib/bits.ts';
import type { WordReader } from '../hap/walk.ts';
import { addressOf } from './address.ts';
import {
  ABSENT,
  decodeEntry,
  decodeLatchedPdpte,
  DIRTY,
  indexOf,
  missingFlags,
  offsetBits,
  tableShapes,
} from './entry.ts';
import { entryAt, joined, marksAt, NO_MARKS, withMarks } from './memory.ts';
import type { Paging, PagingMode } from './mode.ts';
import { ALL_RIGHTS, type Attempt, type Cause, fold, type Page, rightsOfBits } from './rights.ts';

/** Why an address of a space is looked up. flags: to set accessed and dirty flags in an entry that has been read. */
export type Use =
  | { readonly kind: 'entry' }
  | { readonly kind: 'flags' }
  | { readonly kind: 'operand'; readonly access: Attempt['kind']; readonly isUserPage: boolean };

const ENTRY: Use = { kind: 'entry' };
const FLAGS: Use = { kind: 'flags' };

/** Where an address leads, or how looking it up fails; with the flags that this leaves, or may leave, in tables. */
export type Located =
  | { readonly kind: 'found'; readonly maddr: number; readonly marks: readonly Mark[] }
  | { readonly kind: 'failed'; readonly result: AccessResult; readonly marks: readonly Mark[] };

/** The addresses that page tables and their pages have. `memory` is what an own table of the space is looked up in. */
export interface Space {
  readonly locate: (memory: WordReader, address: number, use: Use) => Located;
}

/** Machine memory itself. */
export const machineSpace: Space = { locate: (_memory, maddr) => ({ kind: 'found', maddr, marks: NO_MARKS }) };

/** An entry that the walk used, and that lacks a flag which its use may set. */
export interface Step {
  readonly level: number;
  readonly word: Word;
  /** Its address in the space, and where that is: looked up in this memory. */
  readonly address: number;
  readonly maddr: number;
  readonly memory: WordReader;
}

/** What a walk has behind it: entries used that lack flags, from the root down; marks in the tables of the space, and memory with them. */
export interface Trail {
  readonly steps: readonly Step[];
  readonly marks: readonly Mark[];
  readonly memory: WordReader;
}

/** Where a walk ends. page: `address` is that of the byte asked for. fault: `steps` lie above the entry at fault. */
export type Walk = Trail &
  (
    | { readonly kind: 'page'; readonly address: number; readonly page: Page }
    | { readonly kind: 'fault'; readonly cause: Cause }
    | { readonly kind: 'exit'; readonly result: AccessResult }
  );

type TableMode = Exclude<PagingMode, 'none'>;

/** Paging that is switched on. */
export type TablePaging = Paging & { readonly mode: TableMode };

/** `paging` if it is switched on. */
export const hasTables = (paging: Paging): paging is TablePaging => paging.mode !== 'none';

/** The byte that a walk is for, and the memory that it begins with. */
export interface Target {
  readonly address: Word;
  readonly memory: WordReader;
}

/** Where a walk begins: at the root, or with PDPTE registers, which are no entries in memory, at the table below it. */
function start({ mode, root, pdptes }: TablePaging, target: Word): { table: number; level: number } | undefined {
  const { levels } = tableShapes[mode];
  if (pdptes === undefined) return { table: root, level: levels };
  const meaning = decodeLatchedPdpte(pdptes[indexOf(mode, levels, target)] ?? ZERO_WORD);
  return meaning.kind === 'table' ? { table: addressOf(meaning.frame), level: levels - 1 } : undefined;
}

/**
 * Walks for a byte: at each level it reads an entry in the space, with the flags that looking it up has set, and goes to the
 * table that it names. Rights are not judged on the way: a lower entry that is absent or has a reserved bit is what is
 * reported, whatever the upper ones withhold.
 */
export function walkTables(space: Space, paging: TablePaging, from: Target): Walk {
  const { mode } = paging;
  const { address: target } = from;
  const { entryBytes } = tableShapes[mode];
  const steps: Step[] = [];
  let { memory } = from;
  let marks = NO_MARKS;
  let rights = ALL_RIGHTS;
  const first = start(paging, target);
  if (first === undefined) return { kind: 'fault', cause: ABSENT, steps, marks, memory };
  let { table } = first;
  for (let { level } = first; ; level -= 1) {
    const address = table + indexOf(mode, level, target) * entryBytes;
    const located = space.locate(memory, address, ENTRY);
    const before = memory;
    if (located.marks.length > 0) {
      marks = [...marks, ...located.marks];
      memory = withMarks(memory, located.marks);
    }
    if (located.kind === 'failed') return { kind: 'exit', result: located.result, steps, marks, memory };
    const word = entryAt(memory, located.maddr, entryBytes);
    const meaning = decodeEntry(paging, level, word);
    if (meaning.kind === 'absent' || meaning.kind === 'reserved')
      return { kind: 'fault', cause: meaning, steps, marks, memory };
    if (missingFlags(paging, level, word) !== 0)
      steps.push({ level, word, address, maddr: located.maddr, memory: before });
    rights = fold(rights, meaning.rights);
    table = addressOf(meaning.frame);
    if (meaning.kind === 'table') continue;
    const within = field(target.lo, 0, offsetBits(mode, level));
    const page = { rights: rightsOfBits(rights), key: meaning.key };
    return { kind: 'page', address: table + within, page, steps, marks, memory };
  }
}

/** What setting flags comes to. */
export interface FlagsSet {
  readonly marks: readonly Mark[];
  readonly memory: WordReader;
  /** The exit that a write to a table ended in, if one did. */
  readonly exit: AccessResult | undefined;
}

/**
 * Sets the flags that entries used lack by now, from the root down, `isWrite` dirtying the page. Each is a write of its own
 * to the space, by the translation that the entry was read by, and may end in an exit; the marks before it stand.
 */
export function setFlags(
  space: Space,
  paging: TablePaging,
  { steps, memory: before }: Trail,
  isWrite: boolean,
): FlagsSet {
  const { entryBytes } = tableShapes[paging.mode];
  let marks = NO_MARKS;
  let memory = before;
  for (const { level, word: read, address, maddr, memory: found } of steps) {
    // Where nothing has been marked since, the entry is what was read.
    const word = memory === found ? read : entryAt(memory, maddr, entryBytes);
    const flags = without(missingFlags(paging, level, word), isWrite ? 0 : DIRTY);
    if (flags === 0) continue;
    const located = space.locate(found, address, FLAGS);
    const isExit = located.kind === 'failed';
    const more = isExit ? located.marks : joined(located.marks, marksAt(maddr, flags));
    marks = joined(marks, more);
    memory = withMarks(memory, more);
    if (isExit) return { marks, memory, exit: located.result };
  }
  return { marks, memory, exit: undefined };
}
