// A processor with nested tables in front of it: what it answers from what it remembers, what it walks for, what it marks.
// Directed; whole histories are run where the laws are. A first reader may skip how tables are laid.

import { describe, expect, it } from 'vitest';
import type { P2mType } from '#abi/hap.ts';
import { RIGHT } from '#abi/rights.ts';
import { TRACE_VERSION, type Header } from '#abi/trace.ts';
import { vendors } from '#abi/vendor.ts';
import { low32 } from '#lib/bits.ts';
import { codeOf, WHOLE_ACCESS } from '../hap/entry.ts';
import { Machine } from '../machine.ts';
import { evict, invalidate, run, slotOf, tagOf } from '../tlb/hardware.ts';
import { speculate, translate } from './hardware.ts';

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
    const one = { mfn, level, code: codeOf(type), access: WHOLE_ACCESS, flags: 0 };
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
