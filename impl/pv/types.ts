// Frames come to be used by a type: as memory that is written, or as tables of a level. As long as one use is left a frame has no other
// type, so nobody writes what a processor walks. A table is looked through when its first use begins: every entry of it is checked and
// holds what it leads to, the tables below looked through in turn.
// A first reader may begin at `getType`. Sources: Xen arch/x86/mm.c (_get_page_type, validate_page, alloc_l1_table to alloc_l4_table,
// get_page_from_l1e to get_page_from_l4e, get_page_and_type_from_mfn).

import type { Mfn } from '#abi/address.ts';
import { tableEntries } from '#abi/geometry.ts';
import type { Errno } from '#abi/reply.ts';
import { frameRoles } from '#abi/roles.ts';
import type { Machine } from '../machine.ts';
import { putReference } from '../memory/frames.ts';
import { isPermitted, isPermittedSome } from '../memory/permissions.ts';
import type { Step } from '../port.ts';
import { flushNative, usersSince } from '../tlb/flush.ts';
import { fitDescriptors } from './descriptors.ts';
import {
  adjusted,
  codeOfLevel,
  DESCRIPTORS,
  frameIn,
  FRAME_MAX,
  hasCacheBits,
  isPresent,
  isRefused,
  isWritable,
  isXenSlot,
  levelOfCode,
  uncached,
  WRITABLE,
  type Entry,
} from './entry.ts';
import { countMax, getPage, isMemory, ownSlot, running, tableOf, takePartial, type Progress } from './frames.ts';
import { takeLinear } from './linear.ts';
import { entryAt, isDivided, letGoOf, park, putType, setCount, type Stopped, type Table } from './release.ts';

const RAM = frameRoles.indexOf('ram');

/** Why a frame is not used so, or not yet. */
export type Unfit = Errno | Stopped;

/** One use more of a frame, which is held, by type `code`; or why not. */
export function* getType(m: Machine, mfn: number, code: number): Step<Unfit | undefined> {
  const { frameType, frameTypeCount, frameTypeStamp, frameValidated, frameValidator, frameOwner, pageLock } = m.f;
  yield* m.port.point('reference', 'frame');
  for (;;) {
    const count = frameTypeCount.get(mfn);
    if (count + (pageLock.get(mfn) === 0 ? 0 : 1) === countMax(m)) return 'EINVAL';
    if (count === 0) break;
    if (frameType.get(mfn) !== code) return 'EINVAL';
    if (frameValidated.get(mfn) !== 0) {
      frameTypeCount.set(mfn, count + 1);
      return undefined;
    }
    const progress = takePartial(m, mfn);
    if (progress !== undefined) return yield* goOn(m, mfn, progress);
    yield* m.port.wait(frameValidator.get(mfn));
  }
  const isChanged = frameType.get(mfn) !== code;
  frameTypeCount.set(mfn, 1);
  if (!isChanged && frameValidated.get(mfn) !== 0) return undefined;
  frameType.set(mfn, code);
  frameValidated.set(mfn, 0);
  frameValidator.set(mfn, ownSlot(m));
  const owner = frameOwner.get(mfn) - 1;
  if (isChanged) yield* flushNative(m, () => usersSince(m, owner, frameTypeStamp.get(mfn)));
  if (code === WRITABLE) return yield* confirm(m, mfn);
  if (code === DESCRIPTORS) return yield* validateDescriptors(m, mfn, owner);
  return yield* validate(m, { mfn, level: levelOfCode(code), owner });
}

/** Goes on with a table that was left partial. Whoever wants it holds it, so that the reference of its own can go. */
function* goOn(m: Machine, mfn: number, { entries, holds }: Progress): Step<Unfit | undefined> {
  const { frameRefs, frameOwner, frameType } = m.f;
  frameRefs.set(mfn, frameRefs.get(mfn) - 1);
  const table = { mfn, level: levelOfCode(frameType.get(mfn)), owner: frameOwner.get(mfn) - 1 };
  return yield* validate(m, table, { index: entries, holds });
}

/** The frame is what its type says. */
function* confirm(m: Machine, mfn: number): Step<undefined> {
  yield* m.port.point('store', 'frame');
  m.f.frameValidated.set(mfn, 1);
  m.f.frameValidator.set(mfn, 0);
}

/** Looks all descriptors of a frame through, and changes those that may not stand as they are. */
function* validateDescriptors(m: Machine, mfn: number, owner: number): Step<'EINVAL' | undefined> {
  yield* m.port.point('load', 'table');
  const changed = fitDescriptors(m, mfn, owner);
  if (changed === undefined) {
    yield* forget(m, mfn);
    return 'EINVAL';
  }
  if (changed.length > 0) {
    yield* m.port.point('store', 'table');
    for (const one of changed) m.port.poke(tableOf(owner), { mfn, ...one });
  }
  return yield* confirm(m, mfn);
}

/** The frame is used as nothing. */
function* forget(m: Machine, mfn: number): Step<void> {
  yield* m.port.point('store', 'frame');
  m.f.frameType.set(mfn, 0);
  m.f.frameValidator.set(mfn, 0);
  setCount(m, mfn, 0);
}

/** Where looking through begins, and whether that entry holds its frame already. */
interface Begin {
  readonly index: number;
  readonly holds: boolean;
}

const FIRST: Begin = { index: 0, holds: false };

/** Looks a table through; the error of the first entry that may not be. */
function* validate(m: Machine, table: Table, from = FIRST): Step<Unfit | undefined> {
  const { mfn, level, owner } = table;
  let isFirst = true;
  for (let { index } = from; index < tableEntries(m.geometry); index += 1) {
    if (isXenSlot(m, level, index) || !isPresent(entryAt(m, table, index))) continue;
    const isChecked = isDivided(level) && !isFirst;
    if (isChecked && m.port.preemptsWithin({ mfn: mfn as Mfn, index, way: 'takes' }))
      return yield* park(m, mfn, { entries: index, holds: false, keeps: false });
    isFirst = false;
    const holds = from.holds && index === from.index;
    yield* m.port.load(tableOf(owner), 'table', { mfn, index });
    const { lo, hi } = m.port;
    const taken = refusal(m, table, { lo, hi }) ?? (yield* takeEntry(m, table, { lo, hi, holds, retains: true }));
    if (taken === 'restart') return yield* park(m, mfn, { entries: index, holds: true, keeps: false });
    if (typeof taken === 'string') {
      yield* giveUp(m, table, { index, holds });
      return taken;
    }
    if (taken.lo !== lo || taken.hi !== hi) yield* m.port.store(tableOf(owner), 'table', { mfn, index, ...taken });
  }
  if (level === m.geometry.levels) yield* clearXenSlots(m, table);
  return yield* confirm(m, mfn);
}

/** What the hypervisor has in every root is nothing here: its own memory is not mapped. */
function* clearXenSlots(m: Machine, table: Table): Step<void> {
  const { from, count } = m.geometry.rootSlots;
  const { mfn, owner } = table;
  const slots = Array.from({ length: count }, (_, i) => from + i);
  const filled = slots.filter((index) => {
    const { lo, hi } = entryAt(m, table, index);
    return lo !== 0 || hi !== 0;
  });
  if (filled.length === 0) return;
  yield* m.port.point('store', 'table');
  for (const index of filled) m.port.poke(tableOf(owner), { mfn, index, lo: 0, hi: 0 });
}

/**
 * The entry at `index` may not be. Those of a lowest table before it are let go of at once; a higher table is left partial and parked, and
 * holds the table below that was parked for the same reason. With nothing held the type is forgotten.
 */
function* giveUp(m: Machine, table: Table, { index, holds }: Begin): Step<void> {
  const { mfn, level } = table;
  const current = running(m);
  const isHeld = holds || current.parked !== 0;
  if (level > 1 && (index > 0 || isHeld)) {
    yield* park(m, mfn, { entries: index, holds: isHeld, keeps: false });
    current.parked = mfn;
    return;
  }
  if (level === 1 && index > 0) yield* letGoOf(m, table, { from: index - 1, to: 0 });
  yield* forget(m, mfn);
}

/** What is wrong with the flags of an entry. */
export const refusal = (m: Machine, { level, owner }: Table, entry: Entry): 'EINVAL' | undefined =>
  isRefused(entry, level, isPermittedSome(m, owner)) ? 'EINVAL' : undefined;

/** An entry that is to be taken. `holds`: it holds its frame already. `retains`: it goes on holding it when that is left partial. */
interface Wanted extends Entry {
  readonly holds?: boolean | undefined;
  readonly retains?: boolean | undefined;
}

/** Holds what a present entry leads to; the entry as it may stand then, or why it may not. */
export function* takeEntry(m: Machine, table: Table, entry: Wanted): Step<Entry | Unfit> {
  const { level, owner } = table;
  const wanted = adjusted(entry, level, level === m.geometry.levels);
  if (level === 1) return yield* takeLeaf(m, owner, wanted);
  const unfit = yield* takeBelow(m, owner, { ...wanted, level, holds: entry.holds, retains: entry.retains });
  if (unfit !== 'EINVAL' || running(m).parked === frameIn(wanted)) return unfit ?? wanted;
  return (yield* takeLinear(m, table, wanted, entry.holds === true)) ?? wanted;
}

/** The same of an entry for a table of the level below. */
function* takeBelow(m: Machine, owner: number, entry: Wanted & { readonly level: number }): Step<Unfit | undefined> {
  const mfn = frameIn(entry);
  const isHeld = entry.holds === true;
  if (!isHeld && !(yield* getPage(m, mfn, owner))) return 'EINVAL';
  const unfit = yield* getType(m, mfn, codeOfLevel(entry.level - 1));
  const isRetained = unfit === 'restart' ? entry.retains === true : running(m).parked === mfn;
  if (unfit !== undefined && !isHeld && !isRetained) yield* putReference(m, mfn);
  return unfit;
}

/** The same of an entry for a page: of the owner's, or of a device that it may be given. */
function* takeLeaf(m: Machine, owner: number, entry: Entry): Step<Entry | Errno> {
  const mfn = frameIn(entry);
  if (!isMemory(m, mfn)) {
    if (isPermitted(m, owner, { mfn, count: 1 })) return uncached(entry);
    return mfn === FRAME_MAX ? 'EINVAL' : 'EPERM';
  }
  if (!(yield* getPage(m, mfn, owner))) return 'EBUSY';
  if (isWritable(entry) && (yield* getType(m, mfn, WRITABLE)) !== undefined) {
    yield* putReference(m, mfn);
    return 'EBUSY';
  }
  if (!hasCacheBits(entry) || m.f.frameRole.get(mfn) === RAM) return entry;
  // What the hypervisor uses as well is cached in no way but its own.
  if (isWritable(entry)) yield* putType(m, mfn);
  yield* putReference(m, mfn);
  return 'EACCES';
}
