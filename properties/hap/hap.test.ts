// Nested walks on arbitrary images: the fast walker against the architecture's.
// The laws of a lockstep run are tried by ../harness/suite.test.ts.

import { expect, it } from 'vitest';
import { decodeCase, encodeCase } from '#abi/decode.ts';
import { Prng } from '#lib/prng.ts';
import { caseJudge, caseOf } from './cases.ts';

it('the fast walker agrees with the architecture on 20,000 images', { timeout: 60_000 }, () => {
  const prng = new Prng(11);
  const judge = caseJudge();
  const kinds = new Map<string, number>();
  for (let n = 0; n < 20_000; n += 1) {
    const one = caseOf(prng);
    const problem = judge(one);
    expect(problem, problem === undefined ? '' : encodeCase(one)).toBe(undefined);
    kinds.set(one.geometry, (kinds.get(one.geometry) ?? 0) + 1);
  }
  expect(kinds.size).toBe(2);
});

it('cases survive their format', () => {
  const prng = new Prng(12);
  for (let n = 0; n < 200; n += 1) {
    const one = caseOf(prng);
    expect(decodeCase(encodeCase(one))).toEqual({ ok: true, case: one });
  }
});
