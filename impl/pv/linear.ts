// Linear tables: an entry may lead to a table of its own level, for reading, so that a guest sees its tables as memory. The very table is
// none of its own uses. Others count on both sides, in one signed number: a table that has such entries is led to by none, so that
// letting go of one table never reaches further than the next of its level. Only what has been found fit is led to so: to wait
// for that could be to wait for oneself.
// A first reader may skip nothing. Source: Xen arch/x86/mm.c (define_get_linear_pagetable, inc_linear_entries, inc_linear_uses).

import { pow2 } from '#lib/bits.ts';
import { invariant } from '#lib/invariant.ts';
import type { Machine } from '../machine.ts';
import { putReference } from '../memory/frames.ts';
import type { Step } from '../port.ts';
import { codeOfLevel, frameIn, isWritable, type Entry } from './entry.ts';
import { countMax, getPage } from './frames.ts';
import type { Table } from './release.ts';

/** The count of a table: entries that it has; below 0: that lead to it. */
export function linearOf(m: Machine, mfn: number): number {
  const count = m.f.frameLinear.get(mfn);
  return count >= linearLimit(m) ? count - 2 * linearLimit(m) : count;
}

/** The first number that the count does not reach. */
const linearLimit = (m: Machine): number => pow2(m.geometry.width.linear - 1);

const setLinear = (m: Machine, mfn: number, count: number): void =>
  m.f.frameLinear.set(mfn, count < 0 ? count + 2 * linearLimit(m) : count);

/** Holds what an entry leads to as a table of the entry's own level; why it may not lead there. `isHeld`: the frame is held already. */
export function* takeLinear(m: Machine, table: Table, entry: Entry, isHeld: boolean): Step<'EINVAL' | undefined> {
  const mfn = frameIn(entry);
  if (!m.pvLinear || isWritable(entry)) return 'EINVAL';
  if (mfn === table.mfn) return undefined;
  if (!isHeld && !(yield* getPage(m, mfn, table.owner))) return 'EINVAL';
  const isAdded = yield* addEntry(m, table.mfn);
  if (isAdded && (yield* addUse(m, mfn, codeOfLevel(table.level)))) return undefined;
  if (isAdded) yield* dropEntry(m, table.mfn);
  if (!isHeld) yield* putReference(m, mfn);
  return 'EINVAL';
}

function* addEntry(m: Machine, mfn: number): Step<boolean> {
  yield* m.port.point('reference', 'frame');
  const count = linearOf(m, mfn);
  if (count < 0 || count + 1 === linearLimit(m)) return false;
  setLinear(m, mfn, count + 1);
  return true;
}

/** One use more of a table that is fit, as what it is. */
function* addUse(m: Machine, mfn: number, code: number): Step<boolean> {
  const { frameType, frameTypeCount, frameValidated } = m.f;
  yield* m.port.point('reference', 'frame');
  const count = linearOf(m, mfn);
  if (count > 0 || count === -linearLimit(m)) return false;
  const uses = frameTypeCount.get(mfn);
  if (frameType.get(mfn) !== code || frameValidated.get(mfn) === 0 || uses === countMax(m)) return false;
  frameTypeCount.set(mfn, uses + 1);
  setLinear(m, mfn, count - 1);
  return true;
}

/** A table has one linear entry less. */
export function* dropEntry(m: Machine, mfn: number): Step<void> {
  yield* m.port.point('reference', 'frame');
  const count = linearOf(m, mfn);
  invariant(count > 0, 'a linear entry that goes was counted');
  setLinear(m, mfn, count - 1);
}

/** A linear use of a table ends, together with that of its type. */
export function endUse(m: Machine, mfn: number): void {
  const count = linearOf(m, mfn);
  invariant(count < 0, 'a linear use that ends was counted');
  setLinear(m, mfn, count + 1);
}

/** Whether what an entry of a table leads to is used as a table of the same level: another one than that table. */
export const isLinear = (m: Machine, { mfn, level }: Table, to: number): boolean =>
  to !== mfn && m.f.frameType.get(to) === codeOfLevel(level);
