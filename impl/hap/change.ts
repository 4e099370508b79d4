// Changing a run of gfns in the tables, in two passes over the same recursion: `missing` counts the tables that must be
// there first, `apply` makes the change with pages that were reserved. Both cut the run into the largest pieces that the
// alignment of gfn and mfn, the levels with superpages and the policy allow.
// `apply` is one act: nobody sees half a run. A superpage is split by building the new table completely, the change in it
// included, and then one store. A table that has become a superpage's worth of like RAM is replaced by that superpage.
// A first reader may skip `joined`. Sources: Xen mm/p2m-ept.c (ept_set_entry, ept_split_super_page, ept_next_level).

import { framesPerLeaf, tableEntries } from '#abi/geometry.ts';
import { or } from '#lib/bits.ts';
import { invariant, present } from '#lib/invariant.ts';
import type { Machine } from '../machine.ts';
import { entryAt, isFramelessCode, isRamCode, storeEntry, type Leaf } from './entry.ts';

/** A table, the level of its entries, and the first gfn under it. Table 0: there is none yet. */
export interface Node {
  readonly table: number;
  readonly level: number;
  readonly base: number;
}

/** A change under way: gfns `gfn` to before `end` become frames from `mfn` on, of type `code` (0: nothing), with so much left of their rights. */
export interface Job {
  readonly gfn: number;
  readonly end: number;
  readonly mfn: number;
  readonly code: number;
  readonly access: number;
  /** Zeroed pages for the tables that are missing. */
  readonly spare: number[];
  /** Tables that no entry leads to any more; processors may still remember them. */
  readonly orphans: Node[];
  /** Whether an entry that processors may remember was changed. */
  changed: boolean;
}

/** An entry of a node, and the first gfn it covers. */
interface Place {
  readonly node: Node;
  readonly index: number;
  readonly gfn: number;
}

/** The indices of `node` that the job touches, as first and one past the last. */
function touched(m: Machine, job: Job, node: Node): { readonly from: number; readonly to: number } {
  const span = framesPerLeaf(m.geometry, node.level);
  const from = Math.max(0, Math.floor((job.gfn - node.base) / span));
  return { from, to: Math.min(tableEntries(m.geometry), Math.ceil((job.end - node.base) / span)) };
}

/** Whether the entry that covers `span` gfns from `gfn` on can be set as one. */
function isWhole(m: Machine, job: Job, at: { readonly gfn: number; readonly level: number }): boolean {
  if (at.level === 1) return true;
  if (!m.policies.superpages || at.level > m.geometry.superpageLevels) return false;
  const span = framesPerLeaf(m.geometry, at.level);
  if (at.gfn < job.gfn || at.gfn + span > job.end) return false;
  return job.code === 0 || frameFor(job, at.gfn) % span === 0;
}

/** The frame that the job wants at `gfn`; 0: none. */
const frameFor = ({ code, mfn, gfn: first }: Job, gfn: number): number =>
  isFramelessCode(code) ? 0 : mfn + gfn - first;

/** What an entry leads to: a table, nothing (0), or a leaf that must be split (-1; all of a table yet to be made is). */
function below(m: Machine, node: Node, index: number): number {
  const { codeIn, frameIn, isTable } = m.entries;
  if (node.table === 0) return -1;
  const at = entryAt(m, node.table, index);
  const low = m.f.memory.get(at);
  const high = m.f.memory.get(at + 1);
  if (isTable(low, high)) return frameIn(low, high);
  return codeIn(high) === 0 ? 0 : -1;
}

/** How many tables the job needs below `node` that are not there. */
export function missing(m: Machine, job: Job, node: Node): number {
  if (node.level === 1) return 0;
  const span = framesPerLeaf(m.geometry, node.level);
  const { from, to } = touched(m, job, node);
  let count = 0;
  for (let index = from; index < to; index += 1) {
    const base = node.base + index * span;
    if (isWhole(m, job, { gfn: base, level: node.level })) continue;
    const table = below(m, node, index);
    if (table === 0 && job.code === 0) continue;
    const rest = missing(m, job, { table: Math.max(table, 0), level: node.level - 1, base });
    count += table > 0 ? rest : rest + 1;
  }
  return count;
}

/** Makes the change below `node`. */
export function apply(m: Machine, job: Job, node: Node): void {
  const span = framesPerLeaf(m.geometry, node.level);
  const { from, to } = touched(m, job, node);
  for (let index = from; index < to; index += 1) {
    const place = { node, index, gfn: node.base + index * span };
    if (isWhole(m, job, { gfn: place.gfn, level: node.level })) put(m, job, place);
    else descend(m, job, place);
  }
}

/** Sets one entry to what the job wants there. */
function put(m: Machine, job: Job, { node, index, gfn }: Place): void {
  const { accessIn, codeIn, frameIn, isPresent, isTable, leafHigh, leafLow } = m.entries;
  const at = entryAt(m, node.table, index);
  const low = m.f.memory.get(at);
  const high = m.f.memory.get(at + 1);
  const mfn = frameFor(job, gfn);
  const { access } = job;
  const wasTable = isTable(low, high);
  const isLike = job.code === 0 || (frameIn(low, high) === mfn && accessIn(high) === access);
  if (codeIn(high) === job.code && !wasTable && isLike) return;
  const leaf: Leaf = { mfn, level: node.level, code: job.code, access, flags: 0 };
  const word = job.code === 0 ? { lo: 0, hi: 0 } : { lo: leafLow(leaf), hi: leafHigh(leaf) };
  storeEntry(m, { table: node.table, index }, word);
  if (wasTable || isPresent(low)) job.changed = true;
  if (wasTable) job.orphans.push({ table: frameIn(low, high), level: node.level - 1, base: gfn });
}

/** Makes the part of the change that lies below one entry. */
function descend(m: Machine, job: Job, place: Place): void {
  const { codeIn, frameIn, isPresent, isTable, tableHigh, tableLow } = m.entries;
  const { node, index, gfn } = place;
  const at = entryAt(m, node.table, index);
  const low = m.f.memory.get(at);
  const high = m.f.memory.get(at + 1);
  if (isTable(low, high)) {
    const child: Node = { table: frameIn(low, high), level: node.level - 1, base: gfn };
    apply(m, job, child);
    if (job.code !== 0) join(m, job, { place, child });
    return;
  }
  const isLeaf = codeIn(high) !== 0;
  if (!isLeaf && job.code === 0) return;
  const child: Node = { table: present(job.spare.pop(), 'tables were counted'), level: node.level - 1, base: gfn };
  if (isLeaf) split(m, child, { low, high });
  apply(m, job, child);
  storeEntry(m, { table: node.table, index }, { lo: tableLow(child.table), hi: tableHigh(child.table) });
  if (isPresent(low)) job.changed = true;
}

/** Fills a new table with the pieces of a superpage: same type, same access, same flags. */
function split(m: Machine, child: Node, entry: { readonly low: number; readonly high: number }): void {
  const { accessIn, codeIn, flagsIn, frameIn, leafHigh, leafLow } = m.entries;
  const { table, level } = child;
  const span = framesPerLeaf(m.geometry, level);
  const mfn = frameIn(entry.low, entry.high);
  const code = codeIn(entry.high);
  const access = accessIn(entry.high);
  const flags = flagsIn(entry.low);
  for (let index = 0; index < tableEntries(m.geometry); index += 1) {
    const leaf: Leaf = { mfn: isFramelessCode(code) ? 0 : mfn + index * span, level, code, access, flags };
    storeEntry(m, { table, index }, { lo: leafLow(leaf), hi: leafHigh(leaf) });
  }
}

/** Replaces a table by a superpage if its entries are the pieces of one. */
function join(m: Machine, job: Job, { place, child }: { readonly place: Place; readonly child: Node }): void {
  const { leafHigh, leafLow } = m.entries;
  const { node, index } = place;
  if (!m.policies.superpages || node.level > m.geometry.superpageLevels) return;
  const leaf = joined(m, child);
  if (leaf === undefined) return;
  invariant(leaf.level === node.level, 'a superpage takes the place of a table');
  storeEntry(m, { table: node.table, index }, { lo: leafLow(leaf), hi: leafHigh(leaf) });
  job.changed = true;
  job.orphans.push(child);
}

/** The superpage whose pieces the entries of a table are, with the flags of any; undefined if they are not. */
function joined(m: Machine, { table, level }: Node): Leaf | undefined {
  const { accessIn, codeIn, flagsIn, frameIn } = m.entries;
  const { memory } = m.f;
  const entries = tableEntries(m.geometry);
  const span = framesPerLeaf(m.geometry, level);
  const first = entryAt(m, table, 0);
  const code = codeIn(memory.get(first + 1));
  const access = accessIn(memory.get(first + 1));
  const mfn = frameIn(memory.get(first), memory.get(first + 1));
  // Granted and foreign entries stay apart, as in Xen: taking one away must never need a table.
  if (!isRamCode(code) || mfn % (span * entries) !== 0) return undefined;
  let flags = 0;
  // From the end: tables mostly fill up from the beginning, so the answer mostly comes at once.
  for (let index = entries - 1; index >= 0; index -= 1) {
    const at = entryAt(m, table, index);
    const low = memory.get(at);
    const high = memory.get(at + 1);
    if (codeIn(high) !== code || frameIn(low, high) !== mfn + index * span) return undefined;
    if (accessIn(high) !== access) return undefined;
    flags = or(flags, flagsIn(low));
  }
  return { mfn, level: level + 1, code, access, flags };
}
