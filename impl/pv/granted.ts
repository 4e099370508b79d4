// Frames of others in the tables of a paravirtual guest. A grant operation puts them there, and takes them away: it finds the entry by
// linear frame or by machine address, in a lowest table of the guest's own. Meanwhile the entry holds the frame, and its use as
// writable memory; so it does not matter how it goes.
// A first reader may begin at `createEntry`. Sources: Xen arch/x86/pv/grant_table.c (create_grant_pv_mapping,
// steal_linear_address, replace_grant_pv_mapping), arch/x86/mm.c (put_page_from_l1e).

import type { VcpuAgent } from '#abi/agents.ts';
import { mapFlags } from '#abi/grants.ts';
import { tableFlags } from '#abi/paging.ts';
import { pvBits } from '#abi/pv.ts';
import { bit, field, hasAny, pow2 } from '#lib/bits.ts';
import type { Machine } from '../machine.ts';
import { putReference } from '../memory/frames.ts';
import { inTables, isCanonical } from '../paging/pages.ts';
import type { Step } from '../port.ts';
import { adjusted, codeOfLevel, frameIn, indexIn, isPresent, isWritable, type Entry } from './entry.ts';
import { getPage, lockPage, tableOf, unlockPage } from './frames.ts';
import { tableFor } from './mapping.ts';
import { letGoOfLeaf } from './release.ts';

/** An entry of a lowest table: about a linear frame of a vCPU's kernel, or so many bytes from the beginning of a frame. */
export type Place =
  | { readonly by: 'page'; readonly page: number }
  | { readonly by: 'address'; readonly mfn: number; readonly offset: number };

/** A mapping that must be found where an entry is taken away: of a frame in a life of it, writable or not. */
export interface Sought {
  readonly mfn: number;
  readonly incarnation: number;
  readonly writes: boolean;
}

const NOTHING: Entry = { lo: 0, hi: 0 };
const NO_EXECUTE = bit(31);
const AVAILABLE_FROM = 16;
const WORD_BYTES = 8;

/** What maps a granted frame, by map flags. */
function entryFor(mfn: number, flags: number): Entry {
  const { present, write, user, accessed, dirty } = tableFlags;
  const available = field(flags, AVAILABLE_FROM, pvBits.availableCount);
  const lo =
    present +
    accessed +
    dirty +
    (hasAny(flags, mapFlags.applicationMap) ? user : 0) +
    (hasAny(flags, mapFlags.readOnly) ? 0 : write) +
    available * pow2(pvBits.availableFrom) +
    (mfn % pow2(20)) * pow2(12);
  return adjusted({ lo, hi: Math.floor(mfn / pow2(20)) + NO_EXECUTE }, 1, false);
}

/** The table and the entry in it; -1: there is none. */
function* findTable(
  m: Machine,
  agent: VcpuAgent,
  place: Place,
): Step<{ readonly mfn: number; readonly index: number }> {
  if (place.by === 'address') {
    const index = Math.floor(place.offset / WORD_BYTES) % m.geometry.wordsPerFrame;
    return { mfn: place.offset % WORD_BYTES === 0 ? place.mfn : -1, index };
  }
  if (!isCanonical(m, place.page)) return { mfn: -1, index: 0 };
  const page = inTables(m, place.page);
  return { mfn: yield* tableFor(m, agent, page), index: indexIn(m, 1, page) };
}

/**
 * Writes an entry, if the place is one of a lowest table, and what is there is what is `sought` (undefined: whatever it is). Answers
 * what was there, which keeps its holds; undefined: nothing has changed.
 */
function* exchangeEntry(
  m: Machine,
  agent: VcpuAgent,
  of: { readonly place: Place; readonly sought?: Sought; readonly entry: Entry },
): Step<Entry | undefined> {
  const { mfn, index } = yield* findTable(m, agent, of.place);
  if (mfn < 0 || !(yield* getPage(m, mfn, agent.domain))) return undefined;
  const isLocked = yield* lockPage(m, mfn);
  const isTable = isLocked && m.f.frameType.get(mfn) === codeOfLevel(1);
  const old = isTable ? yield* exchangeLocked(m, agent, { mfn, index, sought: of.sought, entry: of.entry }) : undefined;
  if (isLocked) yield* unlockPage(m, mfn);
  yield* putReference(m, mfn);
  return old;
}

function* exchangeLocked(
  m: Machine,
  { domain }: VcpuAgent,
  of: { readonly mfn: number; readonly index: number; readonly sought: Sought | undefined; readonly entry: Entry },
): Step<Entry | undefined> {
  const { mfn, index, sought, entry } = of;
  yield* m.port.load(tableOf(domain), 'table', { mfn, index });
  const old = { lo: m.port.lo, hi: m.port.hi };
  if (sought !== undefined && !isSought(m, old, sought)) return undefined;
  yield* m.port.store(tableOf(domain), 'table', { mfn, index, ...entry });
  return old;
}

/** Whether an entry is a mapping of the grant: this frame, as it was then, with these rights. */
const isSought = (m: Machine, entry: Entry, { mfn, incarnation, writes }: Sought): boolean =>
  isPresent(entry) &&
  frameIn(entry) === mfn &&
  m.f.frameIncarnation.get(mfn) === incarnation &&
  isWritable(entry) === writes;

/** Maps a granted frame, which is held and typed: from then on by the entry. What was there is let go of. False: nothing has changed. */
export function* createEntry(
  m: Machine,
  agent: VcpuAgent,
  of: { readonly place: Place; readonly mfn: number; readonly flags: number },
): Step<boolean> {
  const old = yield* exchangeEntry(m, agent, { place: of.place, entry: entryFor(of.mfn, of.flags) });
  if (old === undefined) return false;
  if (isPresent(old)) yield* letGoOfLeaf(m, agent.domain, old);
  return true;
}

/** What came of taking a mapping away: whether it did, and an entry that is left over then, to be let go of. */
export interface Removed {
  readonly isDone: boolean;
  readonly left: Entry;
}

/**
 * Takes the mapping of a grant away; what it held is the caller's. `instead`: a linear frame whose entry comes to stand there; it is taken away
 * first, and is left over if the rest fails. 0 below 0: the address is zero, and nothing is to stand there.
 */
export function* removeEntry(
  m: Machine,
  agent: VcpuAgent,
  of: { readonly place: Place; readonly sought: Sought; readonly instead: number | undefined },
): Step<Removed> {
  const { place, sought, instead } = of;
  const failed = { isDone: false, left: NOTHING };
  if (instead === undefined) {
    const old = yield* exchangeEntry(m, agent, { place, sought, entry: NOTHING });
    return old === undefined ? failed : { isDone: true, left: NOTHING };
  }
  if (place.by === 'address') return failed;
  const stolen = yield* exchangeEntry(m, agent, { place: { by: 'page', page: instead }, entry: NOTHING });
  if (stolen === undefined) return failed;
  const old = yield* exchangeEntry(m, agent, { place, sought, entry: stolen });
  return old === undefined ? { isDone: false, left: stolen } : { isDone: true, left: NOTHING };
}
