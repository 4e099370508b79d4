// What the bench `cpu` races must agree: the implementation's whole accesses and the specification's over random cases, in result and in
// flags; the specification in bigints with the specification, in everything; and the hypervisor's software walk with the processor's.
// A first reader may skip how an image is put into memory.

import { describe, expect, it } from 'vitest';
import { CASE_FRAMES, type AccessOutcome, type AccessResult, type CaseOf, type Mark } from '#abi/case.ts';
import { AccessUnit } from '#impl/paging/access.ts';
import { SoftwareWalker } from '#impl/paging/software.ts';
import { hasAll, low32 } from '#lib/bits.ts';
import { Prng } from '#lib/prng.ts';
import { translateAccess } from '#model/paging/translate.ts';
import { accessCaseOf } from '#properties/paging/cases.ts';
import { bigCaseOf, bigMemoryOf, bigTranslate, isBigCase, type BigMark, type BigResult } from './cpu-bigint.ts';
import { randomCase } from './cpu-cases.ts';

type AccessCase = CaseOf<'native' | 'vmx' | 'svm'>;

const CASES = 6000;
const memory = new Int32Array(CASE_FRAMES * 1024);
const unit = new AccessUnit(memory);
const cellOf = (mfn: number, index: number): number => 2 * (512 * mfn + index);

/** Does something with the image of a case in memory; answers the result and which words have other bits afterwards. */
function within<R>({ image }: AccessCase, act: () => R): { result: R; changed: readonly Mark[] } {
  const inside = image.filter(({ mfn }) => mfn < CASE_FRAMES);
  for (const { mfn, index, word } of inside) memory.set([word.lo, word.hi], cellOf(mfn, index));
  const result = act();
  const changed = inside.flatMap(({ mfn, index, word }) => {
    const now = [...memory.subarray(cellOf(mfn, index), cellOf(mfn, index) + 2)].map(low32);
    // Flags are only ever set, so a difference of numbers is the bits that were set.
    const bits = { lo: (now[0] ?? 0) - word.lo, hi: (now[1] ?? 0) - word.hi };
    return bits.lo === 0 && bits.hi === 0 ? [] : [{ mfn, index, bits }];
  });
  for (const { mfn, index } of inside) memory.fill(0, cellOf(mfn, index), cellOf(mfn, index) + 2);
  return { result, changed };
}

const covers = (marks: readonly Mark[], { mfn, index, bits }: Mark): boolean =>
  marks.some(
    (one) => one.mfn === mfn && one.index === index && hasAll(one.bits.lo, bits.lo) && hasAll(one.bits.hi, bits.hi),
  );

describe('random cases', () => {
  const seen = new Map<string, number>();
  it('agree in result and flags', () => {
    for (let seed = 1; seed <= CASES; seed += 1) {
      const one = randomCase(seed);
      const { result, changed } = within(one, () => unit.run(one));
      const told = translateAccess(one);
      const key = `${one.engine} ${result.kind}`;
      seen.set(key, (seen.get(key) ?? 0) + 1);
      expect({ seed, result }).toEqual({ seed, result: told.result });
      const missing = told.required.filter((mark) => !covers(changed, mark));
      const unwanted = changed.filter((mark) => !covers([...told.required, ...told.allowed], mark));
      expect({ seed, missing, unwanted }).toEqual({ seed, missing: [], unwanted: [] });
    }
  });
  it.each([
    'native done', 'native generalProtection', 'native invalidState', 'native pageFault', 'vmx done', 'vmx pageFault',
    'vmx eptViolation', 'vmx eptMisconfiguration', 'vmx generalProtection', 'vmx invalidState', 'svm done', 'svm pageFault',
    'svm nestedPageFault', 'svm generalProtection', 'svm invalidState',
  ])('%s is among the results', (key) => {
    expect(seen.get(key) ?? 0).toBeGreaterThan(5);
  }); // prettier-ignore
});

describe('the specification in bigints', () => {
  const wordOf = (value: bigint) => ({ lo: Number(value % 2n ** 32n), hi: Number(value / 2n ** 32n) });
  const marksOf = (marks: readonly BigMark[]): readonly Mark[] =>
    marks.map(({ address, bits }) => ({
      mfn: Number(address / 4096n),
      index: Number((address % 4096n) / 8n),
      bits: wordOf(bits),
    }));
  const resultOf = (result: BigResult): AccessResult => {
    if (result.kind === 'pageFault') return { ...result, linear: wordOf(result.linear) };
    if (result.kind !== 'done') return result;
    return { kind: 'done', bytes: result.bytes.map(({ maddr, count }) => ({ maddr: Number(maddr), count })) };
  };
  const inBigints = (one: CaseOf<'native'>): AccessOutcome => {
    const { result, required, allowed } = bigTranslate(bigCaseOf(one), bigMemoryOf(one.image));
    return { result: resultOf(result), required: marksOf(required), allowed: marksOf(allowed) };
  };
  const drawn = (oracle: boolean, count: number): readonly AccessCase[] => {
    const prng = new Prng(oracle ? 31 : 32);
    return Array.from({ length: count }, () => accessCaseOf(prng, { engine: 'native', oracle }));
  };
  const cases = [
    ...drawn(false, 6000),
    ...drawn(true, 3000),
    ...Array.from({ length: 3 * CASES }, (_, seed) => randomCase(seed)),
  ].filter((one) => one.engine === 'native' && isBigCase(one)) as readonly CaseOf<'native'>[];
  const seen = new Map<string, number>();
  const see = (name: string, is: boolean): void => void (is && seen.set(name, (seen.get(name) ?? 0) + 1));

  it('comes to what the specification comes to, to the last flag', () => {
    for (const one of cases) {
      const told = translateAccess(one);
      expect(inBigints(one)).toEqual(told);
      const { result, required, allowed } = told;
      see(result.kind, true);
      see('five levels', hasAll(one.registers.cr4, 0x1000));
      see('two pages', result.kind === 'done' && result.bytes.length === 2);
      see('required', required.length > 0);
      see('allowed', allowed.length > 0);
      for (let n = 0; n < 6; n += 1) see(`bit ${n}`, result.kind === 'pageFault' && hasAll(result.errorCode, 2 ** n));
    }
    expect(cases.length).toBeGreaterThan(4000);
  });
  it.each([
    'done', 'pageFault', 'generalProtection', 'invalidState', 'five levels', 'two pages', 'required', 'allowed',
    'bit 0', 'bit 1', 'bit 2', 'bit 3', 'bit 4', 'bit 5',
  ])('%s is among what was compared', (name) => {
    expect(seen.get(name) ?? 0).toBeGreaterThan(20);
  }); // prettier-ignore
});

/** The first piece of an access of engine `native`, by software. */
function bySoftware(one: CaseOf<'native'>): AccessResult | undefined {
  const guest = { memory, frameOf: (gfn: number) => (gfn < CASE_FRAMES ? gfn : -1) };
  const found = new SoftwareWalker(guest, one.registers).walk(one.access);
  switch (found.kind) {
    case 'frame':
      return {
        kind: 'done',
        bytes: [{ maddr: found.mfn * 4096 + (one.access.linear.lo % 4096), count: one.access.size }],
      };
    case 'pageFault': {
      const { lo, hi } = one.access.linear;
      const isLong = hasAll(one.registers.efer, 0x100) && hasAll(one.registers.cr0, 0x8000_0000);
      return { kind: 'pageFault', errorCode: found.errorCode, linear: { lo, hi: isLong ? hi : 0 } };
    }
    case 'nonCanonical':
      return { kind: 'generalProtection' };
    case 'unbacked':
      return undefined;
  }
}

it('the software walk comes to what the processor comes to, in frames that the guest has', () => {
  let compared = 0;
  for (let seed = 1; seed <= CASES; seed += 1) {
    const drawn = randomCase(seed);
    if (drawn.engine !== 'native') continue;
    const one = { ...drawn, access: { ...drawn.access, size: 1 } };
    const processor = within(one, () => unit.run(one));
    const isLoading =
      processor.result.kind === 'generalProtection' &&
      hasAll(one.registers.cr4, 0x20) &&
      !hasAll(one.registers.efer, 0x100);
    if (processor.result.kind === 'invalidState' || isLoading) continue;
    const software = within(one, () => bySoftware(one));
    if (software.result === undefined) continue;
    compared += 1;
    expect({ seed, ...software }).toEqual({ seed, ...processor });
  }
  expect(compared).toBeGreaterThan(1000);
});
