// Nested walks on arbitrary images: the fast walker against the architecture's.
// The laws of a lockstep run are tried by ../harness/suite.test.ts.

import { describe, expect, it } from 'vitest';
import { decodeCase, encodeCase } from '#abi/decode.ts';
import type { P2mAccess } from '#abi/hap.ts';
import { eptEntries } from '#impl/hap/ept.ts';
import { accessCodeOf, codeOf } from '#impl/hap/entry.ts';
import { nptEntries } from '#impl/hap/npt.ts';
import { Prng } from '#lib/prng.ts';
import { caseOf, endOf, imageJudge, imageOf } from './cases.ts';

const outcomes = ['frame', 'misconfiguration', 'violation'];

it.each(['ept', 'npt'] as const)(
  'the fast walker of %s agrees with the architecture on 20,000 images',
  { timeout: 60_000 },
  (format) => {
    const prng = new Prng(11);
    const judge = imageJudge(format);
    const ends = new Map<string, number>();
    for (let n = 0; n < 20_000; n += 1) {
      const one = imageOf(prng, format);
      const problem = judge(one);
      expect(problem, problem === undefined ? '' : JSON.stringify(one)).toBe(undefined);
      const end = `${one.geometry} ${endOf(format, one)}`;
      ends.set(end, (ends.get(end) ?? 0) + 1);
    }
    // Every way for a walk to end comes up, on both geometries.
    const kinds = ['tiny', 'x86'].flatMap((geometry) => outcomes.map((outcome) => `${geometry} ${outcome}`));
    expect([...ends.keys()].toSorted((a, b) => (a < b ? -1 : 1))).toEqual(kinds);
    for (const count of ends.values()) expect(count).toBeGreaterThan(100);
  },
);

it('cases survive their format', () => {
  const prng = new Prng(12);
  for (let n = 0; n < 200; n += 1) {
    const one = caseOf(prng);
    expect(decodeCase(encodeCase(one))).toEqual({ ok: true, case: one });
  }
});

describe('entries that the hypervisor writes, in hexadecimal', () => {
  const hex = (low: number, high: number): string =>
    [high, low].map((half) => half.toString(16).padStart(8, '0')).join('_');
  const leaf = (type: Parameters<typeof codeOf>[0], level: number, access: P2mAccess) => ({
    mfn: 0x12345_60000,
    level,
    code: codeOf(type),
    access: accessCodeOf(access),
    flags: 0,
  });

  const formats = { ept: eptEntries, npt: nptEntries } as const;

  it.each([
    ['ept', 'ramRw', 1, 'rwx', '1c112345_60000037'],
    ['ept', 'ramRo', 2, 'rwx', '1c212345_600000b5'],
    ['ept', 'ramRw', 1, 'n', '00112345_60000030'],
    ['ept', 'ramRw', 1, 'rx2rw', '20112345_60000035'],
    ['ept', 'ramRo', 2, 'w', '08212345_600000b0'],
    ['ept', 'grantRw', 1, 'wx', '18612345_60000032'],
    ['npt', 'ramRw', 1, 'rwx', '00112345_60000007'],
    ['npt', 'ramRo', 2, 'rwx', '00212345_60000085'],
    ['npt', 'grantRw', 1, 'rwx', '80612345_60000007'],
    ['npt', 'grantRo', 1, 'rwx', '80712345_60000005'],
  ] as const)('%s: %s at level %d, of which %s is left', (...[format, type, level, access, expected]) => {
    const { leafLow, leafHigh } = formats[format];
    const one = leaf(type, level, access);
    expect(hex(leafLow(one), leafHigh(one))).toBe(expected);
  });

  it.each(['ept', 'npt'] as const)('%s: a table', (format) => {
    const { tableLow, tableHigh } = formats[format];
    expect(hex(tableLow(0x12345_60000), tableHigh(0x12345_60000))).toBe('00012345_60000007');
  });
});
