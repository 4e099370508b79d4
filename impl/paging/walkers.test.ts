// The walks of the processor's own tables at their edges: where memory ends, at every level of every mode; and that the unrolled
// walks do by themselves what is usual, without the loop over levels that knows all rules. Directed; random cases against the
// specification are run where both sides may be imported. A first reader may skip how tables are laid.

import { describe, expect, it } from 'vitest';
import { CASE_FRAMES, CASE_VERSION, type AccessResult, type CaseOf } from '#abi/case.ts';
import { low32 } from '#lib/bits.ts';
import { AccessUnit } from './access.ts';
import { walkOfFive, walkOfFour } from './long-walker.ts';
import { Marks } from './marks.ts';
import { CELL, FAULT, NativeWalker, OUT, type Walk } from './native-walker.ts';
import { walkOfPae } from './pae-walker.ts';
import { KIND, rulesOf, WHO } from './rules.ts';
import { processor } from './processor.testing.ts';

type Processor = CaseOf<'native'>['registers'];

const memory = new Int32Array(CASE_FRAMES * 1024);
const unit = new AccessUnit(memory);
const wordAt = (mfn: number): number => 1024 * mfn;

const modes = {
  legacy: { levels: 2, registers: { cr4: 0, efer: 0 } },
  legacyLarge: { levels: 2, registers: { cr4: 0x10, efer: 0 } },
  pae: { levels: 3, registers: { cr4: 0x20, efer: 0x800 } },
  four: { levels: 4, registers: {} },
  five: { levels: 5, registers: { cr4: 0x1020 } },
} as const satisfies Readonly<Record<string, { levels: number; registers: Partial<Processor> }>>;

type Mode = keyof typeof modes;

/** All of a user's present and writable entries with their flags set; a PDPTE has neither. */
const FULL = 0x67;

/**
 * Reads 8 bytes at linear address 8. The tables are in `frames` from the root down, the last is the page; an entry
 * is made where the frame that would hold it is in memory.
 */
function readThrough(
  mode: Mode,
  frames: readonly number[],
  access: Partial<CaseOf<'native'>['access']> = {},
): AccessResult {
  const { levels, registers } = modes[mode];
  const cells: number[] = [];
  for (let depth = 0; depth < levels; depth += 1) {
    const [table = 0, next = 0] = [frames[depth], frames[depth + 1]];
    if (table >= CASE_FRAMES) break;
    cells.push(wordAt(table));
    const isPdpte = mode === 'pae' && depth === 0;
    memory.set([low32(next * 4096 + (isPdpte ? 1 : FULL)), 0], wordAt(table));
  }
  const result = unit.run({
    engine: 'native',
    version: CASE_VERSION,
    geometry: 'x86',
    registers: { ...processor, ...registers, cr3: { lo: (frames[0] ?? 0) * 4096, hi: 0 } },
    access: { kind: 'read', privilege: 'user', ac: 'clear', linear: { lo: 8, hi: 0 }, size: 8, ...access },
    image: [],
  });
  for (const cell of cells) memory.fill(0, cell, cell + 2);
  return result;
}

const [LAST, BEYOND] = [CASE_FRAMES - 1, CASE_FRAMES];
const page = (mfn: number): AccessResult => ({ kind: 'done', bytes: [{ maddr: mfn * 4096 + 8, count: 8 }] });
const reserved: AccessResult = { kind: 'pageFault', errorCode: 0xd, linear: { lo: 8, hi: 0 } };

/** What comes of a table, number `depth` from the root, of which all is ones. */
const ofOnes = (mode: Mode, depth: number): AccessResult => {
  if (mode === 'pae' && depth === 0) return { kind: 'generalProtection' };
  // Entries of 32 bits have no reserved bits but in large pages.
  if (mode === 'legacy' || (mode === 'legacyLarge' && depth === 1)) return page(0xf_ffff);
  return reserved;
};

describe.each(Object.keys(modes) as readonly Mode[])('tables of mode %s', (mode) => {
  const { levels } = modes[mode];
  const usual = Array.from({ length: levels + 1 }, (_, depth) => 2 + depth);
  const depths = Array.from({ length: levels }, (_, depth) => depth);
  const withFrame = (depth: number, mfn: number): readonly number[] => usual.with(depth, mfn);

  it.each(depths)('may lie in the first and in the last frame, number %d', (depth) => {
    for (const mfn of [0, 1, LAST]) expect(readThrough(mode, withFrame(depth, mfn))).toEqual(page(2 + levels));
  });
  it.each(depths)('beyond memory are ones, number %d', (depth) => {
    for (const mfn of [BEYOND, BEYOND + 1, 0xf_fff0])
      expect(readThrough(mode, withFrame(depth, mfn))).toEqual(ofOnes(mode, depth));
  });
  it('may lead to a page that is not in memory', () => {
    for (const mfn of [BEYOND, 0xf_ffff]) expect(readThrough(mode, withFrame(levels, mfn))).toEqual(page(mfn));
  });
});

/** Bits `from` to `to`, one at a time, as halves. */
const eachBit = (from: number, to: number): readonly { readonly lo: number; readonly hi: number }[] =>
  Array.from({ length: to - from + 1 }, (_, i) => from + i).map((n) =>
    n < 32 ? { lo: 2 ** n, hi: 0 } : { lo: 0, hi: 2 ** (n - 32) },
  );

describe('reserved bits', () => {
  /** How a read ends whose last entry, at `level`, has these bits set; everything else is usual, and leads to frame 0. */
  function endOf(mode: Mode, level: number, of: { lo: number; hi?: number; registers?: Partial<Processor> }): string {
    const { levels, registers } = modes[mode];
    const tables = Array.from({ length: levels - level + 1 }, (_, depth) => 2 + depth);
    const isPdpte = (depth: number): boolean => mode === 'pae' && depth === 0;
    for (const [depth, mfn] of tables.entries()) {
      const flags = isPdpte(depth) ? 1 : FULL;
      const isLast = depth === tables.length - 1;
      memory.set(isLast ? [low32(flags + of.lo), low32(of.hi ?? 0)] : [(mfn + 1) * 4096 + flags, 0], wordAt(mfn));
    }
    const { kind, errorCode } = {
      errorCode: 0,
      ...unit.run({
        engine: 'native',
        version: CASE_VERSION,
        geometry: 'x86',
        registers: { ...processor, ...registers, cr3: { lo: 0x2000, hi: 0 }, ...of.registers },
        access: { kind: 'read', privilege: 'user', ac: 'clear', linear: { lo: 8, hi: 0 }, size: 8 },
        image: [],
      }),
    };
    for (const mfn of tables) memory.fill(0, wordAt(mfn), wordAt(mfn) + 2);
    return errorCode === 0xd ? 'reserved' : kind;
  }
  const ends = (
    bits: readonly { readonly lo: number; readonly hi: number }[],
    of: { mode: Mode; level: number; lo?: number; registers?: Partial<Processor> },
  ): readonly string[] => [
    ...new Set(bits.map(({ lo, hi }) => endOf(of.mode, of.level, { ...of, lo: lo + (of.lo ?? 0), hi }))),
  ];
  const LARGE = 0x80;

  it.each(['pae', 'four', 'five'] as const)('below the frame of a page of 2 MiB, mode %s', (mode) => {
    expect(ends(eachBit(13, 20), { mode, level: 2, lo: LARGE })).toEqual(['reserved']);
    expect(ends(eachBit(21, 31), { mode, level: 2, lo: LARGE })).toEqual(['done']);
    expect(ends(eachBit(12, 12), { mode, level: 2, lo: LARGE })).toEqual(['done']);
  });
  it.each(['four', 'five'] as const)(
    'below the frame of a page of 1 GiB, mode %s, and bit 7 where there are none',
    (mode) => {
      expect(ends(eachBit(13, 29), { mode, level: 3, lo: LARGE })).toEqual(['reserved']);
      expect(ends(eachBit(30, 31), { mode, level: 3, lo: LARGE })).toEqual(['done']);
      expect(ends(eachBit(12, 12), { mode, level: 3, lo: LARGE })).toEqual(['done']);
      const registers = { page1Gb: 'absent' } as const;
      expect(endOf(mode, 3, { lo: LARGE, registers })).toBe('reserved');
      expect(ends(eachBit(30, 31), { mode, level: 3, lo: LARGE, registers })).toEqual(['reserved']);
    },
  );
  it('bit 7 at levels 4 and 5', () => {
    expect([endOf('four', 4, { lo: LARGE }), endOf('five', 4, { lo: LARGE }), endOf('five', 5, { lo: LARGE })]).toEqual(['reserved', 'reserved', 'reserved']); // prettier-ignore
  });
  it.each([1, 2, 3, 4, 5] as const)('from the address width up to 51, at level %d', (level) => {
    const lo = level === 2 || level === 3 ? LARGE : 0;
    for (const mode of ['pae', 'four', 'five'] as const) {
      if (level > modes[mode].levels || (mode === 'pae' && level === 3)) continue;
      expect(ends(eachBit(40, 51), { mode, level, lo })).toEqual(['reserved']);
      // An upper entry with one of them leads out of memory, to ones, which are reserved too.
      const isLeaf = level === 1 || lo !== 0;
      if (isLeaf) expect(ends(eachBit(40, 51), { mode, level, lo, registers: { maxPhysAddr: 52 } })).not.toContain('reserved'); // prettier-ignore
      expect(ends(eachBit(52, 62), { mode, level, lo })).toEqual([mode === 'pae' ? 'reserved' : lo === 0 && level > 1 ? 'pageFault' : 'done']); // prettier-ignore
      expect(endOf(mode, level, { lo, hi: 0x8000_0000, registers: { efer: mode === 'pae' ? 0 : 0x100 } })).toBe('reserved'); // prettier-ignore
    }
  });
  it.each([
    [52, 13],
    [40, 13],
    [39, 12],
    [36, 9],
    [33, 6],
    [32, 5],
  ])('of a page of 4 MiB, with addresses of %d bits', (maxPhysAddr, used) => {
    const of = { mode: 'legacyLarge', level: 2, lo: LARGE, registers: { maxPhysAddr } } as const;
    const first = Math.min(21, used + 8);
    expect(ends(eachBit(first, 21), of)).toEqual(['reserved']);
    if (first > 13) expect(ends(eachBit(13, first - 1), of)).toEqual(['done']);
    expect(ends(eachBit(22, 31), of)).toEqual(['done']);
  });
  it('of PDPTEs are looked at when they are loaded', () => {
    for (const { lo, hi } of [...eachBit(1, 2), ...eachBit(5, 8), ...eachBit(40, 63)])
      expect(endOf('pae', 3, { lo, hi })).toBe('generalProtection');
    expect(ends([...eachBit(3, 4), ...eachBit(9, 11)], { mode: 'pae', level: 3 })).toEqual(['pageFault']);
  });
});

describe('the unrolled walks', () => {
  const LINEAR = { lo: 0x40_1008, hi: 0 };
  const HIGH_RIGHTS = 0x8000_0000;

  /** The walk of a mode over frames 1 (root) to 5, pages at 0x10 and, of 2 MiB, at 0x200; how often it used the loop. */
  function walkerOf(levels: 3 | 4 | 5) {
    const own = new Int32Array(64 * 1024);
    const set = (mfn: number, index: number, lo: number, hi = 0): void => own.set([low32(lo), low32(hi)], 1024 * mfn + 2 * index); // prettier-ignore
    const walker = new NativeWalker(new Marks(own));
    const cr4 = levels === 5 ? 0x40_1020 : 0x40_0020;
    walker.load(rulesOf({ ...processor, cr4, efer: levels === 3 ? 0x800 : 0x900 }, false), 0x1000, 0);
    walker.cells.set([0x4001, 0], CELL.pdptes);
    if (levels === 5) set(1, 0, 0x2067);
    set(levels === 5 ? 2 : 1, 0, 0x3067);
    set(3, 0, 0x4067);
    set(4, 2, 0x5067);
    set(5, 1, 0x1_0067);
    const four = walkOfFour(walker);
    const walk: Walk = levels === 3 ? walkOfPae(walker) : levels === 4 ? four : walkOfFive(walker, four);
    const count = { loops: 0 };
    const { walkAll } = NativeWalker.prototype;
    walker.walkAll = (...of) => {
      count.loops += 1;
      return walkAll.apply(walker, of);
    };
    const ask = (access: number, low = LINEAR.lo): number => {
      const high = walk(low, LINEAR.hi, access);
      return high < 0 ? high : low32(walker.out[OUT.low] as number);
    };
    return { set, ask, count };
  }

  const [read, write, fetch] = [KIND.read + WHO.user, KIND.write + WHO.user, KIND.fetch + WHO.supervisor];

  it.each([3, 4, 5] as const)('of %d levels do what is usual', (levels) => {
    const { set, ask, count } = walkerOf(levels);
    expect([ask(read), ask(write), ask(fetch)]).toEqual([0x1_0008, 0x1_0008, 0x1_0008]);
    set(5, 1, 0x1_0066);
    expect(ask(read)).toBe(FAULT.absent);
    expect(count.loops).toBe(0);
  });

  it.each([4, 5] as const)('of %d levels do large pages, rights and keys', (levels) => {
    const { set, ask, count } = walkerOf(levels);
    set(4, 3, 0x20_00e7);
    expect([ask(read, 0x60_5008), ask(write, 0x60_5008)]).toEqual([0x20_5008, 0x20_5008]);
    set(5, 1, 0x1_0065);
    expect(ask(write)).toBe(FAULT.denied);
    set(5, 1, 0x1_0067, HIGH_RIGHTS);
    expect(ask(fetch)).toBe(FAULT.denied);
    set(3, 0, 0x4065);
    set(5, 1, 0x1_0067);
    expect([ask(write), ask(read)]).toEqual([FAULT.denied, 0x1_0008]);
    expect(count.loops).toBe(0);
  });

  it.each([3, 4, 5] as const)('of %d levels leave flags that are to be set to the loop', (levels) => {
    const { set, ask, count } = walkerOf(levels);
    set(5, 1, 0x1_0047);
    expect([ask(read), count.loops]).toEqual([0x1_0008, 1]);
    set(5, 1, 0x1_0027);
    expect([ask(read), count.loops]).toEqual([0x1_0008, 1]);
    expect([ask(write), count.loops]).toEqual([0x1_0008, 2]);
  });
});
