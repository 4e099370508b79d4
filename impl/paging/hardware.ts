// Simulated hardware, and so a judge: how a processor translates a guest frame, and how it moves bytes.
// A translation is answered by what the pCPU remembers, if it remembers something: a leaf, or a pointer to a table from which
// the walk goes on in present memory. `via` lets fate pick an older one of several distinct answers; past the oldest, and
// when the answer lacks the right, the tables are walked afresh. Walks remember what they load.
// A leaf that is remembered as clean does not serve a write: the processor must mark it dirty in memory, so it walks again.
// A violation forgets nothing here. (The manual has it forget what it used; that would only hide what is stale.)
// Sources: Intel SDM vol. 3C, "Caching Translation Information", "Using Cached Information"; vol. 3A, "Locked Atomic Operations".

import type { Mfn, Word } from '#abi/address.ts';
import { RIGHT } from '#abi/rights.ts';
import { isLeafEntry } from '../hap/hardware.ts';
import type { Machine } from '../machine.ts';
import { insert, olderAnswer, slotOf, type Place } from '../tlb/hardware.ts';

/** A translation that is asked for. `access`: the rights it needs. */
export interface Query extends Place {
  readonly access: number;
  readonly via: number;
}

/** How an answer came about; undefined: refused. The frame and its rights are in `m.walker`. */
export type Translated = 'cached' | 'walked' | undefined;

/** Translates. A domain without tables (root 0) has nothing. */
export function translate(m: Machine, query: Query): Translated {
  if (query.root === 0) return undefined;
  if (recall(m, query)) return 'cached';
  return walkAfresh(m, query) ? 'walked' : undefined;
}

/** Translates, and tells the log how; whether there is an answer. */
export function lookUp(m: Machine, query: Query): boolean {
  const how = translate(m, query);
  const { mfn, rights } = m.walker;
  m.port.choose(how === 'cached' ? { kind: 'cached', mfn: mfn as Mfn, rights } : { kind: 'walked' });
  return how !== undefined;
}

/** Walks as for `query` without using what is found. */
export function speculate(m: Machine, query: Query): void {
  if (query.root !== 0) walkAfresh(m, query);
}

function walkAfresh(m: Machine, query: Query): boolean {
  m.walker.walk(query.root, query.gfn);
  return keep(m, query);
}

/** Marks and remembers what the last walk used; answers whether it may be used. A refusing entry is not remembered. */
function keep(m: Machine, query: Query): boolean {
  const { walker } = m;
  const isGranted = walker.allows(query.access);
  const lowest = isGranted ? walker.level : walker.level + 1;
  walker.mark(lowest, query.access);
  for (let level = walker.top; level >= lowest; level -= 1) insert(m, query, level);
  return isGranted;
}

/** Answers from what the pCPU remembers; false: it does not serve. */
function recall(m: Machine, query: Query): boolean {
  const { walker } = m;
  let older = query.via;
  const passed: number[] = [];
  for (let age = olderAnswer(m, query, 0); age !== 0; age = olderAnswer(m, query, age)) {
    if (!answerFrom(m, query, slotOf(m, query.pcpu, age))) continue;
    const answer = walker.mfn * 8 + walker.rights;
    if (passed.includes(answer)) continue;
    if (older === 0) return walker.allows(query.access) && (walker.top === 0 || keep(m, query));
    older -= 1;
    passed.push(answer);
  }
  return false;
}

/** Lets the entry in `slot` answer, into `m.walker`; false: it leads nowhere, or is clean and would be written. */
function answerFrom(m: Machine, query: Query, slot: number): boolean {
  const { f, walker } = m;
  const low = f.cacheLo.get(slot);
  const level = f.cacheLevel.get(slot);
  const mfn = walker.frameOf(level, low, f.cacheHi.get(slot));
  if (isLeafEntry(level, low)) {
    walker.answer(mfn + query.gfn - f.cacheGfn.getWide(slot), f.cacheRights.get(slot));
    return walker.isDirty(low) || (query.access & RIGHT.write) === 0 || !walker.allows(query.access);
  }
  walker.rights = f.cacheRights.get(slot);
  walker.walkFrom(mfn, level - 1, query.gfn);
  return walker.outcome === 'frame';
}

/** A run of bytes within one machine frame. */
export interface Run {
  readonly mfn: number;
  readonly offset: number;
  readonly count: number;
}

const offsetOf = (m: Machine, run: Run): number => (run.mfn * m.geometry.wordsPerFrame * 8 + run.offset) / 4;

/** Whether the run is one aligned word of memory that is there. */
const isWord = (m: Machine, run: Run): boolean =>
  run.count === 8 && (run.offset & 7) === 0 && run.mfn < m.geometry.frameCount;

/** The little-endian value of up to 8 bytes. Where there is no memory, ones are read. */
export function readRuns(m: Machine, runs: readonly Run[]): Word {
  const { memory } = m.f;
  const [only] = runs;
  if (only !== undefined && isWord(m, only))
    return { lo: memory.get(offsetOf(m, only)), hi: memory.get(offsetOf(m, only) + 1) };
  const halves = [0, 0];
  let shift = 0;
  for (const run of runs)
    for (let i = 0; i < run.count; i += 1, shift += 8) {
      const at = run.offset + i;
      const start = run.mfn * m.geometry.wordsPerFrame * 2;
      const half = run.mfn < m.geometry.frameCount ? memory.get(start + (at >>> 2)) : -1;
      const byte = (half >>> ((at & 3) * 8)) & 0xff;
      halves[shift >>> 5] = ((halves[shift >>> 5] as number) | (byte << (shift & 31))) >>> 0;
    }
  return { lo: halves[0] as number, hi: halves[1] as number };
}

/** Writes the low bytes of `value` to the runs, in one act. Where there is no memory, nothing happens. */
export function writeRuns(m: Machine, runs: readonly Run[], value: Word): void {
  const { memory } = m.f;
  const [only] = runs;
  if (only !== undefined && isWord(m, only)) {
    memory.set(offsetOf(m, only), value.lo);
    memory.set(offsetOf(m, only) + 1, value.hi);
    return;
  }
  let shift = 0;
  for (const run of runs)
    for (let i = 0; i < run.count; i += 1, shift += 8) {
      if (run.mfn >= m.geometry.frameCount) continue;
      const at = run.offset + i;
      const index = run.mfn * m.geometry.wordsPerFrame * 2 + (at >>> 2);
      const byte = ((shift < 32 ? value.lo : value.hi) >>> (shift & 31)) & 0xff;
      const place = (at & 3) * 8;
      memory.set(index, (memory.get(index) & ~(0xff << place)) | (byte << place));
    }
}

/** The low `size` bytes of a word. */
export const lowBytes = ({ lo, hi }: Word, size: number): Word => ({
  lo: size >= 4 ? lo : (lo & ((1 << (size * 8)) - 1)) >>> 0,
  hi: size >= 8 ? hi : size <= 4 ? 0 : (hi & ((1 << ((size - 4) * 8)) - 1)) >>> 0,
});
