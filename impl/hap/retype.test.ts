// Changes of type at once: every leaf of the one type becomes one of the other, at any level, and nothing else is touched.
// A first reader may skip it.

import { describe, expect, it } from 'vitest';
import type { P2mType } from '#abi/hap.ts';
import { vendors } from '#abi/vendor.ts';
import { Prng } from '#lib/prng.ts';
import { poolSpare } from '../memory/pool.ts';
import type { Step } from '../port.ts';
import { retype } from './retype.ts';
import { forEachLeaf, lockP2m, unlockP2m } from './table.ts';
import { Bench, changeFrom, DOM } from './table.testing.ts';

/** All of `from` become `to` under the lock; how often `entered` was done, and whether a flush is owed before the unlock. */
function change(bench: Bench, from: P2mType, to: P2mType): { entered: number; isOwed: boolean } {
  const { m } = bench;
  const seen = { entered: 0, isOwed: false };
  const body = function* (): Step<void> {
    yield* lockP2m(m, DOM);
    yield* retype(m, DOM, { from, to }, () => (seen.entered += 1));
    seen.isOwed = m.f.p2mNeedFlush.get(DOM) !== 0;
    yield* unlockP2m(m, DOM);
  };
  bench.run(body());
  for (const [gfn, { mfn, type }] of bench.map) if (type === from) bench.map.set(gfn, { mfn, type: to });
  return seen;
}

const settings = vendors.flatMap((vendor) => [true, false].map((superpages) => ({ vendor, superpages })));

describe.each(settings)('changes of type at once, $vendor, superpages: $superpages', (setting) => {
  it('concern every leaf of the type, at its level, and no other', () => {
    const prng = new Prng(12);
    for (let round = 0; round < 12; round += 1) {
      const bench = new Bench(setting);
      for (let n = prng.below(30); n > 0; n -= 1) bench.change(changeFrom(prng, bench));
      const spare = poolSpare(bench.m, DOM);
      for (const [from, to] of [
        ['ramRw', 'ramLogDirty'],
        ['ramLogDirty', 'ramRw'],
      ] as const) {
        const isThere = [...bench.map.values()].some(({ type }) => type === from);
        expect(change(bench, from, to)).toEqual({ entered: 1, isOwed: isThere });
        expect(poolSpare(bench.m, DOM)).toBe(spare);
        checkTypes(bench);
      }
    }
  });

  it('leave every bit as it was when they are undone', () => {
    const prng = new Prng(13);
    for (let round = 0; round < 6; round += 1) {
      const bench = new Bench(setting);
      for (let n = 20; n > 0; n -= 1) {
        const drawn = changeFrom(prng, bench);
        if (drawn.type !== 'ramLogDirty') bench.change(drawn);
      }
      const before = bench.memory();
      change(bench, 'ramRw', 'ramLogDirty');
      change(bench, 'ramLogDirty', 'ramRw');
      expect(bench.memory()).toEqual(before);
    }
  });

  it('keep a superpage whole', () => {
    const bench = new Bench(setting);
    bench.change({ gfn: 4, order: 2, mfn: 8, type: 'ramRw' });
    const { level } = bench.leaf(4);
    change(bench, 'ramRw', 'ramLogDirty');
    expect([bench.leaf(4).level, bench.leaf(7).level]).toEqual([level, level]);
    bench.check();
  });

  it('need the lock, and come to nothing without tables', () => {
    const bench = new Bench(setting);
    expect(() => bench.run(retype(bench.m, DOM, { from: 'ramRw', to: 'ramRo' }, () => undefined))).toThrow(
      'under the P2M lock',
    );
    expect(change(bench, 'ramRw', 'ramLogDirty')).toEqual({ entered: 1, isOwed: false });
  });
});

/** Every gfn has the frame and the type of the map; which are superpages follows from what was put there one by one. */
function checkTypes({ m, map }: Bench): void {
  const said = new Map<number, { mfn: number; type: P2mType }>();
  forEachLeaf(m, DOM, (gfn, { mfn, type, frames }) => {
    for (let i = 0; i < frames; i += 1) said.set(gfn + i, { mfn: mfn + i, type });
  });
  expect([...said].toSorted(([a], [b]) => a - b)).toEqual([...map].toSorted(([a], [b]) => a - b));
}
