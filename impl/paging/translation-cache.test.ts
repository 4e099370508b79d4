// A translation cache in front of walks: while tables stay as they are nobody can tell that it is there, whatever is asked in
// whatever order; and what of a page it keeps and forgets. More of the latter is in caches.test.ts.
// A first reader may skip how tables are laid.

import { describe, expect, it } from 'vitest';
import { low32 } from '#lib/bits.ts';
import { Prng } from '#lib/prng.ts';
import { walkOfFour } from './long-walker.ts';
import { Marks } from './marks.ts';
import { NativeWalker, OUT, type Walk } from './native-walker.ts';
import { KIND, rulesOf, WHO } from './rules.ts';
import { TranslationCache, walkThrough } from './translation-cache.ts';
import { processor } from './processor.testing.ts';

const PAE = 0x20;
const KEYS = 0x140_0000;

const READ = KIND.read + WHO.user;
const WRITE = KIND.write + WHO.user;
const set = (own: Int32Array, mfn: number, index: number, word: readonly [lo: number, hi?: number]): void =>
  own.set([low32(word[0]), low32(word[1] ?? 0)], 1024 * mfn + 2 * index);

/** Four levels: page tables in frames 4 and 5 for 0x400000 and 0x600000, pages of 2 MiB from 0x800000 on. */
function tables(prng?: Prng): Int32Array {
  const own = new Int32Array(64 * 1024);
  for (const [mfn, index, lo] of [[1, 0, 0x2007], [2, 0, 0x3007], [3, 2, 0x4007], [3, 3, 0x5007], [3, 4, 0x20_0087], [3, 5, 0x40_0187]] as const) set(own, mfn, index, [lo]); // prettier-ignore
  for (let n = 0; n < 64; n += 1) {
    const flags = prng === undefined ? 7 : prng.pick([7, 7, 7, 5, 3, 0x107, 0x67, 0]);
    const high = prng === undefined ? 0 : prng.pick([0, 0, 0, 0x8000_0000, 0x0800_0000, 0x1000_0000]);
    set(own, 4 + Math.floor(n / 32), n % 32, [(0x40 + n) * 4096 + flags, high]);
  }
  return own;
}

function walkerIn(own: Int32Array, registers: Partial<typeof processor> = {}) {
  const walker = new NativeWalker(new Marks(own));
  walker.load(rulesOf({ ...processor, ...registers }, false), 0x1000, 0);
  return walker;
}

const answerOf = (walk: Walk, walker: NativeWalker, at: { low: number; high?: number }, access: number): number => {
  const high = walk(at.low, at.high ?? 0, access);
  return high < 0 ? high : low32(walker.out[OUT.low] as number);
};

describe('a translation cache', () => {
  const registers = [{}, { cr4: PAE + KEYS, pkru: 0b1001, pkrs: 0b0110 }, { cr4: PAE + 0x30_0000 }];

  it.each(registers)('is not to be told from the walk while tables stay as they are (%j)', (changes) => {
    for (const entries of [1, 4, 64]) {
      const prng = new Prng(entries);
      const own = tables(new Prng(3));
      const bare = own.slice();
      const [behind, plain] = [walkerIn(own, changes), walkerIn(bare, changes)];
      const cache = new TranslationCache(entries);
      cache.hasGlobals = true;
      const [cached, walked] = [walkThrough(cache, behind, walkOfFour(behind)), walkOfFour(plain)];
      for (let n = 0; n < 3000; n += 1) {
        if (prng.chance(1, 8)) cache.use(prng.below(4));
        if (prng.chance(1, 50)) cache.invalidatePage(0x40_0000 + prng.below(64) * 4096, 0);
        const low = prng.pick([0x40_0000, 0x60_0000, 0x80_0000, 0xa0_0000]) + prng.below(32) * 4096 + prng.below(4096);
        const access = prng.pick([READ, READ, WRITE, KIND.fetch, KIND.read + WHO.supervisor, KIND.write + WHO.supervisor, KIND.read + WHO.overridden]); // prettier-ignore
        const [told, wanted] = [answerOf(cached, behind, { low }, access), answerOf(walked, plain, { low }, access)];
        if (told !== wanted) expect({ n, low, access, told }).toEqual({ n, low, access, told: wanted });
      }
      expect(own.findIndex((half, at) => half !== bare[at])).toBe(-1);
    }
  });

  function cached() {
    const own = tables();
    const walker = walkerIn(own);
    const cache = new TranslationCache(16);
    cache.hasGlobals = true;
    const through = walkThrough(cache, walker, walkOfFour(walker));
    const at = (low: number, access = READ, high = 0): number => answerOf(through, walker, { low, high }, access);
    return { own, cache, at };
  }

  it('serves writes once a page has been written, or was dirty when it was read', () => {
    const { own, at } = cached();
    set(own, 4, 1, [0x4_1067]);
    for (const [page, access] of [[0x40_0000, WRITE], [0x40_1000, READ], [0x40_2000, READ]] as const) at(page, access); // prettier-ignore
    for (const index of [0, 1, 2]) set(own, 4, index, [0]);
    expect([at(0x40_0000, WRITE), at(0x40_1000, WRITE), at(0x40_2000)]).toEqual([0x4_0000, 0x4_1000, 0x4_2000]);
    expect(at(0x40_2000, WRITE)).toBeLessThan(0);
  });

  it('forgets all pieces of a page that others keep, after all else was forgotten too', () => {
    const { own, cache, at } = cached();
    for (const page of [0xa0_0000, 0xa0_5000, 0x80_1000]) at(page);
    cache.invalidateAll(true);
    for (const index of [4, 5]) set(own, 3, index, [0]);
    expect([at(0xa0_0000), at(0xa0_5000), at(0x80_1000)]).toEqual([0x40_0000, 0x40_5000, -1]);
    cache.invalidatePage(0xa0_3000, 0);
    expect([at(0xa0_0000), at(0xa0_5000)]).toEqual([-1, -1]);
  });

  it('tells pages apart that share a place, and pages of other identifiers when it forgets one', () => {
    const { own, cache, at } = cached();
    at(0x40_0000);
    cache.use(1);
    at(0x40_1000);
    set(own, 4, 0, [0]);
    set(own, 4, 1, [0]);
    cache.invalidatePage(0x40_0000, 0);
    cache.invalidatePage(0x40_1000, 1);
    expect(at(0x40_1000)).toBe(0x4_1000);
    cache.use(0);
    expect(at(0x40_0000)).toBe(0x4_0000);
    cache.invalidatePage(0x60_0000, 0);
    expect(at(0x40_0000)).toBe(0x4_0000);
    cache.invalidateTag(1);
    expect(at(0x40_0000)).toBe(0x4_0000);
    cache.use(1);
    expect(at(0x40_1000)).toBe(-1);
  });

  it('forgets all pieces of a page of 1 GiB, and none of the next', () => {
    const { own, cache, at } = cached();
    set(own, 2, 1, [0x87]);
    set(own, 2, 2, [0x4000_0087]);
    const [first, second] = [0x4000_0000, 0x8000_0000];
    for (const page of [first, first + 0x3fff_2000, second + 0x1000]) at(page);
    set(own, 2, 1, [0]);
    set(own, 2, 2, [0]);
    cache.invalidatePage(first + 0x2000_0000, 0);
    expect([at(first), at(first + 0x3fff_2000), at(second + 0x1000)]).toEqual([-1, -1, 0x4000_1000]);
  });

  it('tells addresses apart by their upper bits, when it answers and when it forgets', () => {
    const { own, cache, at } = cached();
    // Entry 480 of the root is taken by addresses from 0xfffff000_00000000 on, whose lower bits are those of entry 0.
    const HIGH = -0x1000;
    set(own, 1, 480, [0x6007]);
    set(own, 6, 0, [0x7007]);
    set(own, 7, 2, [0x5007]);
    expect([at(0x40_0000), at(0x40_0000, READ, HIGH), at(0x40_0000)]).toEqual([0x4_0000, 0x6_0000, 0x4_0000]);
    set(own, 4, 0, [0]);
    cache.invalidatePage(0x40_0000, HIGH);
    expect(at(0x40_0000)).toBe(0x4_0000);
    cache.invalidatePage(0x40_0000, 0);
    expect(at(0x40_0000)).toBe(-1);
  });
});
