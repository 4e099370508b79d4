// The upkeep of a P2M on a bare machine: after any sequence of changes the tables say what a plain map says, to the hypervisor's
// own walk and to the processor's, with superpages where they may be, no table lost, and a flush noted whenever a processor may
// remember something else. Whole histories are run where the laws are. A first reader may begin at the first test.

import { describe, expect, it } from 'vitest';
import { p2mTypes, type P2mType } from '#abi/hap.ts';
import { RIGHT } from '#abi/rights.ts';
import { vendors } from '#abi/vendor.ts';
import { or } from '#lib/bits.ts';
import { Prng } from '#lib/prng.ts';
import { poolSpare } from '../memory/pool.ts';
import type { Step } from '../port.ts';
import { freeTables, lockP2m, lookup, setEntry, tablesFor, unlockP2m, type Change } from './table.ts';
import { codeOf, isFramelessCode } from './entry.ts';
import { ALL_TABLES, Bench, changeFrom, DOM, FRAMES } from './table.testing.ts';

const settings = vendors.flatMap((vendor) => [true, false].map((superpages) => ({ vendor, superpages })));

describe.each(settings)('a P2M of $vendor', (setting) => {
  it('says what was put there, after every change', () => {
    const prng = new Prng(7);
    const bench = new Bench(setting);
    for (let n = 1; n <= 150; n += 1) {
      const change = changeFrom(prng, bench);
      const gfns = Array.from({ length: 2 ** change.order }, (_, i) => change.gfn + i);
      const news = gfns.map((gfn, i) => ({ old: bench.map.get(gfn), mfn: change.mfn + i }));
      const isNew = news.every(({ old }) => old === undefined);
      const isOther = news.some(({ old, mfn }) => old !== undefined && (old.type !== change.type || old.mfn !== mfn));
      const needed = tablesFor(bench.m, DOM, change);
      const hadTables = bench.reachable();
      const { done, taken } = bench.change(change);
      expect([done, taken, bench.entered]).toEqual([true, needed, n]);
      const isMarked = bench.m.f.eptInvalidate.get(DOM) !== 0;
      if (setting.vendor === 'intel' && isOther) expect(isMarked).toBe(true);
      if (setting.vendor === 'intel' && isNew && hadTables > 0 && bench.reachable() === hadTables + taken) expect(isMarked).toBe(false); // prettier-ignore
      bench.check();
    }
  });

  it('is not touched by a change that changes nothing', () => {
    const prng = new Prng(8);
    const bench = new Bench(setting);
    for (let n = 0; n < 100; n += 1) {
      const change = changeFrom(prng, bench);
      bench.change(change);
      // A piece of a superpage is cut out of it whatever it is to become.
      if (change.order < 2 && bench.isLarge(change.gfn)) continue;
      const before = bench.memory();
      expect(bench.change(change)).toEqual({ done: true, taken: 0, isOwed: false });
      expect(bench.memory()).toEqual(before);
      expect(bench.m.f.eptInvalidate.get(DOM)).toBe(0);
    }
  });

  it('stays as it was when the pool refuses a table', () => {
    const prng = new Prng(9);
    const bench = new Bench({ ...setting, pool: 6 });
    let refused = 0;
    for (let n = 0; n < 100; n += 1) {
      const change = changeFrom(prng, bench);
      const [before, spare, entered] = [bench.memory(), poolSpare(bench.m, DOM), bench.entered];
      const isEnough = tablesFor(bench.m, DOM, change) <= spare;
      const { done } = bench.change(change);
      expect(done).toBe(isEnough);
      bench.check();
      if (done) continue;
      refused += 1;
      const tables = FRAMES * 8;
      expect([bench.memory().slice(0, tables), poolSpare(bench.m, DOM), bench.entered]).toEqual([before.slice(0, tables), spare, entered]); // prettier-ignore
    }
    expect(refused).toBeGreaterThan(10);
  });

  it('writes one entry on each level for a page, and nothing beside them', () => {
    const bench = new Bench(setting);
    const before = bench.memory();
    bench.change({ gfn: 37, order: 0, mfn: 3, type: 'ramRo' });
    const low = bench.memory().filter((word, i) => i % 2 === 0 && word !== 0 && word !== before[i]);
    expect(low).toHaveLength(bench.m.geometry.levels);
  });

  it('takes no table to forget what it does not have', () => {
    const bench = new Bench(setting);
    const removal = { gfn: 5, order: 0, mfn: 0, type: 'none' } as const;
    expect(bench.change(removal)).toEqual({ done: true, taken: 0, isOwed: false });
    expect([bench.m.f.domRoot.get(DOM), bench.reachable(), bench.entered]).toEqual([0, 0, 1]);
    bench.change({ gfn: 20, order: 0, mfn: 3, type: 'ramRw' });
    expect(bench.change(removal)).toEqual({ done: true, taken: 0, isOwed: false });
    bench.check();
  });

  it('gives all its tables back in the end', () => {
    const prng = new Prng(10);
    const bench = new Bench(setting);
    bench.run(freeTables(bench.m, DOM));
    for (let n = 0; n < 30; n += 1) bench.change(changeFrom(prng, bench));
    bench.run(freeTables(bench.m, DOM));
    expect([bench.m.f.domRoot.get(DOM), poolSpare(bench.m, DOM), lookup(bench.m, DOM, 0)]).toEqual([0, ALL_TABLES, undefined]); // prettier-ignore
    bench.map.clear();
    bench.check();
  });
});

describe.each(vendors)('flags of %s', (vendor) => {
  const ram = (gfn: number, order: number, type: P2mType = 'ramRw'): Change => ({ gfn, order, mfn: gfn, type });

  it('of a superpage are those of its pieces, and those of the pieces all together are those of the superpage', () => {
    const bench = new Bench({ vendor, superpages: true });
    bench.change(ram(4, 2));
    expect([bench.flags(4), bench.leaf(4).level]).toEqual([0, 2]);
    bench.use(5, RIGHT.write);
    const used = bench.flags(4);
    bench.change(ram(6, 0, 'ramRo'));
    expect([4, 5, 6, 7].map((gfn) => bench.flags(gfn))).toEqual([used, used, 0, used]);
    bench.change(ram(6, 0));
    expect([bench.flags(4), bench.leaf(4).level]).toEqual([used, 2]);
  });

  it('say by a walk for reading that it was used, and by one for writing that it was written as well', () => {
    const bench = new Bench({ vendor, superpages: true });
    bench.change(ram(4, 2));
    bench.change(ram(9, 0));
    for (const gfn of [4, 9]) {
      bench.use(gfn, RIGHT.read);
      const read = bench.flags(gfn);
      bench.use(gfn, RIGHT.read + RIGHT.execute);
      expect(bench.flags(gfn)).toBe(read);
      bench.use(gfn, RIGHT.write);
      const written = bench.flags(gfn);
      expect(read).not.toBe(0);
      expect(written).not.toBe(read);
      expect(or(written, read)).toBe(written);
    }
  });

  it('of pieces that nobody used are not set', () => {
    const bench = new Bench({ vendor, superpages: true });
    bench.change(ram(4, 2));
    bench.change(ram(6, 0, 'ramRo'));
    expect([4, 5, 6, 7].map((gfn) => bench.flags(gfn))).toEqual([0, 0, 0, 0]);
    bench.use(7, RIGHT.read);
    const used = bench.flags(7);
    expect(used).not.toBe(0);
    bench.change(ram(6, 0));
    expect(bench.flags(4)).toBe(used);
  });
});

describe.each(vendors)('superpages of %s', (vendor) => {
  const orders = { upwards: [4, 5, 6, 7], downwards: [7, 6, 5, 4], 'from the middle': [5, 6, 4, 7] } as const;

  it.each(Object.keys(orders) as readonly (keyof typeof orders)[])('come of pieces put one by one, %s', (name) => {
    for (const type of ['ramRw', 'ramRo'] as const) {
      const bench = new Bench({ vendor, superpages: true });
      const reached = orders[name].map((gfn) => {
        bench.change({ gfn, order: 0, mfn: gfn + 8, type });
        bench.check();
        return [bench.reachable(), bench.m.f.eptInvalidate.get(DOM) !== 0 && vendor === 'intel'];
      });
      // Root and middle, the table of the pieces; in the end that one is gone, and processors may remember it.
      expect(reached).toEqual([[3, vendor === 'intel'], [3, false], [3, false], [2, vendor === 'intel']]); // prettier-ignore
      expect(bench.leaf(4).level).toBe(2);
    }
  });

  it('of a gigabyte are split into those of two megabytes, in order', () => {
    const bench = new Bench({ vendor, superpages: true, geometry: 'x86' });
    const { m } = bench;
    bench.change({ gfn: 0, order: 18, mfn: 0, type: 'ramRw' });
    bench.change({ gfn: 0, order: 0, mfn: 0, type: 'ramRo' });
    const seen = [0, 1, 511, 512, 700, 2 ** 18 - 1].map((gfn) => lookup(m, DOM, gfn));
    expect(seen.map((one) => [one?.mfn, one?.type, one?.level])).toEqual([
      [0, 'ramRo', 1],
      [1, 'ramRw', 1],
      [511, 'ramRw', 1],
      [512, 'ramRw', 2],
      [700, 'ramRw', 2],
      [2 ** 18 - 1, 'ramRw', 2],
    ]);
  });

  it('do not come of frames out of order, of mixed types, of frames that are lent', () => {
    const pieces = (change: (gfn: number) => Partial<Change>): number => {
      const bench = new Bench({ vendor, superpages: true });
      for (const gfn of [4, 5, 6, 7]) bench.change({ gfn, order: 0, mfn: gfn + 8, type: 'ramRw', ...change(gfn) });
      bench.check();
      return bench.leaf(4).level;
    };
    expect(pieces(() => ({}))).toBe(2);
    expect(pieces((gfn) => ({ mfn: gfn + 9 }))).toBe(1);
    expect(pieces((gfn) => ({ mfn: 19 - gfn }))).toBe(1);
    expect(pieces((gfn) => ({ type: gfn === 7 ? 'ramRo' : 'ramRw' }))).toBe(1);
    expect(pieces((gfn) => ({ mfn: gfn === 4 ? 3 : gfn + 8 }))).toBe(1);
    for (const type of ['foreign', 'grantRw', 'grantRo', 'mmioDirect'] as const)
      expect(pieces(() => ({ type }))).toBe(1);
  });
});

describe('types in entries', () => {
  it('of one kind alone have no frame', () => {
    expect(p2mTypes.filter((type) => isFramelessCode(codeOf(type)))).toEqual(['populateOnDemand']);
  });
});

describe('the lock', () => {
  it('defers the flush to the outermost unlock', () => {
    const bench = new Bench({ vendor: 'intel', superpages: true });
    const { m } = bench;
    const seen: (readonly number[])[] = [];
    const look = (): unknown => seen.push([m.f.p2mLock.get(DOM), m.f.p2mDepth.get(DOM), m.f.p2mNeedFlush.get(DOM)]);
    const body = function* (): Step<void> {
      for (let n = 0; n < 2; n += 1) yield* lockP2m(m, DOM);
      m.f.p2mNeedFlush.set(DOM, 1);
      for (let n = 0; n < 2; n += 1, look()) yield* unlockP2m(m, DOM);
    };
    bench.run(body());
    expect(seen).toEqual([[1, 1, 1], [0, 0, 0]]); // prettier-ignore
  });

  it('is needed for a change, and given back by its holder alone', () => {
    const bench = new Bench({ vendor: 'intel', superpages: true });
    const change = { gfn: 0, order: 0, mfn: 1, type: 'ramRw' } as const;
    expect(() => bench.run(setEntry(bench.m, DOM, change, () => undefined))).toThrow('under its lock');
    expect(() => bench.run(unlockP2m(bench.m, DOM))).toThrow('by its holder');
    expect(bench.m.f.domRoot.get(DOM)).toBe(0);
  });
});

describe('superpages of Intel alone', () => {
  it('keep what is left of their rights when they are split, and join if as much is left of all pieces', () => {
    const bench = new Bench({ vendor: 'intel', superpages: true });
    const accesses = (): readonly unknown[] => [4, 5, 6, 7].map((gfn) => lookup(bench.m, DOM, gfn)?.access);
    bench.change({ gfn: 4, order: 2, mfn: 12, type: 'ramRw', access: 'rx' });
    bench.change({ gfn: 5, order: 0, mfn: 13, type: 'ramRw', access: 'n' });
    expect([accesses(), bench.leaf(4).level]).toEqual([['rx', 'n', 'rx', 'rx'], 1]);
    bench.change({ gfn: 5, order: 0, mfn: 13, type: 'ramRw', access: 'rx' });
    expect([accesses(), bench.leaf(4).level]).toEqual([['rx', 'rx', 'rx', 'rx'], 2]);
    bench.change({ gfn: 5, order: 0, mfn: 13, type: 'ramRw' });
    expect(accesses()).toEqual(['rx', 'rwx', 'rx', 'rx']);
  });
});
