// Writable page tables. A paravirtual guest has its lowest tables mapped for reading, and writes there all the same: the processor
// faults, and the hypervisor makes the write in its stead if that is a change of an entry which it would make when asked. If not,
// the guest hears of its fault. No processor forgets anything: that is left to the guest, as after any change of a lowest table.
// A first reader may begin at `emulateWrite`. Source: Xen arch/x86/pv/ro-page-fault.c (ptwr_do_page_fault, ptwr_emulated_update).

import type { Word } from '#abi/address.ts';
import type { VcpuAgent } from '#abi/agents.ts';
import type { AccessOp } from '#abi/paging.ts';
import { reply, type Reply } from '#abi/reply.ts';
import type { Machine } from '../machine.ts';
import { byteOf, withByte } from '../memory/bytes.ts';
import { putReference } from '../memory/frames.ts';
import { lowBytes } from '../paging/hardware.ts';
import { inTables } from '../paging/pages.ts';
import type { Step } from '../port.ts';
import { adjusted, codeOfLevel, frameIn, indexIn, isPresent, isWritable, type Entry } from './entry.ts';
import { getPage, isOwned, lockPage, tableOf, unlockPage } from './frames.ts';
import { tableFor } from './mapping.ts';
import { letGoOfLeaf, type Table } from './release.ts';
import { refusal, takeEntry } from './types.ts';

/** What writes: the accesses that can be made for a guest. */
export type Write = Extract<AccessOp<'concrete'>, { kind: 'paging.write' | 'paging.compareExchange' }>;

/** Where an access has faulted: its bytes in one linear frame. */
export interface Faulted {
  readonly page: number;
  readonly offset: number;
  readonly count: number;
}

const WORD_BYTES = 8;

/** A word with one of its bytes replaced. */
const changed = ({ lo, hi }: Word, at: { readonly i: number; readonly value: number }): Word => ({
  lo: withByte(0, lo, at),
  hi: withByte(1, hi, at),
});

/** `count` bytes of a word, from the `from`-th on. */
function bytesFrom({ lo, hi }: Word, from: number, count: number): Word {
  let low: Word = { lo: 0, hi: 0 };
  for (let i = 0; i < count; i += 1) low = changed(low, { i, value: byteOf(from + i, lo, hi) });
  return low;
}

/** `word` with `count` bytes of `value` in it, from the `from`-th on. */
function withBytes(word: Word, { lo, hi }: Word, from: number, count: number): Word {
  let now = word;
  for (let i = 0; i < count; i += 1) now = changed(now, { i: from + i, value: byteOf(i, lo, hi) });
  return now;
}

const isSame = (a: Word, b: Word): boolean => a.lo === b.lo && a.hi === b.hi;

/** An instruction writes 1, 2, 4 or 8 bytes; only naturally aligned writes are made for a guest. */
const isAligned = ({ size }: Write, { offset, count }: Faulted): boolean =>
  count === size && [1, 2, 4, WORD_BYTES].includes(size) && offset % size === 0;

/** The entry of a linear frame, if it is one for reading alone. */
function* leafOf(m: Machine, agent: VcpuAgent, page: number): Step<Entry | undefined> {
  const mfn = yield* tableFor(m, agent, page);
  if (mfn < 0) return undefined;
  yield* m.port.point('load', 'table');
  if (!isOwned(m, mfn, agent.domain)) return undefined;
  const lo = m.port.peek({ domain: agent.domain, purpose: 'guest' }, { mfn, index: indexIn(m, 1, page) });
  const leaf = { lo, hi: m.port.hi };
  return isPresent(leaf) && !isWritable(leaf) ? leaf : undefined;
}

/** Makes a write for the kernel of a guest that has faulted; undefined: that is no change of a lowest table, or none that may be. */
export function* emulateWrite(m: Machine, agent: VcpuAgent, op: Write, at: Faulted): Step<Reply | undefined> {
  const leaf = yield* leafOf(m, agent, inTables(m, at.page));
  if (leaf === undefined) return undefined;
  const mfn = frameIn(leaf);
  if (!(yield* getPage(m, mfn, agent.domain))) return undefined;
  const isLocked = yield* lockPage(m, mfn);
  const isTable = isLocked && m.f.frameType.get(mfn) === codeOfLevel(1);
  const table = { mfn, level: 1, owner: agent.domain };
  const answer = isTable && isAligned(op, at) ? yield* change(m, table, op, at.offset) : undefined;
  if (isLocked) yield* unlockPage(m, mfn);
  yield* putReference(m, mfn);
  return answer;
}

function* loadEntry(m: Machine, { mfn, owner }: Table, index: number): Step<Entry> {
  yield* m.port.load(tableOf(owner), 'table', { mfn, index });
  return { lo: m.port.lo, hi: m.port.hi };
}

/** Changes the bytes at `offset` of a table that is locked; undefined: what comes of it may not stand there. */
function* change(m: Machine, table: Table, op: Write, offset: number): Step<Reply | undefined> {
  const index = Math.floor(offset / WORD_BYTES);
  const from = offset % WORD_BYTES;
  const { size } = op;
  if (op.kind === 'paging.compareExchange') {
    const seen = bytesFrom(yield* loadEntry(m, table, index), from, size);
    if (!isSame(seen, lowBytes(op.expected, size))) return reply('ok', { words: [seen] });
  }
  const rest = size === WORD_BYTES ? { lo: 0, hi: 0 } : yield* loadEntry(m, table, index);
  const wanted = withBytes(rest, op.value, from, size);
  const taken = isPresent(wanted) ? (refusal(m, table, wanted) ?? (yield* takeEntry(m, table, wanted))) : wanted;
  if (typeof taken === 'string') return undefined;
  const entry = isPresent(taken) ? adjusted(taken, 1, false) : taken;
  if (op.kind === 'paging.write') return yield* store(m, table, { index, entry });
  const expected = withBytes(rest, op.expected, from, size);
  const there = yield* exchange(m, table, { index, entry, expected });
  return reply('ok', { words: [bytesFrom(there, from, size)] });
}

/** A write: what stood there is let go of. */
function* store(m: Machine, table: Table, { index, entry }: { index: number; entry: Entry }): Step<Reply> {
  const old = yield* loadEntry(m, table, index);
  yield* m.port.store(tableOf(table.owner), 'table', { mfn: table.mfn, index, ...entry });
  if (isPresent(old)) yield* letGoOfLeaf(m, table.owner, old);
  return reply('ok');
}

/** A compare-exchange: what it finds. Processors may have set flags there since it was read, and then nothing is changed. */
function* exchange(
  m: Machine,
  { mfn, owner }: Table,
  { index, entry, expected }: { index: number; entry: Entry; expected: Entry },
): Step<Entry> {
  yield* m.port.point('compareExchange', 'table');
  const there = { lo: m.port.peek(tableOf(owner), { mfn, index }), hi: m.port.hi };
  const isExpected = isSame(there, expected);
  if (isExpected) m.port.poke(tableOf(owner), { mfn, index, lo: entry.lo, hi: entry.hi });
  const leaving = isExpected ? expected : entry;
  if (isPresent(leaving)) yield* letGoOfLeaf(m, owner, leaving);
  return there;
}
