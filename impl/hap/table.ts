// The P2M of a domain is its nested page tables, as in Xen. Here: what a gfn means (software walk), the P2M lock with its
// deferred flush, the one way of changing entries, and the end of the tables.
// Everything that changes tables holds the P2M lock. The flush that a change owes comes at the outermost unlock, after the
// lock is released, or before a table page that the change unhooked goes back to the pool (XSA-480).
// A first reader may skip `forEachLeaf`. Sources: Xen mm/p2m-ept.c (ept_get_entry, ept_set_entry), mm/p2m.c
// (p2m_unlock_and_tlb_flush, p2m_tlb_flush_sync, p2m_teardown).

import type { P2mAccess, P2mType } from '#abi/hap.ts';
import { framesPerLeaf, gfnCount, tableEntries } from '#abi/geometry.ts';
import { pow2 } from '#lib/bits.ts';
import { invariant, present } from '#lib/invariant.ts';
import type { Machine } from '../machine.ts';
import type { Step } from '../port.ts';
import { adoptRoot, flushDomain, markFlush } from '../tlb/flush.ts';
import { apply, missing, type Job, type Node } from './change.ts';
import { accessCodeOf, accessOf, codeOf, entryAt, isFramelessCode, typeOf } from './entry.ts';
import { giveTree, reserve } from './pages.ts';

/** What a gfn means: the very frame, its type, what is left of that, the level of the leaf it was found in. */
export interface Found {
  readonly mfn: number;
  readonly type: P2mType;
  readonly access: P2mAccess;
  readonly level: number;
}

/** 2^order gfns from `gfn` on become as many frames from `mfn` on (type 'none': nothing). */
export interface Change {
  readonly gfn: number;
  readonly order: number;
  readonly mfn: number;
  readonly type: P2mType;
  /** What is left of its rights; absent: what the domain's new entries leave. */
  readonly access?: P2mAccess;
  /** Parts of the operation complete by then, for the log of a refusal. */
  readonly done?: number;
  /** Table pages reserved beforehand, of which the change takes what it needs; absent: it asks the pool. */
  readonly pages?: number[];
}

/** A gfn, and the aligned run of 2^order gfns around it that one entry covers. Frameless types have frame 0. */
export interface Piece {
  readonly type: P2mType;
  readonly mfn: number;
  readonly order: number;
}

/** What `gfn` is covered by, a hole (type 'none') as well as a leaf; beyond the address space, and without tables, one hole. */
export function pieceAt(m: Machine, dom: number, gfn: number): Piece {
  const { codeIn, frameIn, isTable } = m.entries;
  const { levels, bitsPerLevel } = m.geometry;
  let table = m.f.domRoot.get(dom);
  const isNowhere = table === 0 || !(gfn >= 0 && gfn < gfnCount(m.geometry));
  for (let level = levels; level > 0 && !isNowhere; level -= 1) {
    const span = framesPerLeaf(m.geometry, level);
    const at = entryAt(m, table, Math.floor(gfn / span) % tableEntries(m.geometry));
    const low = m.f.memory.get(at);
    const high = m.f.memory.get(at + 1);
    const code = codeIn(high);
    const order = (level - 1) * bitsPerLevel;
    const frame = frameIn(low, high);
    if (code !== 0) return { type: typeOf(code), mfn: isFramelessCode(code) ? 0 : frame + (gfn % span), order };
    if (!isTable(low, high)) return { type: 'none', mfn: 0, order };
    table = frame;
  }
  return { type: 'none', mfn: 0, order: levels * bitsPerLevel };
}

/** What `gfn` means to domain `dom`; undefined: nothing. What has no frame yet has frame 0. */
export function lookup(m: Machine, dom: number, gfn: number): Found | undefined {
  const { accessIn, codeIn, frameIn, isTable } = m.entries;
  const { geometry } = m;
  const entries = tableEntries(geometry);
  let table = m.f.domRoot.get(dom);
  if (table === 0 || !(gfn >= 0 && gfn < gfnCount(geometry))) return undefined;
  let span = framesPerLeaf(geometry, geometry.levels);
  let rest = gfn;
  for (let { levels: level } = geometry; level > 0; level -= 1) {
    const index = Math.floor(rest / span);
    const at = entryAt(m, table, index);
    const low = m.f.memory.get(at);
    const high = m.f.memory.get(at + 1);
    const code = codeIn(high);
    rest -= index * span;
    span /= entries;
    if (code !== 0) {
      const mfn = isFramelessCode(code) ? 0 : frameIn(low, high) + rest;
      return { mfn, type: typeOf(code), access: accessOf(accessIn(high)), level };
    }
    if (!isTable(low, high)) return undefined;
    table = frameIn(low, high);
  }
  return undefined;
}

/** The level of the entry that ends the look-up of `gfn`, a leaf or nothing: from there on down there is no table. */
export function levelOf(m: Machine, dom: number, gfn: number): number {
  const { codeIn, frameIn, isTable } = m.entries;
  const { geometry } = m;
  let table = m.f.domRoot.get(dom);
  if (table === 0 || gfn >= gfnCount(geometry)) return geometry.levels;
  for (let { levels: level } = geometry; level > 1; level -= 1) {
    const index = Math.floor(gfn / framesPerLeaf(geometry, level)) % tableEntries(geometry);
    const at = entryAt(m, table, index);
    const low = m.f.memory.get(at);
    const high = m.f.memory.get(at + 1);
    if (codeIn(high) !== 0 || !isTable(low, high)) return level;
    table = frameIn(low, high);
  }
  return 1;
}

/** Calls `visit` for every leaf of `dom`, gfns ascending; a superpage is one leaf of 2^order frames. */
export function forEachLeaf(
  m: Machine,
  dom: number,
  visit: (gfn: number, leaf: Found & { readonly frames: number }) => void,
): void {
  const { accessIn, codeIn, frameIn, isTable } = m.entries;
  const go = ({ table, level, base }: Node): void => {
    const frames = framesPerLeaf(m.geometry, level);
    for (let index = 0; index < tableEntries(m.geometry); index += 1) {
      const at = entryAt(m, table, index);
      const low = m.f.memory.get(at);
      const high = m.f.memory.get(at + 1);
      const gfn = base + index * frames;
      const mfn = frameIn(low, high);
      const access = accessOf(accessIn(high));
      if (codeIn(high) !== 0) visit(gfn, { mfn, type: typeOf(codeIn(high)), access, level, frames });
      else if (isTable(low, high)) go({ table: mfn, level: level - 1, base: gfn });
    }
  };
  const table = m.f.domRoot.get(dom);
  if (table !== 0) go({ table, level: m.geometry.levels, base: 0 });
}

const slotOfRunning = (m: Machine): number => present(m.port.current, 'hypervisor code runs within an execution').slot;

const holdsP2m = (m: Machine, dom: number): boolean => m.f.p2mLock.get(dom) === slotOfRunning(m);

/** Takes the P2M lock of `dom`; its holder may take it again. Until the last unlock flushes are deferred. */
export function* lockP2m(m: Machine, dom: number): Step<void> {
  if (!holdsP2m(m, dom)) yield* m.port.lock('p2mLock', m.f.p2mLock, dom);
  m.f.p2mDepth.add(dom, 1);
  m.f.p2mDefer.add(dom, 1);
}

/** Gives the P2M lock back; the outermost unlock then flushes what is owed, the lock already released. */
export function* unlockP2m(m: Machine, dom: number): Step<void> {
  invariant(holdsP2m(m, dom), 'the P2M lock is given back by its holder');
  const isOutermost = m.f.p2mDepth.add(dom, -1) === 0;
  const isOwed = m.f.p2mDefer.add(dom, -1) === 0 && m.f.p2mNeedFlush.get(dom) !== 0;
  if (isOwed) m.f.p2mNeedFlush.set(dom, 0);
  if (isOutermost) yield* m.port.unlock('p2mLock', m.f.p2mLock, dom);
  if (isOwed) yield* flushDomain(m, dom);
}

/** Flushes now what would otherwise be flushed at the unlock. */
function* flushOwed(m: Machine, dom: number): Step<void> {
  if (m.f.p2mNeedFlush.get(dom) === 0) return;
  m.f.p2mNeedFlush.set(dom, 0);
  yield* flushDomain(m, dom);
}

const jobOf = (m: Machine, dom: number, { gfn, order, mfn, type, access }: Change): Job => ({
  gfn,
  end: gfn + pow2(order),
  mfn,
  code: codeOf(type),
  access: access === undefined ? m.f.domAccess.get(dom) : accessCodeOf(access),
  spare: [],
  orphans: [],
  changed: false,
});

const rootOf = (m: Machine, dom: number): Node => ({
  table: m.f.domRoot.get(dom),
  level: m.geometry.levels,
  base: 0,
});

/** How many table pages `change` takes as the tables are now, the root among them if there is none. */
export function tablesFor(m: Machine, dom: number, change: Change): number {
  const root = rootOf(m, dom);
  if (root.table === 0 && change.type === 'none') return 0;
  return missing(m, jobOf(m, dom, change), root) + (root.table === 0 ? 1 : 0);
}

/** The highest gfn that was ever mapped is `gfn`, if none above it was. */
export function noteMapped(m: Machine, dom: number, gfn: number): void {
  if (gfn > m.f.domMaxGfn.getWide(dom)) m.f.domMaxGfn.setWide(dom, gfn);
}

/**
 * Changes the P2M of `dom`, the P2M lock held. False: the pool refused a table, and nothing has changed. `entered` is done in
 * the same act as the change: what else says where frames are must not lag behind the tables while processors are flushed.
 */
export function* setEntry(m: Machine, dom: number, change: Change, entered: () => void): Step<boolean> {
  invariant(holdsP2m(m, dom), 'the P2M is changed under its lock');
  invariant(change.gfn + pow2(change.order) <= gfnCount(m.geometry), 'a change lies within the address space');
  const job = jobOf(m, dom, change);
  const hasRoot = m.f.domRoot.get(dom) !== 0;
  if (!hasRoot && job.code === 0) {
    entered();
    return true;
  }
  const count = tablesFor(m, dom, change);
  const pages = change.pages?.splice(0, count) ?? (yield* reserve(m, dom, { count, done: change.done }));
  if (pages === undefined) return false;
  job.spare.push(...pages);
  if (!hasRoot) yield* adoptRoot(m, dom, present(job.spare.pop(), 'the root was counted'));
  yield* m.port.point('store', 'table');
  apply(m, job, rootOf(m, dom));
  entered();
  if (job.code !== 0) noteMapped(m, dom, job.end - 1);
  invariant(job.spare.length === 0, 'a change takes as many tables as were counted');
  if (!job.changed) return true;
  markFlush(m, dom);
  m.f.p2mNeedFlush.set(dom, 1);
  if (job.orphans.length > 0) yield* flushOwed(m, dom);
  for (const orphan of job.orphans) yield* giveTree(m, dom, orphan);
  return true;
}

/** Gives all tables of a dying domain back to its pool. Nothing runs it, so nothing is flushed; its root is gone first. */
export function* freeTables(m: Machine, dom: number): Step<void> {
  const table = m.f.domRoot.get(dom);
  if (table === 0) return;
  m.f.domRoot.set(dom, 0);
  yield* giveTree(m, dom, { table, level: m.geometry.levels });
}
