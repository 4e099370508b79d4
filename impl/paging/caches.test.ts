// Caches in front of walks: they answer as the walks do until tables change, from stale entries after that, and forget what they are
// told to forget. A first reader may skip how tables are laid.

import { describe, expect, it } from 'vitest';
import { low32 } from '#lib/bits.ts';
import { ExtendedWalker } from '../hap/ept-walker.ts';
import { guestWalkOfFour } from '../hap/guest-long-walker.ts';
import { GuestWalker } from '../hap/guest-walker.ts';
import { USE } from '../hap/nested.ts';
import { NestedCache } from '../hap/nested-cache.ts';
import { StructureCache, walkThrough as walkThroughStructures } from '../hap/structure-cache.ts';
import { walkOfFour } from './long-walker.ts';
import { Marks } from './marks.ts';
import { FAULT, NativeWalker, OUT, type Walk } from './native-walker.ts';
import { KIND, rulesOf, WHO } from './rules.ts';
import { TranslationCache, walkThrough } from './translation-cache.ts';
import { processor } from './processor.testing.ts';

const PAE = 0x20;

const cellOf = (mfn: number, index: number): number => 2 * (512 * mfn + index);

/** Frame, index, low half of an entry. */
type Entry = readonly [mfn: number, index: number, lo: number];

/** Four levels for linear 0x401000 and 0x402000, pages in frames 0x10 and 0x11. */
const fourLevels: readonly Entry[] = [
  [1, 0, 0x2007],
  [2, 0, 0x3007],
  [3, 2, 0x4007],
  [4, 1, 0x1_0007],
  [4, 2, 0x1_1007],
];

/** Extended tables in frames 0x20..0x23 that map guest frames 0..0x11 to the machine frames of the same number. */
const extended: readonly Entry[] = [
  [0x20, 0, 0x2_1007],
  [0x21, 0, 0x2_2007],
  [0x22, 0, 0x2_3007],
  ...Array.from({ length: 0x12 }, (_, gfn): Entry => [0x23, gfn, gfn * 0x1000 + 0x37]),
];

/** A memory of 64 frames with the tables of `fourLevels`, and more words. */
function laid(more: readonly Entry[]): Int32Array {
  const own = new Int32Array(64 * 1024);
  for (const [mfn, index, lo] of [...fourLevels, ...more]) own.set([lo], cellOf(mfn, index));
  return own;
}

const rules = rulesOf(processor, false);
const READ = KIND.read + WHO.user;
const WRITE = KIND.write + WHO.user;

describe('a translation cache', () => {
  const PAGE = 0x40_1000;
  function cached(more: readonly Entry[] = []) {
    const own = laid(more);
    const walker = new NativeWalker(new Marks(own));
    walker.load(rules, 0x1000, 0);
    const cache = new TranslationCache(16);
    cache.hasGlobals = true;
    const through: Walk = walkThrough(cache, walker, walkOfFour(walker));
    const at = (low: number, access = READ): number =>
      through(low, 0, access) < 0 ? -1 : low32(walker.out[OUT.low] ?? 0);
    /** Changes the page's own entry behind the cache's back. */
    const change = (lo: number, index = 1): void => own.set([lo], cellOf(4, index));
    return { own, walker, cache, at, change };
  }
  it('answers as the walk does, from a stale entry too, until it is told to forget', () => {
    const { cache, at, change } = cached();
    expect(at(PAGE + 8)).toBe(0x1_0008);
    change(0);
    expect(at(PAGE + 9)).toBe(0x1_0009);
    cache.invalidatePage(0x40_2000, 0);
    expect(at(PAGE)).toBe(0x1_0000);
    cache.invalidatePage(PAGE, 0);
    expect(at(PAGE)).toBe(-1);
  });
  it('keeps identifiers apart, but for global pages', () => {
    const { cache, at, change } = cached([[4, 2, 0x1_1107]]);
    at(PAGE);
    at(0x40_2000);
    change(0);
    change(0, 2);
    cache.use(5);
    expect([at(PAGE), at(0x40_2000)]).toEqual([-1, 0x1_1000]);
    cache.use(0);
    expect(at(PAGE)).toBe(0x1_0000);
    cache.invalidateTag(0);
    expect([at(PAGE), at(0x40_2000)]).toEqual([-1, 0x1_1000]);
    cache.invalidateAll(true);
    expect(at(0x40_2000)).toBe(0x1_1000);
    cache.invalidateAll(false);
    expect(at(0x40_2000)).toBe(-1);
  });
  it('walks for a first write, which marks the page as dirty', () => {
    const { own, at } = cached();
    at(PAGE);
    expect(own[cellOf(4, 1)]).toBe(0x1_0027);
    at(PAGE, WRITE);
    expect(own[cellOf(4, 1)]).toBe(0x1_0067);
  });
  it('judges rights by the registers of the moment', () => {
    const { walker, at } = cached();
    at(PAGE);
    expect(at(PAGE, KIND.read + WHO.supervisor)).toBe(0x1_0000);
    walker.load(rulesOf({ ...processor, cr4: PAE + 2 ** 21 }, false), 0x1000, 0);
    expect(at(PAGE, KIND.read + WHO.supervisor)).toBe(-1);
    walker.load(rulesOf({ ...processor, cr4: PAE + 2 ** 22, pkru: 4 }, false), 0x1000, 0);
    expect(at(PAGE)).toBe(0x1_0000);
    walker.load(rulesOf({ ...processor, cr4: PAE + 2 ** 22, pkru: 1 }, false), 0x1000, 0);
    expect(at(PAGE)).toBe(-1);
  });
  it('forgets all pieces of a large page at once', () => {
    const { own, cache, at } = cached([[3, 2, 0x20_0087]]);
    expect([at(0x40_0000), at(0x40_5000)]).toEqual([0x20_0000, 0x20_5000]);
    own.set([0], cellOf(3, 2));
    expect(at(0x40_5000)).toBe(0x20_5000);
    cache.invalidatePage(0x40_3000, 0);
    expect([at(0x40_0000), at(0x40_5000)]).toEqual([-1, -1]);
  });
});

describe('caches of walks in two dimensions', () => {
  function cached() {
    const own = laid(extended);
    const marks = new Marks(own);
    const ept = new ExtendedWalker(marks);
    ept.load({ rootLow: 0x2_0000, rootHigh: 0, levels: 4, accessedDirty: true, modeBasedExecute: false, reservedHigh: 0, page1Gb: true }); // prettier-ignore
    const mappings = new NestedCache(ept, ept.four, 64);
    const guest = new GuestWalker(marks, mappings);
    guest.load(rules, { lo: 0x1000, hi: 0 }, 0);
    const entries = new StructureCache(16);
    const through = walkThroughStructures(entries, guest, guestWalkOfFour(guest, mappings.walk), mappings.walk);
    const walk = (access: number, use: number): number => {
      const high = through(0x40_1008, 0, access, use);
      return high < 0 ? high : low32(ept.out[0] ?? 0);
    };
    return { own, mappings, entries, walk };
  }
  it('remember directory entries until INVLPG, whatever its address', () => {
    const { own, entries, walk } = cached();
    expect(walk(READ, USE.read)).toBe(0x1_0008);
    own.set([0], cellOf(1, 0));
    expect(walk(READ, USE.read)).toBe(0x1_0008);
    entries.use(1);
    expect(walk(READ, USE.read)).toBe(FAULT.absent);
    entries.use(0);
    expect(walk(READ, USE.read)).toBe(0x1_0008);
    entries.invalidatePage();
    expect(walk(READ, USE.read)).toBe(FAULT.absent);
  });
  it('remember guest-physical mappings until INVEPT', () => {
    const { own, mappings, walk } = cached();
    walk(READ, USE.read);
    own.set([0], cellOf(0x23, 0x10));
    expect(walk(READ, USE.read)).toBe(0x1_0008);
    mappings.use(3);
    expect(walk(READ, USE.read)).toBeLessThan(0);
    mappings.use(0);
    mappings.invalidateTag(3);
    expect(walk(READ, USE.read)).toBe(0x1_0008);
    mappings.invalidateAll();
    expect(walk(READ, USE.read)).toBeLessThan(0);
  });
  it('walk nested tables again for a first write', () => {
    const { own, walk } = cached();
    walk(READ, USE.read);
    expect(own[cellOf(0x23, 0x10)]).toBe(0x1_0137);
    walk(WRITE, USE.write);
    expect([own[cellOf(0x23, 0x10)], own[cellOf(4, 1)]]).toEqual([0x1_0337, 0x1_0067]);
  });
});
