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

type Processor = CaseOf<'native'>['registers'];

const processor: Processor = {
  cr0: 0x8001_0001,
  cr3: { lo: 0x1000, hi: 0 },
  cr4: 0x20,
  efer: 0x900,
  pkru: 0,
  pkrs: 0,
  maxPhysAddr: 40,
  page1Gb: 'present',
  pdptes: [],
};

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

describe('the unrolled walks', () => {
  const LINEAR = { lo: 0x40_1008, hi: 0 };
  const HIGH_RIGHTS = 0x8000_0000;

  /** The walk of a mode over frames 1 (root) to 5, pages at 0x10 and, of 2 MiB, at 0x200; how often it used the loop. */
  function walkerOf(levels: 3 | 4 | 5) {
    const own = new Int32Array(64 * 1024);
    const set = (mfn: number, index: number, lo: number, hi = 0): void => own.set([low32(lo), low32(hi)], 1024 * mfn + 2 * index); // prettier-ignore
    const walker = new NativeWalker(new Marks(own, false));
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
