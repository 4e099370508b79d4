// The parts of walks in two dimensions, each by itself: what nested tables ask for and tell, the caches in front of them, and a guest's four
// levels, unrolled and with what they remember. Directed; whole accesses are in walkers.test.ts. A first reader may skip how tables are laid.

import { describe, expect, it } from 'vitest';
import { low32 } from '#lib/bits.ts';
import { Marks } from '../paging/marks.ts';
import { FAULT } from '../paging/native-walker.ts';
import { KIND, rulesOf, WHO } from '../paging/rules.ts';
import { ExtendedWalker } from './ept-walker.ts';
import { guestWalkOfFour } from './guest-long-walker.ts';
import { GuestWalker } from './guest-walker.ts';
import { HostWalker } from './host-walker.ts';
import { USE } from './nested.ts';
import { NestedCache } from './nested-cache.ts';
import { StructureCache, walkThrough } from './structure-cache.ts';
import { processor } from '../paging/processor.testing.ts';

const cellOf = (mfn: number, index: number): number => 2 * (512 * mfn + index);

type Entry = readonly [mfn: number, index: number, lo: number, hi?: number];

function laid(entries: readonly Entry[]): Int32Array {
  const own = new Int32Array(64 * 1024);
  for (const [mfn, index, lo, hi = 0] of entries) own.set([low32(lo), low32(hi)], cellOf(mfn, index));
  return own;
}

const ept = { rootLow: 0x2_0000, rootHigh: 0, levels: 4, accessedDirty: false, modeBasedExecute: false, reservedHigh: 0, page1Gb: true }; // prettier-ignore

describe('extended tables', () => {
  it.each([
    [false, false, [1, 1, 2, 3, 4, 4, 2], [0, 0, 0, 0, 0, 0, 0]],
    [true, false, [3, 1, 2, 3, 4, 4, 2], [0x300, 0x100, 0x300, 0x300, 0x100, 0x100, 0x300]],
    [false, true, [1, 1, 2, 3, 4, 0x400, 2], [0, 0, 0, 0, 0, 0, 0]],
    [true, true, [3, 1, 2, 3, 4, 0x400, 2], [0x300, 0x100, 0x300, 0x300, 0x100, 0x100, 0x300]],
  ])(
    'with flags %s, mode-based execution %s: what each use needs and wants',
    (accessedDirty, modeBasedExecute, needs, ...[wants]) => {
      // prettier-ignore
      const walker = new ExtendedWalker(new Marks(laid([])));
      walker.load({ ...ept, accessedDirty, modeBasedExecute });
      expect(walker.uses()).toEqual({ needs, wants });
      // A mapping that is remembered has to be dirty for what makes it so.
      const demand = needs.map((need, use) => need + ((wants[use] ?? 0) >= 0x200 ? 0x200 : 0));
      expect([...walker.demand].slice(0, 7)).toEqual(demand);
    },
  );
});

describe('the tables of a host', () => {
  const host = (flags: number, hi = 0): HostWalker => {
    const walker = new HostWalker(new Marks(laid([[1, 0, 0x2067], [2, 0, 0x3067], [3, 0, 0x4067], [4, 1, 0x5000 + flags, hi]]))); // prettier-ignore
    walker.load(rulesOf(processor, false), { lo: 0x1000, hi: 0 }, 40);
    return walker;
  };
  it('are remembered for writes if they are dirty', () => {
    expect([...host(0x67).demand]).toEqual([0x202, 1, 0x202, 0x202, 0x404, 0x404, 0x202]);
  });
  it.each<readonly [string, flags: number, hi: number, use: number, rights: number]>([
    ['clean', 0x27, 0, USE.read, 0x407],
    ['dirty', 0x67, 0, USE.read, 0x607],
    ['clean', 0x27, 0, USE.write, 0x607],
    ['clean', 0x27, 0, USE.flags, 0x607],
    ['clean', 0x27, 0, USE.fetch, 0x407],
    ['read-only', 0x25, 0, USE.read, 0x405],
    ['not executable', 0x27, 2 ** 31, USE.read, 3],
  ])('%s tell what they give', (_, flags, hi, ...[use, rights]) => {
    const walker = host(flags, hi);
    expect([walker.walk(0x1008, 0, use), walker.out[0], walker.out[1]]).toEqual([0, 0x5008, rights]);
  });
  it('tell a use in the error code', () => {
    expect(Object.values(USE).map((use) => HostWalker.usePart(use, 16))).toEqual([6, 4, 6, 6, 20, 20, 6]);
  });
});

describe('a cache of nested mappings', () => {
  it.each([0, 0x1000, 0x2000, 0xf_f000, 0xffff_f000])('has forgotten %s when all is invalidated', (address) => {
    const out = new Int32Array(2);
    let frame = 0x7000;
    const through = (low: number): number => {
      out.set([frame + (low % 0x1000), 7]);
      return 0;
    };
    const cache = new NestedCache({ out, demand: Int32Array.of(1, 1, 2), walk: through }, through, 16);
    const ask = (low = address, high = 0): number => {
      cache.walk(low, high, USE.read);
      return low32(out[0] ?? 0);
    };
    expect(ask()).toBe(0x7000);
    frame = 0x8000;
    expect([ask(), ask(address + 8)]).toEqual([0x7000, 0x7008]);
    expect([ask(address, 1), ask()]).toEqual([0x8000, 0x8000]);
    for (const forget of [() => cache.invalidateAll(), () => cache.invalidateTag(0)]) {
      const before = ask();
      frame += 0x1000;
      cache.invalidateTag(1);
      expect(ask()).toBe(before);
      forget();
      expect(ask()).toBe(frame);
    }
  });
});

const READ = KIND.read + WHO.user;
const all = 0x67;

/** A guest's four levels in frames 1 to 4, for linear 0x401000 the page in frame 0x10; nested tables that map all to itself. */
function guestWith(change: readonly Entry[] = [], on: object = {}) {
  const own = laid([
    [0x20, 0, 0x2_1007],
    [0x21, 0, 0x2_2007],
    [0x22, 0, 0x2_3007],
    ...Array.from({ length: 0x20 }, (_, gfn): Entry => [0x23, gfn, gfn * 0x1000 + 0x37]),
    [1, 0, 0x2000 + all],
    [2, 0, 0x3000 + all],
    [3, 2, 0x4000 + all],
    [4, 1, 0x1_0000 + all],
    ...change,
  ]);
  const marks = new Marks(own);
  const nested = new ExtendedWalker(marks);
  nested.load(ept);
  const guest = new GuestWalker(marks, nested);
  guest.load(rulesOf({ ...processor, ...on }, false), { lo: 0x1000, hi: 0 }, 0);
  const unrolled = guestWalkOfFour(guest, nested.four);
  const entries = new StructureCache(16);
  const through = walkThrough(entries, guest, unrolled, nested.four);
  const ask = (
    access = READ,
    use: number = USE.read,
    [low, high]: readonly [number, number] = [0x40_1008, 0],
  ): number => {
    // prettier-ignore
    const answer = through(low, high, access, use);
    return answer < 0 ? answer : low32(nested.out[0] ?? 0);
  };
  return { own, ask, entries };
}

const PAGE = 0x1_0008;
const levels: readonly (readonly [mfn: number, index: number, to: number])[] = [[1, 0, 2], [2, 0, 3], [3, 2, 4], [4, 1, 0x10]]; // prettier-ignore

describe.each(levels)('the entry in the guest frame %s', (mfn, index, to) => {
  const given = (lo: number, hi = 0, on: object = {}) => guestWith([[mfn, index, to * 0x1000 + lo, hi]], on);
  const FETCH = KIND.fetch + WHO.user;
  const WRITE = KIND.write + WHO.user;
  /** Each asked first, and once more when what is above is remembered. */
  const twice = (lo: number, hi: number, access: number, use: number) => {
    const { ask } = given(lo, hi);
    return [given(lo, hi).ask(access, use), [ask(), ask(access, use)][1]];
  };
  const NX = 2 ** 31;
  it('takes rights', () => {
    const bits = [twice(all, 0, FETCH, USE.fetch), twice(all, NX, FETCH, USE.fetch), twice(all - 2, 0, WRITE, USE.write), twice(all - 4, 0, READ, USE.read)]; // prettier-ignore
    expect(bits.map(([one, two]) => [one === PAGE, two === PAGE])).toEqual([[true, true], [false, false], [false, false], [false, false]]); // prettier-ignore
    expect(twice(all, NX, READ, USE.read)).toEqual([PAGE, PAGE]);
    expect(twice(all - 2, 0, READ, USE.read)).toEqual([PAGE, PAGE]);
    expect(twice(all - 4, 0, KIND.read + WHO.supervisor, USE.read)[0]).toBe(PAGE);
  });
  it('is absent, or has a bit that must be clear', () => {
    expect([given(all - 1).ask(), given(all, 2 ** 8).ask()]).toEqual([FAULT.absent, FAULT.reserved]);
  });
  it('gets its flags', () => {
    for (const [access, use, dirty] of [
      [READ, USE.read, 0],
      [WRITE, USE.write, 0x40],
    ] as const) {
      // prettier-ignore
      const { own, ask } = given(7);
      expect(ask(access, use)).toBe(PAGE);
      expect((own[cellOf(mfn, index)] ?? 0) % 0x1000).toBe(mfn === 4 ? 0x27 + dirty : 0x27);
    }
    const { own, ask } = given(0x27);
    expect(ask(WRITE, USE.write)).toBe(PAGE);
    expect((own[cellOf(mfn, index)] ?? 0) % 0x1000).toBe(mfn === 4 ? 0x67 : 0x27);
  });
});

describe('a structure cache', () => {
  it('does not take an address for another that has the same place', () => {
    const more: readonly Entry[] = [[1, 1, 0x5000 + all], [5, 0, 0x6000 + all], [6, 2, 0x7000 + all], [7, 1, 0x1_1000 + all], [3, 18, 0x8000 + all], [8, 1, 0x1_2000 + all]]; // prettier-ignore
    const { ask, own } = guestWith(more);
    const far = [0x40_1008, 0x80] as const;
    const later = [0x240_1008, 0] as const;
    expect([ask(), ask(READ, USE.read, far), ask(), ask(READ, USE.read, later), ask()]).toEqual([PAGE, 0x1_1008, PAGE, 0x1_2008, PAGE]); // prettier-ignore
    // The same where flags are missing, so that the usual way is not taken.
    own.set([0x1_1007], cellOf(7, 1));
    expect([ask(READ, USE.read, far), ask(), ask(READ, USE.read, far)]).toEqual([0x1_1008, PAGE, 0x1_1008]);
  });
  it('tells refusals as a walk does, of the nested tables and of the guest alike', () => {
    const broken: readonly Entry[] = [[0x23, 0x10, 0], [4, 1, 0x1_0000 + all, 2 ** 8], [4, 1, 0x1_0000 + all - 1]]; // prettier-ignore
    for (const [mfn, index, lo, hi = 0] of broken) {
      const { ask, own } = guestWith();
      ask();
      own.set([lo, hi], cellOf(mfn, index));
      expect(ask()).toBe(guestWith([[mfn, index, lo, hi]]).ask());
    }
  });
  it('sees a bit that must be clear in an entry that it walks to by what it remembers', () => {
    const withoutNx = { efer: 0x500 };
    const { ask, own } = guestWith([], withoutNx);
    expect(ask()).toBe(PAGE);
    own.set([0x1_0000 + all, low32(2 ** 31)], cellOf(4, 1));
    expect(ask()).toBe(FAULT.reserved);
  });
  it('has flags set that the first access did not want', () => {
    const { ask, own } = guestWith([[4, 1, 0x1_0027]]);
    expect(ask()).toBe(PAGE);
    expect(own[cellOf(4, 1)]).toBe(0x1_0027);
    expect(ask(KIND.write + WHO.user, USE.write)).toBe(PAGE);
    expect(own[cellOf(4, 1)]).toBe(0x1_0067);
  });
  it('has flags set again that the guest has cleared', () => {
    const { ask, own } = guestWith();
    expect(ask()).toBe(PAGE);
    own.set([0x1_0007], cellOf(4, 1));
    expect(ask()).toBe(PAGE);
    expect(own[cellOf(4, 1)]).toBe(0x1_0027);
  });
  it('remembers no large page', () => {
    const { ask, own } = guestWith([[3, 2, 0x80 + all]]);
    expect(ask()).toBe(0x1008);
    own.set([0], cellOf(3, 2));
    expect(ask()).toBe(FAULT.absent);
  });
  it('forgets what it is told to', () => {
    const { ask, own, entries } = guestWith();
    ask();
    own.set([0], cellOf(3, 2));
    entries.invalidateTag(1);
    expect(ask()).toBe(PAGE);
    entries.invalidateTag(0);
    expect(ask()).toBe(FAULT.absent);
    own.set([0x4000 + all], cellOf(3, 2));
    ask();
    own.set([0], cellOf(3, 2));
    entries.invalidateAll();
    expect(ask()).toBe(FAULT.absent);
  });
  it('judges keys by the registers of the moment, not only the first time', () => {
    const keyed = guestWith([[4, 1, 0x1_0000 + all, 2 ** 27]], { cr4: 0x20 + 2 ** 22, pkru: 1 });
    expect([keyed.ask(), keyed.ask()]).toEqual([PAGE, PAGE]);
    const denied = guestWith([[4, 1, 0x1_0000 + all, 2 ** 27]], { cr4: 0x20 + 2 ** 22, pkru: 4 });
    const first = denied.ask();
    expect([first < 0, denied.ask() === first]).toEqual([true, true]);
    // Another page under the same entry that has the key 0.
    const other = guestWith([[4, 1, 0x1_0000 + all, 2 ** 27], [4, 2, 0x1_1000 + all]], { cr4: 0x20 + 2 ** 22, pkru: 4 }); // prettier-ignore
    expect([other.ask(READ, USE.read, [0x40_2008, 0]), other.ask()]).toEqual([0x1_1008, first]);
  });
});
