// A processor with nested tables in front of it: what it answers from what it remembers, what it walks for, what it marks, and
// how it moves bytes. Directed; whole histories are run where the laws are. A first reader may skip how tables are laid.

import { describe, expect, it } from 'vitest';
import type { DomId, VcpuId, Word } from '#abi/address.ts';
import type { P2mType } from '#abi/hap.ts';
import type { PagingOp } from '#abi/paging.ts';
import type { Reply } from '#abi/reply.ts';
import { RIGHT } from '#abi/rights.ts';
import { TRACE_VERSION, type Header } from '#abi/trace.ts';
import { vendors } from '#abi/vendor.ts';
import { low32 } from '#lib/bits.ts';
import { Execution } from '../execution.ts';
import { codeOf } from '../hap/entry.ts';
import { Machine } from '../machine.ts';
import type { Step } from '../port.ts';
import { evict, invalidate, run, slotOf, tagOf } from '../tlb/hardware.ts';
import { lowBytes, readRuns, speculate, translate, writeRuns, type Run } from './hardware.ts';
import { pagingStep } from './step.ts';

const header = (vendor: Header['vendor'] = 'intel'): Header => ({
  version: TRACE_VERSION,
  geometry: 'tiny',
  vendor,
  width: {},
  pcpus: 2,
  iommus: [],
  flush: 'eager',
  scrub: 'always',
  scrubAt: 'free',
  superpages: true,
  domains: [],
});

/** Frames of the tables: 4 entries each, gfns 0..3 under LEAVES, 4..7 one page of level 2. */
const ROOT = 20;
const MIDDLE = 21;
const LEAVES = 22;
const OTHER = 23;

/** A machine on which pCPU 0 runs under tag ROOT (by root) or 1 (by ASID), and the tables above. */
class Bench {
  readonly m: Machine;

  constructor(vendor: Header['vendor']) {
    this.m = new Machine(header(vendor));
    run(this.m, 0, { asid: 1, forget: 'nothing' });
    this.table(ROOT, 0, MIDDLE);
    this.table(MIDDLE, 0, LEAVES);
    this.leaf(MIDDLE, 1, { mfn: 40, level: 2 });
    this.leaf(LEAVES, 0, { mfn: 30 });
    this.leaf(LEAVES, 1, { mfn: 31, type: 'ramRo' });
    this.leaf(OTHER, 0, { mfn: 50 });
    this.leaf(OTHER, 1, { mfn: 51 });
  }

  #set(table: number, index: number, lo: number, hi: number): void {
    this.m.f.memory.set(8 * table + 2 * index, lo);
    this.m.f.memory.set(8 * table + 2 * index + 1, hi);
  }

  table(table: number, index: number, to: number): void {
    this.#set(table, index, this.m.entries.tableLow(to), this.m.entries.tableHigh(to));
  }

  leaf(table: number, index: number, to: { mfn: number; level?: number; type?: P2mType }): void {
    const { mfn, level = 1, type = 'ramRw' } = to;
    const one = { mfn, level, code: codeOf(type), flags: 0 };
    this.#set(table, index, this.m.entries.leafLow(one), this.m.entries.leafHigh(one));
  }

  nothing(table: number, index: number): void {
    this.#set(table, index, 0, 0);
  }

  flags(table: number, index: number): number {
    return this.m.entries.flagsIn(low32(this.m.f.memory.get(8 * table + 2 * index)));
  }

  /** How a translation comes about, and to which frame. */
  ask(gfn: number, access: number = RIGHT.read, via = 0): string {
    const how = translate(this.m, { pcpu: 0, root: ROOT, gfn, access, via });
    return how === undefined ? 'refused' : `${how} ${this.m.walker.mfn}`;
  }

  fill(gfn: number): void {
    speculate(this.m, { pcpu: 0, root: ROOT, gfn, access: RIGHT.read, via: 0 });
  }

  tag(): number {
    return tagOf(this.m, { pcpu: 0, root: ROOT });
  }

  /** What a pCPU remembers, oldest first: level and first gfn. */
  ring(pcpu = 0): readonly string[] {
    const { f, geometry } = this.m;
    const slots = Array.from({ length: geometry.capacity.cacheEntries }, (_, age) => slotOf(this.m, pcpu, age + 1));
    const used = slots.filter((slot) => f.cacheTag.get(slot) !== 0).toReversed();
    return used.map((slot) => `${f.cacheLevel.get(slot)}:${f.cacheGfn.getWide(slot)}`);
  }
}

describe.each(vendors)('translations of %s', (vendor) => {
  it('are walked once, and answered from what is remembered until it is forgotten', () => {
    const bench = new Bench(vendor);
    expect([bench.ask(0), bench.ask(0)]).toEqual(['walked 30', 'cached 30']);
    bench.leaf(LEAVES, 0, { mfn: 33 });
    expect(bench.ask(0)).toBe('cached 30');
    invalidate(bench.m, 0, bench.tag() + 1);
    expect(bench.ask(0)).toBe('cached 30');
    invalidate(bench.m, 0, bench.tag());
    expect(bench.ask(0)).toBe('walked 33');
  });

  it('belong to one processor, one tag, one frame of the guest', () => {
    const bench = new Bench(vendor);
    bench.ask(0);
    bench.nothing(ROOT, 0);
    const elsewhere = { root: ROOT, gfn: 0, access: RIGHT.read, via: 0 };
    run(bench.m, 1, { asid: 1, forget: 'nothing' });
    expect(translate(bench.m, { ...elsewhere, pcpu: 1 })).toBe(undefined);
    expect([bench.ask(0), bench.ask(2), bench.ask(16)]).toEqual(['cached 30', 'refused', 'refused']);
    run(bench.m, 0, { asid: 2, forget: 'nothing' });
    expect(translate(bench.m, { ...elsewhere, pcpu: 0, root: vendor === 'amd' ? ROOT : OTHER })).toBe(undefined);
  });

  it('lack what the tables do not give, remembered or not', () => {
    const bench = new Bench(vendor);
    expect([bench.ask(1), bench.ask(1, RIGHT.write)]).toEqual(['walked 31', 'refused']);
    expect(bench.ask(1, RIGHT.read + RIGHT.write)).toBe('refused');
    expect(bench.ask(2)).toBe('refused');
  });

  it('of a clean entry do not serve a write: from the table above it is marked first, and then does', () => {
    const bench = new Bench(vendor);
    bench.ask(0);
    const read = bench.flags(LEAVES, 0);
    expect(read).not.toBe(0);
    expect(bench.ask(0, RIGHT.write)).toBe('cached 30');
    expect(bench.flags(LEAVES, 0)).toBeGreaterThan(read);
    expect([bench.flags(ROOT, 0), bench.flags(MIDDLE, 0)]).toEqual([read, read]);
    bench.nothing(ROOT, 0);
    bench.nothing(LEAVES, 0);
    expect(bench.ask(0, RIGHT.write)).toBe('cached 30');
    expect(bench.ring()).toEqual(['3:0', '2:0', '1:0']);
  });

  it('go on below a remembered table, which may have been replaced; older answers and the tables themselves can be had', () => {
    const bench = new Bench(vendor);
    bench.ask(0);
    bench.table(MIDDLE, 0, OTHER);
    expect(bench.ask(1)).toBe('cached 31');
    expect(bench.flags(LEAVES, 1)).not.toBe(0);
    expect([bench.ask(1, RIGHT.read, 1), bench.ask(1, RIGHT.read, 9)]).toEqual(['cached 51', 'walked 51']);
    expect([bench.ask(1), bench.ask(1, RIGHT.read, 1), bench.ask(1, RIGHT.read, 2)]).toEqual([
      'cached 51',
      'cached 31',
      'walked 51',
    ]);
  });

  it('of a large page answer for all of it', () => {
    const bench = new Bench(vendor);
    expect([bench.ask(5), bench.ask(6), bench.ask(7), bench.ask(4)]).toEqual([
      'walked 41',
      'cached 42',
      'cached 43',
      'cached 40',
    ]);
    expect(bench.ring()).toEqual(['3:0', '2:4']);
  });

  it('come of walking ahead too; without tables there are none', () => {
    const bench = new Bench(vendor);
    bench.fill(0);
    bench.leaf(LEAVES, 0, { mfn: 33 });
    expect(bench.ask(0)).toBe('cached 30');
    const query = { pcpu: 0, root: 0, gfn: 0, access: RIGHT.read, via: 0 };
    expect(translate(bench.m, query)).toBe(undefined);
    speculate(bench.m, query);
    expect(bench.ring()).toEqual(['3:0', '2:0', '1:0']);
  });

  it('are refused beyond the tables, and what refuses is not remembered', () => {
    const bench = new Bench(vendor);
    expect([bench.ask(64), bench.ask(2), bench.ask(1, RIGHT.write)]).toEqual(['refused', 'refused', 'refused']);
    expect(bench.ring()).toEqual(['3:0', '2:0']);
  });
});

describe.each(vendors)('the ring of %s', (vendor) => {
  it('loses the one entry that fate names, and keeps the order of the others', () => {
    const bench = new Bench(vendor);
    for (const gfn of [0, 1, 5]) bench.ask(gfn);
    expect(bench.ring()).toEqual(['3:0', '2:0', '1:0', '1:1', '2:4']);
    evict(bench.m, 0, 1);
    expect(bench.ring()).toEqual(['3:0', '1:0', '1:1', '2:4']);
    evict(bench.m, 0, 0);
    evict(bench.m, 0, 40);
    evict(bench.m, 1, 2);
    const left = bench.ring();
    expect(left).toHaveLength(3);
    bench.ask(5, RIGHT.read, 9);
    expect(bench.ring()).toEqual([...left, '3:0']);
    evict(bench.m, 0, bench.m.geometry.capacity.cacheEntries + bench.m.f.cacheNext.get(0) - 1);
    expect(bench.ring()).toEqual(left);
  });

  it('when full loses the oldest', () => {
    const bench = new Bench(vendor);
    const { cacheEntries } = bench.m.geometry.capacity;
    bench.leaf(ROOT, 1, { mfn: 0, level: 1 });
    for (const [table, index, to] of [[ROOT, 1, 60], [60, 0, 61], [60, 1, 62], [60, 2, 63], [60, 3, 64]] as const) bench.table(table, index, to); // prettier-ignore
    for (let n = 0; n < 16; n += 1) bench.leaf(61 + Math.floor(n / 4), n % 4, { mfn: 70 + n });
    const loaded: string[] = [];
    for (let round = 0; round < 3; round += 1)
      for (let n = 0; n < 16; n += 1) {
        // Every round the leaves lead elsewhere, so that they are entries of their own.
        bench.leaf(61 + Math.floor(n / 4), n % 4, { mfn: 70 - 16 * round + n });
        bench.ask(16 + n, RIGHT.read, 9);
        if (round === 0 && n === 0) loaded.push('3:16');
        if (round === 0 && n % 4 === 0) loaded.push(`2:${16 + n}`);
        loaded.push(`1:${16 + n}`);
      }
    expect(loaded.length).toBeGreaterThan(cacheEntries);
    const kept = bench.ring();
    expect(kept).toHaveLength(cacheEntries);
    expect(kept.filter((entry) => entry.startsWith('1:')).slice(-32)).toEqual(
      loaded.filter((entry) => entry.startsWith('1:')).slice(-32),
    );
    invalidate(bench.m, 0, bench.tag());
    expect(bench.ring()).toEqual([]);
    expect(bench.ask(16, RIGHT.read)).toBe('walked 38');
    expect(bench.ring()).toEqual(['3:16', '2:16', '1:16']);
  });

  it('forgets what running a guest says', () => {
    const bench = new Bench(vendor);
    bench.ask(0);
    run(bench.m, 0, { asid: 2, forget: 'nothing' });
    bench.ask(1);
    const isAmd = vendor === 'amd';
    expect(bench.ring()).toEqual(isAmd ? ['3:0', '2:0', '1:0', '3:0', '2:0', '1:1'] : ['3:0', '2:0', '1:0', '1:1']);
    if (isAmd) {
      run(bench.m, 0, { asid: 1, forget: 'asid' });
      expect(bench.ring()).toEqual(['3:0', '2:0', '1:1']);
    }
    run(bench.m, 0, { asid: 1, forget: 'all' });
    expect(bench.ring()).toEqual([]);
    expect(() => run(bench.m, 0, { asid: 0, forget: 'nothing' })).toThrow('ASID of the host');
  });
});

describe('bytes', () => {
  const m = new Machine(header());
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
    const { m } = new Bench('intel');
    m.f.domRoot.set(1, ROOT);
    m.f.vcpuOn.set(m.geometry.capacity.vcpusPerDomain, 1);
    m.f.memory.set(8 * 30 + 2, 0x8877_6655);
    m.f.memory.set(8 * 30 + 3, 0x4433_2211);
    const value = { lo: 0xaaaa_aaaa, hi: 0xbbbb_bbbb };
    const op = { kind: 'paging.compareExchange', gfn: 0, via: 0, value, ...of } as unknown as Exchange;
    const call = { agent, op };
    const body = (function* (): Step<Reply> {
      return pagingStep(m, call, op);
    })();
    const execution = new Execution(m.port, { call, slot: 1, body, sequence: () => 0 });
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
