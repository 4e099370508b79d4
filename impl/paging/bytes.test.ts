// How a processor moves bytes: runs of them within frames, whole words and parts, where memory is and where there is none; and what
// a compare and exchange looks at and writes. Directed. A first reader may skip how an operation is performed on a bare machine.

import { describe, expect, it } from 'vitest';
import type { DomId, VcpuId, Word } from '#abi/address.ts';
import type { PagingOp } from '#abi/paging.ts';
import { TRACE_VERSION, type Header } from '#abi/trace.ts';
import { low32 } from '#lib/bits.ts';
import { Execution } from '../execution.ts';
import { codeOf, WHOLE_ACCESS } from '../hap/entry.ts';
import { Machine } from '../machine.ts';
import { lowBytes, readRuns, writeRuns, type Run } from './hardware.ts';
import { pagingStep } from './step.ts';

const header: Header = {
  version: TRACE_VERSION,
  geometry: 'tiny',
  width: {},
  pcpus: 1,
  iommus: [],
  flush: 'eager',
  scrub: 'always',
  scrubAt: 'free',
  superpages: true,
  domains: [],
};

describe('bytes', () => {
  const m = new Machine(header);
  const beyond = m.geometry.frameCount;
  const words = (frame: number): readonly number[] => [0, 1, 2, 3].map((i) => low32(m.f.memory.get(8 * frame + i)));
  const lay = (frame: number, halves: readonly number[]): void => halves.forEach((half, i) => m.f.memory.set(8 * frame + i, half)); // prettier-ignore
  const piece = (mfn: number, offset: number, count: number): Run => ({ mfn, offset, count });

  it.each<[string, readonly Run[], { lo: number; hi: number }]>([
    ['a word', [piece(30, 8, 8)], { lo: 0x1b1a_1918, hi: 0x9f9e_9d9c }],
    ['a word that is not aligned', [piece(30, 3, 8)], { lo: 0x1615_1413, hi: 0x1a19_1897 }],
    ['a byte', [piece(30, 15, 1)], { lo: 0x9f, hi: 0 }],
    ['three bytes', [piece(30, 6, 3)], { lo: 0x18_9716, hi: 0 }],
    ['two runs', [piece(30, 14, 2), piece(31, 0, 3)], { lo: 0x2120_9f9e, hi: 0x22 }],
    ['a word beyond memory', [piece(beyond, 0, 8)], { lo: 0xffff_ffff, hi: 0xffff_ffff }],
    ['two runs, the second beyond memory', [piece(30, 0, 1), piece(beyond, 0, 3)], { lo: 0xffff_ff10, hi: 0 }],
  ])('are read: %s', (_, runs, expected) => {
    lay(30, [0x1312_1110, 0x9716_1514, 0x1b1a_1918, 0x9f9e_9d9c]);
    lay(31, [0x2322_2120, 0, 0, 0]);
    expect(readRuns(m, runs)).toEqual(expected);
  });

  const value = { lo: 0x8483_8281, hi: 0x8887_8685 };
  it.each<[string, readonly Run[], readonly number[]]>([
    ['a word', [piece(30, 8, 8)], [0, 0, 0x8483_8281, 0x8887_8685]],
    ['a word that is not aligned', [piece(30, 3, 8)], [0x8100_0000, 0x8584_8382, 0x88_8786, 0]],
    ['a byte', [piece(30, 15, 1)], [0, 0, 0, 0x8100_0000]],
    ['two runs', [piece(29, 31, 1), piece(30, 0, 5)], [0x8584_8382, 0x86, 0, 0]],
    ['beyond memory', [piece(beyond, 0, 8)], [0, 0, 0, 0]],
    ['a piece of a word beyond memory', [piece(beyond, 0, 1), piece(30, 0, 1)], [0x82, 0, 0, 0]],
  ])('are written: %s', (_, runs, expected) => {
    lay(30, [0, 0, 0, 0]);
    const after = m.arena.snapshot();
    writeRuns(m, runs, value);
    expect(words(30)).toEqual(expected);
    lay(30, [0, 0, 0, 0]);
    m.f.memory.set(8 * 29 + 7, 0);
    expect(m.arena.snapshot()).toEqual(after);
  });

  it('keep what stands beside them', () => {
    lay(30, [0x1111_1111, 0x2222_2222, 0, 0]);
    writeRuns(m, [piece(30, 2, 3)], value);
    expect(words(30)).toEqual([0x8281_1111, 0x2222_2283, 0, 0]);
  });

  it.each([
    [1, 0x81, 0],
    [2, 0x8281, 0],
    [3, 0x83_8281, 0],
    [4, 0x8483_8281, 0],
    [5, 0x8483_8281, 0x85],
    [7, 0x8483_8281, 0x87_8685],
    [8, 0x8483_8281, 0x8887_8685],
  ])('of a value: the low %d', (size, lo, hi) => {
    expect(lowBytes(value, size)).toEqual({ lo, hi });
  });
});

describe('a compare and exchange', () => {
  type Exchange = Extract<PagingOp<'concrete'>, { kind: 'paging.compareExchange' }>;
  const agent = { kind: 'vcpu', domain: 1 as DomId, vcpu: 0 as VcpuId } as const;

  /** Performs one on the word at gfn 0, which holds 0x44332211_88776655 or so; answers the reply and what is there then. */
  function exchange(of: { offset: number; size: number; expected: Word }) {
    const m = new Machine(header);
    // Tables in frames 20 to 22, by which gfn 0 is frame 30.
    const set = (table: number, lo: number, hi: number): void => [lo, hi].forEach((half, i) => m.f.memory.set(8 * table + i, half)); // prettier-ignore
    for (const table of [20, 21]) set(table, m.entries.tableLow(table + 1), m.entries.tableHigh(table + 1));
    const leaf = { mfn: 30, level: 1, code: codeOf('ramRw'), access: WHOLE_ACCESS, flags: 0 };
    set(22, m.entries.leafLow(leaf), m.entries.leafHigh(leaf));
    m.f.domRoot.set(1, 20);
    m.f.vcpuOn.set(m.geometry.capacity.vcpusPerDomain, 1);
    m.f.memory.set(8 * 30 + 2, 0x8877_6655);
    m.f.memory.set(8 * 30 + 3, 0x4433_2211);
    const value = { lo: 0xaaaa_aaaa, hi: 0xbbbb_bbbb };
    const op = { kind: 'paging.compareExchange', gfn: 0, via: 0, value, ...of } as unknown as Exchange;
    const call = { agent, op };
    const execution = new Execution(m.port, { call, slot: 1, body: pagingStep(m, call, op), sequence: () => 0 });
    execution.run();
    return { words: execution.reply?.words, now: [2, 3].map((i) => low32(m.f.memory.get(8 * 30 + i))) };
  }
  const [low, high] = [0x8877_6655, 0x4433_2211];

  it.each([
    ['the same', { lo: low, hi: high }, [0xaaaa_aaaa, 0xbbbb_bbbb]],
    ['another low half', { lo: low + 1, hi: high }, [low, high]],
    ['another high half', { lo: low, hi: high + 1 }, [low, high]],
  ] as const)('of a word writes if it is %s that is expected', (_, expected, now) => {
    expect(exchange({ offset: 8, size: 8, expected })).toEqual({ words: [{ lo: low, hi: high }], now });
  });

  it.each([
    ['the same', 0x7766, [0x88aa_aa55, high]],
    ['one byte else', 0x7765, [low, high]],
    ['the other byte else', 0x7666, [low, high]],
  ] as const)('of two bytes looks at no others and writes no others, %s', (_, lo, now) => {
    const expected = { lo: lo + 0x55_0000, hi: 7 };
    expect(exchange({ offset: 9, size: 2, expected })).toEqual({ words: [{ lo: 0x7766, hi: 0 }], now });
  });
});
