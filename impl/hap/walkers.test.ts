// Nested walks at their edges: where memory ends, at every level of every kind of nested table, and for a guest's own tables behind
// them; how far addresses reach; rights and flags level by level. Directed; random cases against the specification are run
// where both sides may be imported. A first reader may skip how tables are laid.

import { describe, expect, it } from 'vitest';
import { CASE_FRAMES, CASE_VERSION, type AccessResult, type CaseOf } from '#abi/case.ts';
import { low32 } from '#lib/bits.ts';
import { AccessUnit } from '../paging/access.ts';

type Any = CaseOf<'vmx' | 'svm'>;

const memory = new Int32Array(CASE_FRAMES * 1024);
const unit = new AccessUnit(memory);

const WP_PG_PE = 0x8001_0001;
const processor = { cr0: 1, cr3: { lo: 0, hi: 0 }, cr4: 0, efer: 0, pkru: 0, pkrs: 0, maxPhysAddr: 40, page1Gb: 'present', pdptes: [] } as const; // prettier-ignore

/** Kinds of nested tables: their levels, the registers that select them, flags of an entry that leads on and of a leaf. */
interface Kind {
  readonly levels: number;
  readonly table: number;
  readonly leaf: number;
  readonly registers: (root: number) => Partial<Any['registers']>;
}

const ept = (levels: 4 | 5, flags = 0): Kind => ({
  levels,
  table: 7,
  leaf: 0x37,
  registers: (root) => ({ eptp: { lo: root * 4096 + 8 * (levels - 1) + 6 + flags, hi: 0 }, modeBasedExecute: 'off' }),
});
const npt = (levels: number, hostCr4: number, hostEfer: number): Kind => ({
  levels,
  table: 0x67,
  leaf: 0x67,
  registers: (root) => ({ nestedCr3: { lo: root * 4096, hi: 0 }, hostCr0: WP_PG_PE, hostCr4, hostEfer }),
});

const kinds = {
  'EPT, 4 levels': ept(4),
  'EPT, 5 levels': ept(5),
  'NPT, 32-bit': npt(2, 0, 0),
  'NPT, PAE': npt(3, 0x20, 0x800),
  'NPT, 4 levels': npt(4, 0x20, 0x900),
  'NPT, 5 levels': npt(5, 0x1020, 0x900),
} as const satisfies Readonly<Record<string, Kind>>;

type Name = keyof typeof kinds;
const names = Object.keys(kinds) as readonly Name[];

type Entry = readonly [mfn: number, index: number, lo: number, hi?: number];

function run(name: Name, root: number, of: { entries: readonly Entry[]; guest?: object; access?: object }) {
  const inside = of.entries.filter(([mfn]) => mfn < CASE_FRAMES);
  for (const [mfn, index, lo, hi = 0] of inside) memory.set([low32(lo), low32(hi)], 1024 * mfn + 2 * index);
  const result = unit.run({
    engine: name.startsWith('EPT') ? 'vmx' : 'svm',
    version: CASE_VERSION,
    geometry: 'x86',
    registers: { ...processor, ...kinds[name].registers(root), ...of.guest },
    access: { kind: 'read', privilege: 'supervisor', ac: 'clear', linear: { lo: 8, hi: 0 }, size: 8, ...of.access },
    image: [],
  } as unknown as Any);
  const after = inside.map(([mfn, index]) => low32(memory[1024 * mfn + 2 * index] ?? 0));
  for (const [mfn, index] of inside) memory.fill(0, 1024 * mfn + 2 * index, 1024 * mfn + 2 * index + 2);
  return { result, after };
}

/** Nested entries for guest frame 0 through `frames`, from the root down; the last is the page. */
function way(name: Name, frames: readonly number[]): readonly Entry[] {
  const { levels, table, leaf } = kinds[name];
  return Array.from({ length: levels }, (_, depth): Entry => {
    const isPdpte = name === 'NPT, PAE' && depth === 0;
    const flags = isPdpte ? 1 : depth === levels - 1 ? leaf : table;
    return [frames[depth] ?? 0, 0, (frames[depth + 1] ?? 0) * 4096 + flags];
  });
}

const [LAST, BEYOND] = [CASE_FRAMES - 1, CASE_FRAMES];
const page = (mfn: number): AccessResult => ({ kind: 'done', bytes: [{ maddr: mfn * 4096 + 8, count: 8 }] });

/** What comes of a nested table of ones. */
function ofOnes(name: Name): AccessResult {
  if (name.startsWith('EPT')) return { kind: 'eptMisconfiguration', guestPhysical: 8 };
  // Without PSE, entries of 32 bits have no reserved bits.
  if (name === 'NPT, 32-bit') return page(0xf_ffff);
  return { kind: 'nestedPageFault', info: { lo: 0xd, hi: 1 }, guestPhysical: 8 };
}

describe.each(names)('nested tables: %s', (name) => {
  const { levels } = kinds[name];
  const usual = Array.from({ length: levels + 1 }, (_, depth) => 2 + depth);
  const depths = Array.from({ length: levels }, (_, depth) => depth);
  const through = (frames: readonly number[]): AccessResult => run(name, frames[0] ?? 0, { entries: way(name, frames) }).result; // prettier-ignore

  it.each(depths)('may lie in the first and in the last frame, number %d', (depth) => {
    for (const mfn of [0, 1, LAST]) expect(through(usual.with(depth, mfn))).toEqual(page(2 + levels));
  });
  it.each(depths)('beyond memory are ones, number %d', (depth) => {
    for (const mfn of [BEYOND, BEYOND + 1, 0xf_fff0]) expect(through(usual.with(depth, mfn))).toEqual(ofOnes(name));
  });
  it('may lead to a page that is not in memory', () => {
    for (const mfn of [BEYOND, 0xf_ffff]) expect(through(usual.with(levels, mfn))).toEqual(page(mfn));
  });
  it.each(depths)('end where an entry is not present, number %d', (depth) => {
    for (const frames of [usual, usual.with(0, 0)]) {
      const entries = way(name, frames).filter((_, at) => at !== depth);
      const { result } = run(name, frames[0] ?? 0, { entries });
      expect(result.kind).toBe(name.startsWith('EPT') ? 'eptViolation' : 'nestedPageFault');
      expect(result).toMatchObject({ guestPhysical: 8 });
    }
  });
});

const wide = names.filter((name) => !/32-bit|PAE/u.test(name));

describe.each(wide)('a guest with tables behind %s', (name) => {
  const { levels, table, leaf } = kinds[name];
  /** Nested tables for gfns 0 to 15, which are as many frames from `SHIFT` on, but for one. */
  const SHIFT = 0x40;
  const behind = (gfn = -1, mfn = 0): readonly Entry[] => [
    ...Array.from({ length: levels - 1 }, (_, depth): Entry => [2 + depth, 0, (3 + depth) * 4096 + table]),
    ...Array.from({ length: 16 }, (_, at): Entry => [1 + levels, at, (at === gfn ? mfn : at + SHIFT) * 4096 + leaf]),
  ];
  const guests = {
    'four levels': { cr4: 0x20, depths: [1, 2, 3, 4] },
    'five levels': { cr4: 0x1020, depths: [1, 2, 3, 4, 5] },
  } as const;
  type Guest = keyof typeof guests;
  const own = (guest: Guest): readonly Entry[] => {
    const { depths } = guests[guest];
    return depths.map((gfn): Entry => [gfn + SHIFT, 0, (gfn + 1) * 4096 + 0x67]);
  };
  const ask = (guest: Guest, entries: readonly Entry[], access: object = {}): AccessResult =>
    run(name, 2, {
      entries: [...entries, ...own(guest)],
      guest: { cr0: WP_PG_PE, cr3: { lo: 0x1000, hi: 0 }, cr4: guests[guest].cr4, efer: 0x900 },
      access: { privilege: 'user', ...access },
    }).result;

  describe.each(Object.keys(guests) as readonly Guest[])('of %s', (guest) => {
    const { depths } = guests[guest];
    const last = depths.length + 1;
    it('comes to its page', () => {
      expect(ask(guest, behind())).toEqual(page(last + SHIFT));
      for (const kind of ['write', 'fetch', 'readModifyWrite'])
        expect(ask(guest, behind(), { kind })).toEqual(page(last + SHIFT));
      expect(ask(guest, behind(last, BEYOND))).toEqual(page(BEYOND));
    });
    it('has the dirty flag set by a write to a page that was only read', () => {
      const page = own(guest).at(-1) as Entry;
      const used: Entry = [page[0], page[1], page[2] - 0x40];
      const after = (kind: string): number | undefined =>
        run(name, 2, {
          entries: [...behind(), ...own(guest).slice(0, -1), used],
          guest: { cr0: WP_PG_PE, cr3: { lo: 0x1000, hi: 0 }, cr4: guests[guest].cr4, efer: 0x900 },
          access: { privilege: 'user', kind },
        }).after.at(-1);
      expect([after('read'), after('write')]).toEqual([used[2], page[2]]);
    });
    it.each(depths)('reads ones from its table in gfn %d where there is no memory', (gfn) => {
      for (const mfn of [BEYOND, BEYOND + 1, 0xf_fff0])
        expect(ask(guest, behind(gfn, mfn))).toEqual({ kind: 'pageFault', errorCode: 0xd, linear: { lo: 8, hi: 0 } });
    });
    it.each(depths)('exits where its table in gfn %d is not mapped', (gfn) => {
      const entries = behind().filter(([mfn, index]) => mfn !== 1 + levels || index !== gfn);
      const result = ask(guest, entries);
      expect(result).toMatchObject({ guestPhysical: gfn * 4096 });
      if (result.kind === 'eptViolation') expect(result.qualification).toBe(0x81);
      if (result.kind === 'nestedPageFault') expect(result.info).toEqual({ lo: 6, hi: 2 });
    });
  });
});

describe.each(wide)('entry with %s', (name) => {
  const { levels, table, leaf } = kinds[name];
  const entries: readonly Entry[] = [
    ...Array.from({ length: levels - 1 }, (_, depth): Entry => [2 + depth, 0, (3 + depth) * 4096 + table]),
    ...Array.from({ length: 8 }, (_, gfn): Entry => [1 + levels, gfn, (gfn + 0x40) * 4096 + leaf]),
    ...[2, 3, 4].map((gfn): Entry => [gfn + 0x40, 0, (gfn + 1) * 4096 + 0x67]),
  ];
  const ask = (guest: object, upper = 0x2067): AccessResult =>
    run(name, 2, { entries: [...entries, [0x41, 0, upper]], guest: { cr0: WP_PG_PE, cr4: 0x20, efer: 0x900, ...guest } }).result; // prettier-ignore
  const isEpt = name.startsWith('EPT');
  it('is refused for a root of too many bits: in long mode, with EPT always', () => {
    expect(ask({ cr3: { lo: 0x1000, hi: 0 } }).kind).toBe('done');
    expect(ask({ cr3: { lo: 0x1000, hi: 2 ** 8 } }).kind).toBe('invalidState');
    const legacy = { cr4: 0, efer: 0, cr3: { lo: 0x1000, hi: 2 ** 8 } };
    expect(ask(legacy).kind === 'invalidState').toBe(isEpt);
  });
  it('with bit 8 in an upper entry of the guest is a matter of the vendor', () => {
    expect(ask({ cr3: { lo: 0x1000, hi: 0 } }, 0x2167).kind).toBe(isEpt ? 'done' : 'pageFault');
  });
});

describe.each(wide)('a guest with large pages of 32-bit paging behind %s', (name) => {
  const { levels, table, leaf } = kinds[name];
  const entries: readonly Entry[] = [
    ...Array.from({ length: levels - 1 }, (_, depth): Entry => [2 + depth, 0, (3 + depth) * 4096 + table]),
    ...Array.from({ length: 3 }, (_, gfn): Entry => [1 + levels, gfn, (gfn + 0x40) * 4096 + leaf]),
  ];
  const ask = (flags: number, cr4 = 0x10): AccessResult =>
    run(name, 2, {
      entries: [...entries, [0x41, 0, flags]],
      guest: { cr0: WP_PG_PE, cr3: { lo: 0x1000, hi: 0 }, cr4, efer: 0 },
      access: { privilege: 'user' },
    }).result;
  it('comes to its page, or faults for the bit that must be clear', () => {
    expect(ask(0xe7)).toEqual(page(0x40));
    expect(ask(0xe7 + 2 ** 21)).toEqual({ kind: 'pageFault', errorCode: 0xd, linear: { lo: 8, hi: 0 } });
    for (const wider of [2 ** 13, 2 ** 20])
      expect(ask(0xe7 + wider).kind).toMatch(/^(?:eptViolation|nestedPageFault)$/u);
    // Without large pages it leads to a table, which is empty.
    expect(ask(0x20e7 + 2 ** 21, 0).kind).toMatch(/^(?:eptViolation|nestedPageFault)$/u);
    expect(ask(0x20e7, 0)).toEqual({ kind: 'pageFault', errorCode: 4, linear: { lo: 8, hi: 0 } });
  });
});

describe('EPT', () => {
  const NAME: Name = 'EPT, 4 levels';
  const usual = [2, 3, 4, 5, 6];
  it('of four levels maps 48 bits, of five 57', () => {
    const guest = { cr0: WP_PG_PE, cr3: { lo: 0, hi: 0 }, cr4: 0x20, efer: 0x900, maxPhysAddr: 52 };
    // The guest's root is beyond bit 47 of guest-physical addresses.
    const far = { ...guest, cr3: { lo: 0, hi: 0x1_0000 } };
    expect(run(NAME, 2, { entries: way(NAME, usual), guest: far }).result).toEqual({
      kind: 'eptViolation',
      qualification: 0x81,
      guestPhysical: 2 ** 48,
      linear: { lo: 8, hi: 0 },
    });
    const five = way('EPT, 5 levels', [2, 3, 4, 5, 6, 7]);
    const [, ...rest] = five;
    // Entry 1 of the root instead of 0; what is read there is not present, which is the guest's own fault.
    const result = run('EPT, 5 levels', 2, { entries: [[2, 1, 0x3007], ...rest], guest: far }).result;
    expect(result).toMatchObject({ kind: 'pageFault', errorCode: 0 });
  });

  const depths = [0, 1, 2, 3];
  const narrowed = (depth: number, rights: number): readonly Entry[] =>
    way(NAME, usual).map((entry, at) => (at === depth ? [entry[0], entry[1], entry[2] - 7 + rights] : entry));
  it.each(depths)('takes rights at each level, number %d', (depth) => {
    const ends = (rights: number, kind: string): string | number => {
      const { result } = run(NAME, 2, { entries: narrowed(depth, rights), access: { kind } });
      return result.kind === 'eptViolation' ? result.qualification : result.kind;
    };
    expect([ends(1, 'read'), ends(1, 'write'), ends(1, 'fetch')]).toEqual(['done', 0x18a, 0x18c]);
    expect([ends(3, 'read'), ends(3, 'write'), ends(3, 'fetch')]).toEqual(['done', 'done', 0x19c]);
    expect([ends(5, 'read'), ends(5, 'write'), ends(5, 'fetch')]).toEqual(['done', 0x1aa, 'done']);
    expect([ends(4, 'read'), ends(4, 'write'), ends(4, 'fetch')]).toEqual([0x1a1, 0x1a2, 'done']);
    expect([ends(2, 'read'), ends(6, 'write')]).toEqual(['eptMisconfiguration', 'eptMisconfiguration']);
  });

  it.each([0, 1, 2, 3, 4])('of five levels takes rights and format at each, number %d', (depth) => {
    const five = way('EPT, 5 levels', [2, 3, 4, 5, 6, 7]);
    const ends = (flags: number, kind: string): string | number => {
      const entries = five.map((entry, at): Entry => [entry[0], entry[1], entry[2] + (at === depth ? flags - 7 : 0)]);
      const { result } = run('EPT, 5 levels', 2, { entries, access: { kind } });
      return result.kind === 'eptViolation' ? result.qualification : result.kind;
    };
    expect([ends(1, 'read'), ends(1, 'write'), ends(5, 'write'), ends(3, 'fetch')]).toEqual(['done', 0x18a, 0x1aa, 0x19c]); // prettier-ignore
    expect([ends(2, 'read'), ends(7, 'write')]).toEqual(['eptMisconfiguration', 'done']);
    if (depth < 4) expect(ends(7 + 0x40, 'read')).toBe('eptMisconfiguration');
  });

  it('has no pages above level 3, whatever the address bits', () => {
    const LARGE = 0xb7;
    expect(run(NAME, 2, { entries: [[2, 0, LARGE]] }).result.kind).toBe('eptMisconfiguration');
    expect(run('EPT, 5 levels', 2, { entries: [[2, 0, LARGE]] }).result.kind).toBe('eptMisconfiguration');
    expect(run('EPT, 5 levels', 2, { entries: [[2, 0, 0x3007], [3, 0, LARGE]] }).result.kind).toBe('eptMisconfiguration'); // prettier-ignore
  });

  it('of five levels may have its root beyond memory, where ones are read', () => {
    const entries = way('EPT, 5 levels', [2, 3, 4, 5, 6, 7]);
    const root = (hi: number): object => ({ eptp: { lo: 2 * 4096 + 8 * 4 + 6, hi }, modeBasedExecute: 'off' });
    expect(run('EPT, 5 levels', 2, { entries, guest: root(0) }).result.kind).toBe('done');
    expect(run('EPT, 5 levels', 2, { entries, guest: root(1) }).result.kind).toBe('eptMisconfiguration');
  });

  const FLAGS = 0x300;
  it('sets accessed everywhere and dirty in the leaf if the root says so, else nothing', () => {
    const entries = way(NAME, usual);
    const flagsAfter = (kind: string, isOn: boolean, before: readonly Entry[] = entries): readonly number[] =>
      run(NAME, 2, { entries: before, guest: isOn ? { eptp: { lo: 0x205e, hi: 0 } } : {}, access: { kind } }).after.map(
        (lo) => Math.floor((lo % 0x400) / 0x100),
      );
    expect([flagsAfter('read', false), flagsAfter('write', false)]).toEqual([[0, 0, 0, 0], [0, 0, 0, 0]]); // prettier-ignore
    expect([flagsAfter('read', true), flagsAfter('write', true)]).toEqual([[1, 1, 1, 1], [1, 1, 1, 3]]); // prettier-ignore
    const used = entries.map(([mfn, index, lo], at): Entry => [mfn, index, lo + (at === 3 ? FLAGS : 0x100)]);
    expect(flagsAfter('write', true, used)).toEqual([1, 1, 1, 3]);
    const clean = entries.map(([mfn, index, lo]): Entry => [mfn, index, lo + 0x100]);
    expect(flagsAfter('readModifyWrite', true, clean)).toEqual([1, 1, 1, 3]);
  });
});
