// The walk of page tables, from the root to a page, a fault or an exit. The tables may lie in machine memory or in guest-physical
// memory, every access to which is translated again: the walk is the same and asks a `Space`.
// Sources: Intel SDM vol. 3A, "Hierarchical Paging Structures: an Overview", "Accessed and Dirty Flags"; vol. 3C, "EPT
// Translation Mechanism"; AMD APM vol. 2, "Nested Paging". A first reader may skip nothing.

import { type Word, ZERO_WORD } from '#abi/address.ts';
import type { AccessResult, Mark } from '#abi/case.ts';
import { match } from 'ts-pattern';
import type { WordReader } from '../hap/walk.ts';
import { pageBytes } from './address.ts';
import {
  ALL_RIGHTS,
  decodeEntry,
  decodeLatchedPdpte,
  type EntryMeaning,
  missingFlags,
  type Rights,
  spanOf,
  tableShapes,
} from './entry.ts';
import { entryAt, marksAt, withMarks } from './memory.ts';
import type { Paging, PagingMode } from './mode.ts';
import { type Attempt, type Cause, fold, type Page } from './rights.ts';

/** Why an address of a space is looked up. flags: to set accessed and dirty flags in an entry that has been read. */
export type Use =
  | { readonly kind: 'entry' }
  | { readonly kind: 'flags' }
  | { readonly kind: 'operand'; readonly access: Attempt['kind']; readonly isUserPage: boolean };

/** Where an address leads, or the exit that looking it up ends in; with the flags that this leaves in the space's own tables. */
export type Located =
  | { readonly kind: 'found'; readonly maddr: number; readonly marks: readonly Mark[] }
  | { readonly kind: 'exit'; readonly result: AccessResult; readonly marks: readonly Mark[] };

/** The addresses that page tables and their pages have. `memory` is what an own table of the space is looked up in. */
export interface Space {
  readonly locate: (memory: WordReader, address: number, use: Use) => Located;
}

/** Machine memory itself. */
export const machineSpace: Space = { locate: (_memory, maddr) => ({ kind: 'found', maddr, marks: [] }) };

/** An entry that the walk used. */
export interface Step {
  readonly level: number;
  readonly word: Word;
  /** Its address in the space, and where that is: looked up in this memory. */
  readonly address: number;
  readonly maddr: number;
  readonly memory: WordReader;
}

/** What a walk has behind it: entries used, from the root down; marks in the tables of the space, and memory with them. */
export interface Trail {
  readonly steps: readonly Step[];
  readonly marks: readonly Mark[];
  readonly memory: WordReader;
}

/** Where a walk ends. page: `address` is that of the byte asked for. fault: `steps` are those above the entry at fault. */
export type Walk = Trail &
  (
    | ({ readonly kind: 'page'; readonly address: number } & Page)
    | { readonly kind: 'fault'; readonly cause: Cause }
    | { readonly kind: 'exit'; readonly result: AccessResult }
  );

type TableMode = Exclude<PagingMode, 'none'>;

/** Paging that is switched on. */
export type TablePaging = Paging & { readonly mode: TableMode };

/** `paging` if it is switched on. */
export const hasTables = (paging: Paging): paging is TablePaging => paging.mode !== 'none';

/** A walk under way: the table at hand, its level, and the rights so far. */
type Position = Trail & { readonly table: number; readonly level: number; readonly rights: Rights };

/** The byte that a walk is for. */
export interface Target {
  readonly page: number;
  readonly offset: number;
}

const indexOf = (mode: TableMode, level: number, page: number): number =>
  Math.floor(page / spanOf(mode, level)) % 2 ** tableShapes[mode].indexBits;

const trailOf = ({ steps, marks, memory }: Trail): Trail => ({ steps, marks, memory });

/** What an entry makes of the walk: its end, or the next table. */
const follow = (at: Position, meaning: EntryMeaning, target: Target): Walk | Position =>
  match(meaning)
    .with({ kind: 'absent' }, { kind: 'reserved' }, (cause): Walk => ({ ...trailOf(at), kind: 'fault', cause }))
    .with({ kind: 'table' }, ({ frame, rights }): Position => {
      const table = frame * pageBytes;
      return { ...at, table, level: at.level - 1, rights: fold(at.rights, rights) };
    })
    .with({ kind: 'page' }, ({ frame, span, rights, key }): Walk => {
      const address = (frame + (target.page % span)) * pageBytes + target.offset;
      return { ...trailOf(at), kind: 'page', address, rights: fold(at.rights, rights), key };
    })
    .exhaustive();

/** Reads one entry in the space, with the flags that looking it up has set, and follows it. */
function descend(space: Space, paging: TablePaging, at: Position, target: Target): Walk | Position {
  const { mode } = paging;
  const { entryBytes } = tableShapes[mode];
  const address = at.table + indexOf(mode, at.level, target.page) * entryBytes;
  const located = space.locate(at.memory, address, { kind: 'entry' });
  const marks = [...at.marks, ...located.marks];
  const memory = withMarks(at.memory, located.marks);
  if (located.kind === 'exit') return { kind: 'exit', result: located.result, steps: at.steps, marks, memory };
  const { maddr } = located;
  const word = entryAt(memory, maddr, entryBytes);
  const meaning = decodeEntry(paging, at.level, word);
  const isUsed = meaning.kind === 'table' || meaning.kind === 'page';
  const steps = isUsed ? [...at.steps, { level: at.level, word, address, maddr, memory: at.memory }] : at.steps;
  return follow({ ...at, steps, marks, memory }, meaning, target);
}

/** With PDPTE registers the top level is not in memory: no access, no flags. */
function start({ mode, root, pdptes }: TablePaging, memory: WordReader, target: Target): Walk | Position {
  const { levels } = tableShapes[mode];
  const top: Position = { table: root, level: levels, rights: ALL_RIGHTS, steps: [], marks: [], memory };
  if (pdptes === undefined) return top;
  return follow(top, decodeLatchedPdpte(pdptes[indexOf(mode, top.level, target.page)] ?? ZERO_WORD), target);
}

/**
 * Walks for a byte. Rights are not judged on the way: a lower entry that is absent or has a reserved bit is what is
 * reported, whatever the upper ones withhold.
 */
export function walkTables(space: Space, paging: TablePaging, from: { memory: WordReader; target: Target }): Walk {
  const { memory, target } = from;
  let at = start(paging, memory, target);
  while (!('kind' in at)) at = descend(space, paging, at, target);
  return at;
}

/** What setting flags comes to. */
export interface FlagsSet {
  readonly marks: readonly Mark[];
  readonly memory: WordReader;
  /** The exit that a write to a table ended in, if one did. */
  readonly exit: AccessResult | undefined;
}

/**
 * Sets the flags that the entries used lack by now, from the root down, `isWrite` dirtying the page. Each is a write of its own
 * to the space, by the translation that the entry was read by, and may end in an exit; the marks before it stand.
 */
export function setFlags(
  space: Space,
  paging: TablePaging,
  { steps, memory: before }: Trail,
  isWrite: boolean,
): FlagsSet {
  const { entryBytes } = tableShapes[paging.mode];
  let marks: readonly Mark[] = [];
  let memory = before;
  const add = (more: readonly Mark[]): void => {
    marks = [...marks, ...more];
    memory = withMarks(memory, more);
  };
  for (const { level, address, maddr, memory: found } of steps) {
    const flags = missingFlags(paging, level, { word: entryAt(memory, maddr, entryBytes), isWrite });
    if (flags === 0) continue;
    const located = space.locate(found, address, { kind: 'flags' });
    add(located.marks);
    if (located.kind === 'exit') return { marks, memory, exit: located.result };
    add(marksAt(maddr, flags));
  }
  return { marks, memory, exit: undefined };
}
