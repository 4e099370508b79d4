// Uses of a frame by its type end. With the last use of a table its entries are let go of, which may be the last use of the tables below:
// level by level, until nothing hangs on it. Who comes by meanwhile waits for whoever does this.
// A first reader may begin at `putType`. Sources: Xen arch/x86/mm.c (_put_page_type, free_page_type, free_l1_table to free_l4_table,
// put_page_from_l1e to put_page_from_l4e).

import type { Mfn } from '#abi/address.ts';
import { tableEntries } from '#abi/geometry.ts';
import { invariant } from '#lib/invariant.ts';
import type { Machine } from '../machine.ts';
import { putReference } from '../memory/frames.ts';
import { isParavirtual } from '../memory/target.ts';
import type { Step } from '../port.ts';
import { flushNative, pcpusOf } from '../tlb/flush.ts';
import { DESCRIPTORS, frameIn, isPresent, isWritable, isXenSlot, levelOfCode, WRITABLE, type Entry } from './entry.ts';
import { dropEntry, endUse as endLinearUse, isLinear } from './linear.ts';
import { isMemory, ownSlot, running, setPartial, tableOf, takePartial, type Progress } from './frames.ts';

/** A frame that is used, or about to be used, as a table. */
export interface Table {
  readonly mfn: number;
  readonly level: number;
  readonly owner: number;
}

/** An operation has been told to stop within a table: that is left partial, and is gone on with by whoever comes to it. */
export type Stopped = 'restart';

/**
 * One use of a frame by its type less; or it is a table that is left partial now, and has that use by itself. `isUsedLinear`: by an entry of a
 * table of its own level.
 */
export function* putType(m: Machine, mfn: number, isUsedLinear = false): Step<Stopped | undefined> {
  const { frameType, frameTypeCount, frameValidated, frameValidator, frameOwner, pageLock } = m.f;
  yield* m.port.point('reference', 'frame');
  while (pageLock.get(mfn) !== 0 && frameTypeCount.get(mfn) === 1) {
    invariant(pageLock.get(mfn) !== ownSlot(m), 'who changes a frame does not end its last use');
    yield* m.port.wait(pageLock.get(mfn));
  }
  const count = frameTypeCount.get(mfn);
  invariant(count > 0, 'a use of a frame that ends was counted');
  invariant(frameValidated.get(mfn) !== 0, 'what a frame is used as is valid');
  const type = frameType.get(mfn);
  if (isUsedLinear) endLinearUse(m, mfn);
  if (type === WRITABLE || type === DESCRIPTORS || count > 1) {
    setCount(m, mfn, count - 1);
    return undefined;
  }
  frameValidated.set(mfn, 0);
  frameValidator.set(mfn, ownSlot(m));
  const table = { mfn, level: levelOfCode(type), owner: frameOwner.get(mfn) - 1 };
  const last = tableEntries(m.geometry) - 1;
  if (table.level > 1) return yield* letGoOfTables(m, table, { index: last, holds: false, keeps: false });
  yield* letGoOf(m, table, { from: 0, to: last });
  yield* endUse(m, mfn);
  return undefined;
}

function* endUse(m: Machine, mfn: number): Step<void> {
  yield* m.port.point('store', 'frame');
  m.f.frameValidator.set(mfn, 0);
  setCount(m, mfn, 0);
}

/** Lets go of what a partial table holds, and of its own use and reference; one that is whole, or none, by now is left alone. */
export function* putPartial(m: Machine, mfn: number): Step<Stopped | undefined> {
  const { frameOwner, frameType } = m.f;
  yield* m.port.point('reference', 'frame');
  const progress = takePartial(m, mfn);
  if (progress === undefined) return undefined;
  const { entries, holds } = progress;
  const table = { mfn, level: levelOfCode(frameType.get(mfn)), owner: frameOwner.get(mfn) - 1 };
  return yield* letGoOfTables(m, table, { index: holds ? entries : entries - 1, holds, keeps: true });
}

/** Whether operations look within tables of a level whether they are to stop. Lowest ones are not stopped in, and those of level 4 by what is below. */
export const isDivided = (level: number): boolean => level === 2 || level === 3;

/** Where letting go begins, downwards; whether that entry holds a frame alone; whether the table's reference as a partial one is in hand. */
interface Letting {
  readonly index: number;
  readonly holds: boolean;
  readonly keeps: boolean;
}

/** Lets go of tables, from an entry down. */
function* letGoOfTables(m: Machine, table: Table, { index, holds, keeps }: Letting): Step<Stopped | undefined> {
  const { mfn, level, owner } = table;
  let isFirst = true;
  for (let at = index; at >= 0; at -= 1) {
    if (isXenSlot(m, level, at) || !isPresent(entryAt(m, table, at))) continue;
    const isChecked = isDivided(level) && !isFirst;
    if (isChecked && m.port.preemptsWithin({ mfn: mfn as Mfn, index: at, way: 'drops' }))
      return yield* park(m, mfn, { entries: at + 1, holds: false, keeps });
    isFirst = false;
    yield* m.port.load(tableOf(owner), 'table', { mfn, index: at });
    const below = frameIn({ lo: m.port.lo, hi: m.port.hi });
    if (below === mfn) continue;
    const stopped = holds && at === index ? yield* putPartial(m, below) : yield* putBelow(m, table, below);
    if (stopped !== undefined) return yield* park(m, mfn, { entries: at, holds: true, keeps });
    yield* putReference(m, below);
  }
  yield* endUse(m, mfn);
  if (keeps) yield* putReference(m, mfn);
  return undefined;
}

/** Lets go of a table that an entry of `table` used. */
function* putBelow(m: Machine, table: Table, below: number): Step<Stopped | undefined> {
  const isUsedLinear = isLinear(m, table, below);
  if (isUsedLinear) yield* dropEntry(m, table.mfn);
  return yield* putType(m, below, isUsedLinear);
}

/** Leaves a table partial: its use and a reference are its own from here on. */
export function* park(
  m: Machine,
  mfn: number,
  { entries, holds, keeps }: Progress & { readonly keeps: boolean },
): Step<Stopped> {
  yield* m.port.point('store', 'frame');
  setPartial(m, mfn, { entries, holds });
  m.f.frameValidator.set(mfn, 0);
  // One is spare: see `getReference`.
  if (!keeps) m.f.frameRefs.set(mfn, m.f.frameRefs.get(mfn) + 1);
  return 'restart';
}

/** Counts; and notes when a frame was used by its type last, for processors may still know it so. */
export function setCount(m: Machine, mfn: number, count: number): void {
  m.f.frameTypeCount.set(mfn, count);
  if (count === 0) m.f.frameTypeStamp.set(mfn, m.f.tlbClock.get(0));
}

/** Lets go of the entries of a lowest table from one to another, up or down; what is absent is passed over. */
export function* letGoOf(
  m: Machine,
  table: Table,
  { from, to }: { readonly from: number; readonly to: number },
): Step<void> {
  const { mfn, owner } = table;
  const by = from <= to ? 1 : -1;
  for (let index = from; index !== to + by; index += by) {
    if (!isPresent(entryAt(m, table, index))) continue;
    yield* m.port.load(tableOf(owner), 'table', { mfn, index });
    yield* letGoOfLeaf(m, owner, { lo: m.port.lo, hi: m.port.hi });
  }
}

/** An entry as it stands. */
export function entryAt(m: Machine, { mfn, owner }: Table, index: number): Entry {
  const lo = m.port.peek(tableOf(owner), { mfn, index });
  return { lo, hi: m.port.hi };
}

/** Whether the writable entry of a table of `dom` that leads to a frame counts for the frame's type. Frames of translated guests have none. */
const countsType = (m: Machine, dom: number, mfn: number): boolean => {
  const owner = m.f.frameOwner.get(mfn) - 1;
  return owner === dom || isParavirtual(m, owner);
};

/**
 * Lets go of what a present entry of a lowest table of `dom` holds. A frame of somebody else's its processors forget first: a change of type
 * makes those of the owner forget alone.
 */
export function* letGoOfLeaf(m: Machine, dom: number, entry: Entry): Step<void> {
  const mfn = frameIn(entry);
  if (!isMemory(m, mfn)) return;
  if (m.f.frameOwner.get(mfn) !== dom + 1) yield* flushNative(m, () => pcpusOf(m, dom));
  if (isWritable(entry) && countsType(m, dom, mfn)) yield* putType(m, mfn);
  yield* putReference(m, mfn);
}

/** Lets go of a frame that is held, and used by its type. A table that is left partial by that keeps the reference, and is parked. */
export function* putPageAndType(m: Machine, mfn: number, isUsedLinear = false): Step<Stopped | undefined> {
  const stopped = yield* putType(m, mfn, isUsedLinear);
  if (stopped === undefined) yield* putReference(m, mfn);
  else running(m).parked = mfn;
  return stopped;
}
