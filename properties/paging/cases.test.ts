// Whole accesses on arbitrary images: the implementation against the architecture, what the generator reaches, that its cases
// shrink to what matters, and a fixed part of the exhaustive enumeration (`npm run exhaust` does all of it).
// The laws of a lockstep run are tried by ../harness/suite.test.ts.

import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { type AccessResult, type Case, CASE_FRAMES, type EngineName } from '#abi/case.ts';
import { decodeCase, encodeCase } from '#abi/decode.ts';
import { describeCase } from '#abi/describe.ts';
import { field, low32, or } from '#lib/bits.ts';
import { Prng } from '#lib/prng.ts';
import { AccessUnit } from '#impl/paging/access.ts';
import { translateAccess } from '#model/paging/translate.ts';
import { eptFamilies } from '../hap/exhaust-ept.ts';
import { nptFamilies } from '../hap/exhaust-npt.ts';
import { CaseArbitrary } from '../harness/case-arbitrary.ts';
import { isSmallerCase, shrinkCase, smallerCases } from '../harness/case-shrink.ts';
import { accessCaseOf, type AccessCase } from './cases.ts';
import { accessJudge, type UnitOf } from './cases-judge.ts';
import { accessLaws } from './cases-laws.ts';
import { modeIn } from './cases-path.ts';
import { Enumeration, type Family } from './exhaust.ts';
import { nativeFamilies } from './exhaust-native.ts';

const names = ['native', 'vmx', 'svm'] as const satisfies readonly EngineName[];
type Name = (typeof names)[number];

function* casesOf(how: { engine: Name; oracle: boolean }, seed: number, count: number): Generator<AccessCase> {
  const prng = new Prng(seed);
  for (let n = 0; n < count; n += 1) yield accessCaseOf(prng, how);
}

const told = (one: Case): string => `${describeCase(one).join('\n')}\n${encodeCase(one)}`;

/** How often each of some names was said. */
class Census {
  readonly #counts = new Map<string | number, number>();
  total = 0;

  add(name: string | number): void {
    this.#counts.set(name, (this.#counts.get(name) ?? 0) + 1);
    this.total += 1;
  }

  share(name: string | number, of = this.total): number {
    return (this.#counts.get(name) ?? 0) / of;
  }
}

/** Says no fault is about a reserved bit. */
const careless: UnitOf = (memory) => {
  const unit = new AccessUnit(memory);
  const run = (one: AccessCase): AccessResult => {
    const result = unit.run(one);
    const isReserved = result.kind === 'pageFault' && field(result.errorCode, 3, 1) === 1;
    return isReserved ? { ...result, errorCode: result.errorCode - 8 } : result;
  };
  return { run };
};

/** The model itself as an implementation, asked about every member of a class. */
const modelUnit: UnitOf = (memory) => ({
  run: (one) => {
    const at = (mfn: number, index: number): number => 2 * (mfn * 512 + index);
    const outcome = translateAccess(one, (mfn, index) =>
      mfn < CASE_FRAMES
        ? { lo: low32(memory[at(mfn, index)] ?? 0), hi: low32(memory[at(mfn, index) + 1] ?? 0) }
        : { lo: 0xffff_ffff, hi: 0xffff_ffff },
    );
    for (const { mfn, index, bits } of outcome.required) {
      memory[at(mfn, index)] = or(memory[at(mfn, index)] ?? 0, bits.lo);
      memory[at(mfn, index) + 1] = or(memory[at(mfn, index) + 1] ?? 0, bits.hi);
    }
    return outcome.result;
  },
});

describe.each(names)('accesses of engine %s', (engine) => {
  it.each([
    { oracle: false, count: 8000 },
    { oracle: true, count: 4000 },
  ])('end alike on both sides (for emulators: $oracle)', { timeout: 60_000 }, ({ oracle, count }) => {
    const judge = accessJudge();
    for (const one of casesOf({ engine, oracle }, 21, count)) {
      const problem = judge(one);
      expect(problem, problem === undefined ? '' : told(one)).toBe(undefined);
    }
  });

  it('end in every way, in every mode', { timeout: 60_000 }, () => {
    const kinds = new Census();
    const modes = new Census();
    const bits = new Census();
    let pageFaults = 0;
    for (const one of casesOf({ engine, oracle: false }, 22, 8000)) {
      const { result } = translateAccess(one);
      kinds.add(result.kind);
      modes.add(modeIn(one.registers.cr0, one.registers.cr4, one.registers.efer));
      if (result.kind !== 'pageFault') continue;
      pageFaults += 1;
      for (let n = 0; n < 6; n += 1) if (field(result.errorCode, n, 1) === 1) bits.add(n);
    }
    expect(kinds.share('done')).toBeGreaterThan(0.3);
    expect(kinds.share('done')).toBeLessThan(0.65);
    expect(kinds.share('pageFault')).toBeGreaterThan(0.15);
    expect(kinds.share('generalProtection')).toBeGreaterThan(0.005);
    expect(kinds.share('invalidState')).toBeGreaterThan(0.005);
    expect(kinds.share('invalidState')).toBeLessThan(0.06);
    if (engine === 'vmx') expect(kinds.share('eptViolation')).toBeGreaterThan(0.1);
    if (engine === 'vmx') expect(kinds.share('eptMisconfiguration')).toBeGreaterThan(0.03);
    if (engine === 'svm') expect(kinds.share('nestedPageFault')).toBeGreaterThan(0.15);
    for (const mode of ['legacy', 'pae', 'four', 'five']) expect(modes.share(mode)).toBeGreaterThan(0.15);
    expect(modes.share('none')).toBeGreaterThan(0.02);
    for (let n = 0; n < 6; n += 1)
      expect(bits.share(n, pageFaults), `bit ${n} of the error code`).toBeGreaterThan(0.01);
  });

  it('survive their format', () => {
    for (const one of casesOf({ engine, oracle: false }, 23, 200))
      expect(decodeCase(encodeCase(one))).toEqual({ ok: true, case: one });
  });

  it('leave an emulator its own memory and the first entry of each root', () => {
    const isOwn = (mfn: number): boolean => mfn < 0x1000 || mfn >= CASE_FRAMES;
    for (const one of casesOf({ engine, oracle: true }, 24, 4000)) {
      const { cr0, cr3, cr4, efer } = one.registers;
      const isPae = modeIn(cr0, cr4, efer) === 'pae';
      const root = Math.floor(cr3.lo / 4096);
      const first = isPae ? Math.floor((cr3.lo % 4096) / 8) : 0;
      const isFirst = (mfn: number, index: number): boolean => engine === 'native' && mfn === root && index === first;
      const { linear } = one.access;
      const isLow = linear.hi === 0 && linear.lo < 0x40_0000;
      const stray = one.image.find(({ mfn, index }) => isOwn(mfn) || isFirst(mfn, index));
      if (isLow || stray !== undefined) expect.fail(told(one));
    }
  });
});

describe('laws of accesses', () => {
  /** Of 1500 cases; laws of engines that have no part in them say nothing. */
  const spokenAtLeast = { accessesAgree: 1500, foldDecides: 50, clearedPresent: 300, fewer: 200, flagsSettle: 500 };
  const leastFor = (id: string): number =>
    Object.entries(spokenAtLeast).find(([name]) => id.toLowerCase().includes(name.toLowerCase()))?.[1] ?? 200;

  it.each(accessLaws)('$id holds, and says something', { timeout: 60_000 }, ({ id, verdict }) => {
    let spoken = 0;
    for (const engine of id.startsWith('paging') ? (['native'] as const) : (['vmx', 'svm'] as const))
      for (const one of casesOf({ engine, oracle: false }, 25, engine === 'native' ? 1500 : 750)) {
        const said = verdict(one);
        if (said === 'nothing') continue;
        spoken += 1;
        expect(said, said === 'holds' ? '' : told(one)).toBe('holds');
      }
    expect(spoken).toBeGreaterThanOrEqual(leastFor(id));
  });
});

describe('shrinking', () => {
  const judge = accessJudge(careless);
  const failsAs = (one: Case): string | undefined => (one.engine === 'ept' ? undefined : judge(one)?.field);
  const failing = (engine: Name): AccessCase => {
    for (const one of casesOf({ engine, oracle: false }, 26, 5000))
      if (failsAs(one) === 'access.pageFault.errorCode') return one;
    throw new Error('no case fails');
  };

  it.each(names)('keeps the disagreement and little else (%s)', (engine) => {
    const one = failing(engine);
    const shrunk = shrinkCase(one, { failsAs, executions: 4000 });
    expect(failsAs(shrunk.case)).toBe('access.pageFault.errorCode');
    expect(isSmallerCase(shrunk.case, one)).toBe(true);
    expect(shrunk.isExhausted).toBe(true);
    expect(shrunk.case.image.length).toBeLessThanOrEqual(engine === 'native' ? 3 : 8);
    expect(shrinkCase(one, { failsAs, executions: 4000 }).case).toEqual(shrunk.case);
  });

  it('stops when its executions are used up', () => {
    const shrunk = shrinkCase(failing('native'), { failsAs, executions: 3 });
    expect(shrunk.executions).toBe(3);
    expect(shrunk.isExhausted).toBe(false);
  });

  it('offers only cases that are smaller and can be stored', () => {
    for (const engine of names)
      for (const one of casesOf({ engine, oracle: false }, 27, 3))
        for (const smaller of smallerCases(one)) {
          expect(isSmallerCase(smaller, one)).toBe(true);
          expect(decodeCase(encodeCase(smaller)).ok).toBe(true);
        }
  });

  it('runs as an arbitrary of fast-check', () => {
    const arbitrary = new CaseArbitrary((prng) => accessCaseOf(prng, { engine: 'native' }));
    const found = fc.check(
      fc.property(arbitrary, (one) => judge(one) === undefined),
      { seed: 5, numRuns: 5000 },
    );
    expect(found.failed).toBe(true);
    const [smallest] = found.counterexample ?? [];
    expect(smallest !== undefined && failsAs(smallest)).toBe('access.pageFault.errorCode');
    expect(smallest?.image.length).toBeLessThanOrEqual(3);
  });
});

describe('the exhaustive enumeration', () => {
  /** Every `stride`-th context of every family, the largest ones left out. */
  const part = (families: readonly Family[], stride: number): readonly Family[] =>
    families
      .filter(({ name }) => !/^(?:rights, five|(?:EPT|NPT) rights, (?:5 levels|five)), leaf at level 1/.test(name))
      .map((family, n) => ({ ...family, contexts: family.contexts.filter((_, i) => (i + n) % stride === 0) }));

  const run = (families: readonly Family[], unitOf: UnitOf): Enumeration[] => {
    const memory = new Int32Array(CASE_FRAMES * 1024);
    const runs: Enumeration[] = [];
    for (const family of families) {
      const one = new Enumeration(family, memory, unitOf);
      runs.push(one);
      one.step(Infinity);
      if (one.found !== undefined) break;
    }
    return runs;
  };

  const foundIn = (runs: readonly Enumeration[]): AccessCase | undefined => runs.at(-1)?.found;
  const own: UnitOf = (memory) => new AccessUnit(memory);

  it.each([
    { name: 'native paging', families: nativeFamilies, stride: 307 },
    { name: 'EPT', families: eptFamilies, stride: 79 },
    { name: 'NPT', families: nptFamilies, stride: 79 },
  ])('of $name finds no difference in a fixed part', { timeout: 60_000 }, ({ families, stride }) => {
    const runs = run(part(families(), stride), own);
    const found = foundIn(runs);
    expect(found, found === undefined ? '' : told(found)).toBe(undefined);
    expect(runs.every(({ done, total }) => done === total)).toBe(true);
    expect(runs.reduce((sum, { done }) => sum + done, 0)).toBeGreaterThan(20_000);
  });

  it('asks the model about classes whose members it does not tell apart', { timeout: 60_000 }, () => {
    const few = [...part(nativeFamilies(), 1009), ...part(eptFamilies(), 199), ...part(nptFamilies(), 199)];
    const found = foundIn(run(few, modelUnit));
    expect(found, found === undefined ? '' : told(found)).toBe(undefined);
  });

  it('finds a planted mistake, and leaves memory as it was', () => {
    const memory = new Int32Array(CASE_FRAMES * 1024);
    const families = nativeFamilies().filter(({ name }) => name.startsWith('pairs, four'));
    const [first] = families;
    expect(first).not.toBe(undefined);
    const found = first === undefined ? undefined : new Enumeration(first, memory, careless);
    found?.step(Infinity);
    expect(found?.found).not.toBe(undefined);
    expect(memory.every((half) => half === 0)).toBe(true);
  });
});
