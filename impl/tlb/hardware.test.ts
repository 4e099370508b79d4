// The ring of what a processor remembers of nested tables: which entries are the same, what stays when others go, on each pCPU by
// itself. Directed; how answers come about is in ../paging/hardware.test.ts. A first reader may skip how entries are loaded.

import { describe, expect, it } from 'vitest';
import { RIGHT } from '#abi/rights.ts';
import { vendors } from '#abi/vendor.ts';
import { codeOf, WHOLE_ACCESS } from '../hap/entry.ts';
import { bits, DOM, frameOf, Guest } from '../paging/guest.testing.ts';
import { translate } from '../paging/hardware.ts';
import { evict, invalidate, olderAnswer, run, slotOf, tagOf } from './hardware.ts';

const ROOT = 20;
const LEAF = 24;
const SIZE = 48;

/** Loads of leaves alone: the tables above are remembered first. */
class Bench extends Guest {
  load(pcpu: number, gfn: number): string | undefined {
    return translate(this.m, { pcpu, root: ROOT, gfn, access: RIGHT.read, via: 0 });
  }

  /** Makes `gfn` lead to the frame of another. */
  leads(gfn: number, to: number): void {
    const leaf = { mfn: frameOf(to), level: 1, code: codeOf('ramRw'), access: WHOLE_ACCESS, flags: 0 };
    this.word(LEAF + Math.floor(gfn / 4), gfn % 4, this.m.entries.leafLow(leaf), this.m.entries.leafHigh(leaf));
  }

  /** Oldest first: level, gfn, life, who loaded it. */
  ring(pcpu: number): readonly string[] {
    const { f } = this.m;
    const slots = Array.from({ length: SIZE }, (_, n) => slotOf(this.m, pcpu, SIZE - n)).filter((slot) => f.cacheTag.get(slot) !== 0); // prettier-ignore
    return slots.map((slot) => `${f.cacheLevel.get(slot)}:${f.cacheGfn.getWide(slot)} ${f.cacheLife.get(slot)} ${f.cacheVcpu.get(slot)}`); // prettier-ignore
  }

  /** The slots, counted within the ring of a pCPU, that hold something at all. */
  used(pcpu: number): readonly number[] {
    const { cacheTag, cacheLevel, cacheGfn, cacheLo, cacheHi, cacheRights, cacheVcpu } = this.m.f;
    const isUsed = (slot: number): boolean =>
      [cacheTag, cacheLevel, cacheLo, cacheHi, cacheRights, cacheVcpu].some((one) => one.get(slot) !== 0) ||
      cacheGfn.getWide(slot) !== 0;
    return Array.from({ length: SIZE }, (_, n) => n).filter((n) => isUsed(pcpu * SIZE + n));
  }
}

const started = (vendor: (typeof vendors)[number]): Bench => {
  const bench = new Bench(vendor);
  const { m } = bench;
  for (const pcpu of [0, 1]) {
    m.f.pcpuVcpu.set(pcpu, 3 + pcpu);
    run(m, pcpu, { asid: 1 + pcpu, forget: 'nothing' });
  }
  for (let gfn = 0; gfn < 8; gfn += 1) m.f.frameIncarnation.set(frameOf(gfn), 10 + gfn);
  m.f.tableLife.set(21, 4);
  m.f.tableLife.set(LEAF, 5);
  return bench;
};

describe.each(vendors)('the ring of %s', (vendor) => {
  it.each([0, 1])('of pCPU %s keeps order, lives and loaders when entries go', (pcpu) => {
    const bench = started(vendor);
    const who = 3 + pcpu;
    for (const gfn of [0, 1, 2]) bench.load(pcpu, gfn);
    bench.load(1 - pcpu, 3);
    const other = bench.ring(1 - pcpu);
    expect(other).toEqual([`3:0 4 ${7 - who}`, `2:0 5 ${7 - who}`, `1:3 13 ${7 - who}`]);
    const all = [`3:0 4 ${who}`, `2:0 5 ${who}`, `1:0 10 ${who}`, `1:1 11 ${who}`, `1:2 12 ${who}`];
    expect([bench.ring(pcpu), bench.used(pcpu)]).toEqual([all, [0, 1, 2, 3, 4]]);
    evict(bench.m, pcpu, 2);
    expect([bench.ring(pcpu), bench.used(pcpu)]).toEqual([all.filter((_, n) => n !== 2), [0, 1, 2, 3]]);
    expect([bench.load(pcpu, 1), bench.load(pcpu, 2)]).toEqual(['cached', 'cached']);
    evict(bench.m, pcpu, 0);
    expect([bench.ring(pcpu), bench.used(pcpu)]).toEqual([[all[1], all[3], all[4]], [0, 1, 2]]); // prettier-ignore
    evict(bench.m, pcpu, 3);
    evict(bench.m, pcpu, 40);
    expect([bench.used(pcpu), bench.ring(1 - pcpu)]).toEqual([[0, 1, 2], other]);
    invalidate(bench.m, pcpu, tagOf(bench.m, { pcpu, root: ROOT }));
    expect([bench.used(pcpu), bench.ring(1 - pcpu)]).toEqual([[], other]);
  });

  it('keeps both of two entries that differ by the gfn alone', () => {
    const bench = started(vendor);
    bench.leads(1, 0);
    for (const gfn of [0, 1]) bench.load(0, gfn);
    expect(bench.ring(0)).toEqual(['3:0 4 3', '2:0 5 3', '1:0 10 3', '1:1 10 3']);
    expect([bench.load(0, 0), bench.load(0, 1)]).toEqual(['cached', 'cached']);
    expect(bench.ring(0)).toHaveLength(4);
  });

  it.each([0, 1])(
    'of pCPU %s when full answers from its oldest entry, and loses no other one with the one that goes',
    (pcpu) => {
      // prettier-ignore
      const bench = started(vendor);
      const { m } = bench;
      bench.load(pcpu, 0);
      // The leaf leads elsewhere every time: an entry of its own, until the ring is full.
      for (let n = 1; n <= SIZE - 3; n += 1) {
        bench.leads(1, n);
        translate(m, { pcpu, root: ROOT, gfn: 1, access: RIGHT.read, via: 99 });
      }
      const before = bench.ring(pcpu);
      expect([before.length, before[0], bench.ring(1 - pcpu)]).toEqual([SIZE, `3:0 4 ${3 + pcpu}`, []]);
      expect(olderAnswer(m, { pcpu, root: ROOT, gfn: 15 }, 0)).toBe(SIZE);
      expect(olderAnswer(m, { pcpu, root: ROOT, gfn: 15 }, SIZE)).toBe(0);
      evict(m, pcpu, 20);
      expect(bench.ring(pcpu)).toEqual(before.filter((_, n) => n !== 20));
      expect(olderAnswer(m, { pcpu, root: ROOT, gfn: 15 }, 0)).toBe(SIZE - 1);
    },
  );

  it('remembers a clean entry and the same as dirty as one', () => {
    const bench = started(vendor);
    bench.load(0, 0);
    expect(translate(bench.m, { pcpu: 0, root: ROOT, gfn: 0, access: RIGHT.write, via: 15 })).toBe('walked');
    expect(bench.ring(0)).toHaveLength(3);
    bench.word(LEAF, 0, 0);
    expect(translate(bench.m, { pcpu: 0, root: ROOT, gfn: 0, access: RIGHT.write, via: 0 })).toBe('cached');
  });

  it('notes no life where there is no memory', () => {
    const bench = started(vendor);
    bench.leads(0, 50);
    expect([bench.load(0, 0), bench.ring(0).at(-1)]).toEqual(['walked', '1:0 0 3']);
  });
});

it('a guest that goes on under another ASID finds nothing of the first, and all of it when it comes back', () => {
  const guest = new Guest('amd');
  const asid = guest.m.f.pcpuAsid.get(0);
  guest.read(0);
  run(guest.m, 0, { asid: asid + 1, forget: 'nothing' });
  guest.entry(10, 0, 4, { lo: bits.all });
  expect(guest.read(0)).toBe('gfn 4 walked');
  run(guest.m, 0, { asid, forget: 'nothing' });
  expect([guest.read(0), guest.m.f.pcpuRounds.get(0), guest.m.f.domRoot.get(DOM)]).toEqual(['gfn 0 page', 1, ROOT]);
});
