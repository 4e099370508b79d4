// What resolution makes of symbolic operands, and what holds for any operation of any kind: absurd ones are well-formed, survive
// a round trip, can be described and resolved, and get strictly simpler.

import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { type DomId, INVALID_GFN, INVALID_MFN, type VcpuId } from '#abi/address.ts';
import { decodeTrace, encodeTrace } from '#abi/decode.ts';
import { describeOp } from '#abi/describe.ts';
import { fieldsOf, mapOperands, operandsOf } from '#abi/fields.ts';
import { geometries, gfnCount } from '#abi/geometry.ts';
import type { Literal } from '#abi/operand.ts';
import { type Op, opKinds } from '#abi/operation.ts';
import { reply, type Reply } from '#abi/reply.ts';
import { measure, simplerArguments } from '#abi/simpler.ts';
import { freshTag, LABEL_MAX, tagLabel } from '#abi/tags.ts';
import type { Trace } from '#abi/trace.ts';
import { Prng } from '#lib/prng.ts';
import { absurdOp } from './absurd.ts';
import {
  answersFrom,
  type Context,
  DANGLING_HANDLE,
  DANGLING_START,
  gfnOfPath,
  operandOfGfn,
  resolveOp,
} from './resolve.ts';

const { tiny, x86 } = geometries;

const replies: Readonly<Record<number, Reply>> = {
  1: reply('ok', {
    elements: [
      { status: 'okay', out: [4] },
      { status: 'badGntref', out: [] },
      { status: 'okay', out: [6] },
    ],
  }),
  2: reply('preempted', { done: 2, elements: [{ status: 'okay', out: [9] }] }),
  3: reply('ok', { done: 5, out: [7] }),
};

const context: Context = { geometry: tiny, label: 5, ...answersFrom((label) => replies[label]) };

const written = (value: Literal) =>
  resolveOp({ kind: 'paging.write', gfn: { path: [] }, offset: 0, size: 8, value, via: 0, as: 'supervisor' }, context);

describe('paths', () => {
  test('root first, wrapping, leading zeros implied, surplus leading digits dropped', () => {
    expect(gfnOfPath(tiny, [1, 0, 2])).toBe(16 + 2);
    expect(gfnOfPath(x86, [1, 0, 2])).toBe(2 ** 18 + 2);
    expect(gfnOfPath(tiny, [])).toBe(0);
    expect(gfnOfPath(tiny, [5, 7])).toBe(4 + 3);
    expect(gfnOfPath(tiny, [3, 1, 0, 2])).toBe(18);
    expect(gfnOfPath(x86, [511, 511, 511, 511])).toBe(2 ** 36 - 1);
  });

  test('naming a gfn is undone by resolving it', () => {
    for (const geometry of [tiny, x86])
      fc.assert(
        fc.property(fc.maxSafeNat(), (n) => {
          const operand = operandOfGfn(geometry, n % gfnCount(geometry));
          expect('path' in operand && gfnOfPath(geometry, operand.path)).toBe(n % gfnCount(geometry));
        }),
        { seed: 1 },
      );
    expect(operandOfGfn(tiny, 64)).toEqual({ raw: 64 });
  });
});

describe('literals', () => {
  test('are bit-exact', () => {
    expect(written({ as: 'word', lo: 1, hi: 2 })).toMatchObject({ value: { lo: 1, hi: 2 } });
    expect(written({ as: 'gfn', gfn: { raw: 2 ** 40 + 3 } })).toMatchObject({ value: { lo: 3, hi: 256 } });
    expect(written({ as: 'grantEntry', flags: 5, domain: 2 as DomId, gfn: { path: [1, 0, 2] } })).toMatchObject({
      value: { lo: 0x0002_0005, hi: 18 },
    });
    expect(
      written({ as: 'grantEntry', flags: 0xffff, domain: 0xffff as DomId, gfn: { raw: INVALID_GFN } }),
    ).toMatchObject({ value: { lo: 0xffff_ffff, hi: 0xffff_ffff } });
  });

  test('fresh tags name their step, differ, and look like nothing else', () => {
    expect(written({ as: 'fresh' })).toMatchObject({ value: freshTag(5, 3) });
    const seen = new Set<string>();
    for (const label of [0, 1, 2, 63, 64, 0xffff, LABEL_MAX])
      for (const position of [0, 3, 200]) {
        const { lo, hi } = freshTag(label, position);
        seen.add(`${hi}.${lo}`);
        expect(tagLabel({ lo, hi })).toBe(label);
        expect(lo).toBeLessThan(2 ** 32);
        expect(lo % 256).not.toBe(0);
        expect(lo % 4).toBe(0);
        expect(hi).toBeGreaterThan(2 ** 31);
      }
    expect(seen.size).toBe(21);
    expect(tagLabel({ lo: 4, hi: 0 })).toBe(undefined);
  });

  test('two fresh tags of one operation differ', () => {
    const op = resolveOp(
      {
        kind: 'paging.compareExchange',
        gfn: { path: [] },
        offset: 0,
        size: 8,
        expected: { as: 'fresh' },
        value: { as: 'fresh' },
        via: 0,
        as: 'supervisor',
      },
      context,
    );
    expect(op.kind === 'paging.compareExchange' && op.expected).not.toEqual(
      op.kind === 'paging.compareExchange' && op.value,
    );
  });
});

describe('handed-out numbers', () => {
  const unmap = (step: number, index: number) =>
    resolveOp(
      {
        kind: 'grants.unmap',
        elements: [{ handle: { step, index }, gfn: { raw: 2 ** 52 - 1 }, dev: 'none', offset: 0 }],
        results: { in: 'guest', gfn: { path: [1] }, offset: 8 },
        start: { step, index: 0 },
      },
      context,
    );

  test('are found in elements in order, then in the reply itself', () => {
    expect(unmap(1, 1)).toMatchObject({ elements: [{ handle: 6, gfn: INVALID_GFN }], start: DANGLING_START });
    expect(unmap(2, 0)).toMatchObject({ elements: [{ handle: 9 }], start: 2 });
    expect(unmap(3, 0)).toMatchObject({ elements: [{ handle: 7 }], results: { gfn: 1, offset: 8 } });
  });

  test('dangle as fixed invalid values', () => {
    expect(unmap(1, 2)).toMatchObject({ elements: [{ handle: DANGLING_HANDLE }] });
    expect(unmap(99, 0)).toMatchObject({ elements: [{ handle: DANGLING_HANDLE }], start: DANGLING_START });
    expect(INVALID_MFN).toBe(2 ** 52 - 1);
  });
});

// Any operation.

const anyOp = fc.integer({ min: 0 }).map((seed) => absurdOp(new Prng(seed), undefined, [1, 2, 3, 4]));
const ops = (check: (op: Op<'symbolic'>) => void, numRuns = 1000) =>
  fc.assert(fc.property(anyOp, check), { seed: 1, numRuns });

const traceOf = (...all: readonly Op<'symbolic'>[]): Trace => ({
  header: {
    version: 1,
    geometry: 'tiny',
    width: {},
    pcpus: 1,
    iommus: [],
    flush: 'lazy',
    scrub: 'always',
    scrubAt: 'later',
    superpages: true,
    domains: [],
  },
  steps: all.map((op, label) => ({ label, agent: { kind: 'vcpu', domain: 1 as DomId, vcpu: 0 as VcpuId }, op })),
});

describe('any operation', () => {
  test('of every kind is drawn, the same for the same seed', () => {
    for (const kind of opKinds) {
      const one = absurdOp(new Prng(7), kind);
      expect(one.kind).toBe(kind);
      expect(absurdOp(new Prng(7), kind)).toEqual(one);
      expect(Object.keys(one).toSorted()).toEqual(['kind', ...Object.keys(fieldsOf(kind))].toSorted());
    }
    const prng = new Prng(1);
    const seen = new Set(Array.from({ length: 2000 }, () => absurdOp(prng).kind));
    expect(seen.size).toBe(opKinds.length);
  });

  test('survives encoding and decoding', () => {
    ops((op) => {
      const text = encodeTrace(traceOf(op));
      const decoded = decodeTrace(text);
      expect(decoded).toEqual({ ok: true, trace: traceOf(op) });
      expect(decoded.ok && encodeTrace(decoded.trace)).toBe(text);
    });
  });

  test('is resolved in every geometry, and described in both phases in one line without gaps', () => {
    ops((op) => {
      for (const geometry of [tiny, x86])
        for (const phase of [op, resolveOp(op, { ...context, geometry })])
          expect(describeOp(phase)).toMatch(/^(?!.*(?:undefined|NaN|\[object|\{))[^\n]+$/u);
    });
  });

  test('is itself when its operands are kept, and numbers them in order', () => {
    ops((op) => {
      expect(mapOperands<'symbolic'>(op, (one) => one.value)).toEqual(op);
      expect(operandsOf<'symbolic'>(op).map((one) => one.position)).toEqual([...operandsOf(op).keys()]);
    });
  });

  test('gets simpler by measure, stays well-formed, and ends at the simplest', () => {
    ops((op) => {
      const size = measure(op);
      const simpler = [...simplerArguments(op)];
      for (const one of simpler) expect(measure(one)).toBeLessThan(size);
      if (simpler.length > 0) expect(decodeTrace(encodeTrace(traceOf(...simpler))).ok).toBe(true);
    }, 500);
    ops((op) => {
      let now: Op<'symbolic'> | undefined = op;
      let last = op;
      for (let steps = 0; now !== undefined; steps += 1) {
        expect(steps).toBeLessThan(1000);
        last = now;
        [now] = simplerArguments(now);
      }
      for (const one of operandsOf<'symbolic'>(last)) if (one.type === 'int') expect(one.value).toBe(one.field.min);
    }, 200);
  });

  test('can be shrunk to an exact threshold', () => {
    const big: Op<'symbolic'> = { kind: 'memory.setPool', target: 3 as DomId, frames: 4000 };
    let now = big;
    for (;;) {
      const next = [...simplerArguments(now)].find((one) => one.kind === 'memory.setPool' && one.frames >= 37);
      if (next === undefined || next.kind !== 'memory.setPool') break;
      now = next;
    }
    expect(now).toEqual({ kind: 'memory.setPool', target: 0x7ff0, frames: 37 });
  });
});
