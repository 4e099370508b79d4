// Uses of a frame by its type end. With the last use of a table its entries are let go of, which may be the last use of the tables below:
// level by level, until nothing hangs on it. Who comes by meanwhile waits for whoever does this.
// A first reader may begin at `putType`. Sources: Xen arch/x86/mm.c (_put_page_type, free_page_type, free_l1_table to free_l4_table,
// put_page_from_l1e to put_page_from_l4e).

import { tableEntries } from '#abi/geometry.ts';
import { invariant } from '#lib/invariant.ts';
import type { Machine } from '../machine.ts';
import { putReference } from '../memory/frames.ts';
import type { Step } from '../port.ts';
import { frameIn, isPresent, isWritable, isXenSlot, levelOfCode, WRITABLE, type Entry } from './entry.ts';
import { isMemory, ownSlot, tableOf } from './frames.ts';

/** A frame that is used, or about to be used, as a table. */
export interface Table {
  readonly mfn: number;
  readonly level: number;
  readonly owner: number;
}

/** One use of a frame by its type less. */
export function* putType(m: Machine, mfn: number): Step<void> {
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
  if (type === WRITABLE || count > 1) {
    setCount(m, mfn, count - 1);
    return;
  }
  frameValidated.set(mfn, 0);
  frameValidator.set(mfn, ownSlot(m));
  const table = { mfn, level: levelOfCode(type), owner: frameOwner.get(mfn) - 1 };
  const last = tableEntries(m.geometry) - 1;
  if (table.level === 1) yield* letGoOf(m, table, { from: 0, to: last });
  else yield* letGoOf(m, table, { from: last, to: 0 });
  yield* m.port.point('store', 'frame');
  frameValidator.set(mfn, 0);
  setCount(m, mfn, 0);
}

/** Counts; and notes when a frame was used by its type last, for processors may still know it so. */
export function setCount(m: Machine, mfn: number, count: number): void {
  m.f.frameTypeCount.set(mfn, count);
  if (count === 0) m.f.frameTypeStamp.set(mfn, m.f.tlbClock.get(0));
}

/** Lets go of the entries of a table from one to another, up or down; what is absent or the hypervisor's is passed over. */
export function* letGoOf(
  m: Machine,
  table: Table,
  { from, to }: { readonly from: number; readonly to: number },
): Step<void> {
  const { mfn, level, owner } = table;
  const by = from <= to ? 1 : -1;
  for (let index = from; index !== to + by; index += by) {
    if (isXenSlot(m, level, index) || !isPresent(entryAt(m, table, index))) continue;
    yield* m.port.load(tableOf(owner), 'table', { mfn, index });
    yield* letGo(m, level, { lo: m.port.lo, hi: m.port.hi });
  }
}

/** An entry as it stands. */
export function entryAt(m: Machine, { mfn, owner }: Table, index: number): Entry {
  const lo = m.port.peek(tableOf(owner), { mfn, index });
  return { lo, hi: m.port.hi };
}

/** Lets go of what a present entry of a table at `level` holds. */
export function* letGo(m: Machine, level: number, entry: Entry): Step<void> {
  const mfn = frameIn(entry);
  if (level === 1 && !isMemory(m, mfn)) return;
  if (level > 1 || isWritable(entry)) yield* putType(m, mfn);
  yield* putReference(m, mfn);
}

/** Lets go of a frame that is held, and used by its type. */
export function* putPageAndType(m: Machine, mfn: number): Step<void> {
  yield* putType(m, mfn);
  yield* putReference(m, mfn);
}
