// Shrinking against toy verdicts: a trace fails if it holds certain steps. The real verdict is a lockstep run.
// A first reader may skip the toy machine and read the sentences.

import { describe, expect, it } from 'vitest';
import { DOMID_SELF, type DomId, type VcpuId } from '#abi/address.ts';
import type { Op } from '#abi/operation.ts';
import { isAct, TRACE_VERSION, type ActStep, type Header, type Step, type Trace } from '#abi/trace.ts';
import { Prng } from '#lib/prng.ts';
import type { Failure } from './law.ts';
import { embedInTiny, pathsIn } from './rename.ts';
import { candidates, shrinkTrace, type Position } from './shrink.ts';
import { isSmaller, sizeOf } from './simplify.ts';

const header: Header = {
  version: TRACE_VERSION,
  geometry: 'x86',
  vendor: 'amd',
  width: { tlbClock: 3, asid: 2 },
  pcpus: 3,
  iommus: [],
  flush: 'lazy',
  scrub: 'dying',
  scrubAt: 'later',
  superpages: true,
  domains: [0, 1, 2].map((id) => ({
    id: id as DomId,
    kind: id === 0 ? ('control' as const) : ('hvm' as const),
    vcpus: 2,
    maxPages: 16,
    poolFrames: 8,
    grantFrames: 1,
    ram: [
      { path: [0], order: 0 },
      { path: [1, 0], order: 9 },
    ],
    grantsAt: [11],
    on: [0, 1],
  })),
};

const act = (label: number, op: Op<'symbolic'>, domain = 1): ActStep => ({
  label,
  agent: { kind: 'vcpu', domain: domain as DomId, vcpu: 0 as VcpuId },
  op,
});

const kindsOfNoise: readonly Op<'symbolic'>[] = [
  { kind: 'memory.reservation', target: DOMID_SELF },
  { kind: 'paging.read', gfn: { path: [3, 7] }, offset: 16, size: 8, via: 1, as: 'supervisor' },
  { kind: 'memory.setPool', target: 2 as DomId, frames: 4 },
  { kind: 'grants.query', target: 1 as DomId },
];

/** `wanted` steps, in order, hidden among noise. */
function hidden(wanted: readonly Op<'symbolic'>[], noise: number): Trace {
  const prng = new Prng(3);
  const ops = Array.from({ length: noise }, () => prng.pick(kindsOfNoise));
  wanted.forEach((op, i) => ops.splice(Math.floor(((i + 1) * ops.length) / (wanted.length + 1)), 0, op));
  const steps: Step[] = ops.map((op, label) => act(label, op, label % 3));
  return { header, steps };
}

const failure = (step: number, field = 'toy'): Failure => ({
  law: 'toy/law',
  statement: 'Toys hold.',
  invariant: 'OWN',
  mechanism: 'memory',
  field,
  sentence: `at ${step}`,
  step,
});

const opsOf = (trace: Trace): readonly Op<'symbolic'>[] => trace.steps.filter(isAct).map(({ op }) => op);

const limits = { executions: 5000 };

const decrease: Op<'symbolic'> = {
  kind: 'memory.decrease',
  target: 2 as DomId,
  extents: { by: 'value', gfns: [{ path: [5, 300] }, { path: [2] }] },
  order: 9,
  start: { raw: 1 },
};
const map: Op<'symbolic'> = {
  kind: 'memory.addToPhysmap',
  target: 1 as DomId,
  space: 'grantTable',
  foreign: 2 as DomId,
  index: { path: [0] },
  gfn: { path: [5, 300] },
};

describe('shrinkTrace', () => {
  it('finds the one step that matters, and makes everything else as plain as can be', () => {
    const fails = (trace: Trace): Failure | undefined => {
      const step = opsOf(trace).findIndex(({ kind }) => kind === 'memory.decrease');
      return step < 0 ? undefined : failure(step);
    };
    const trace = hidden([decrease], 60);
    const shrunk = shrinkTrace(trace, { fails, original: failure(trace.steps.length - 1), limits });
    expect(shrunk.isExhausted).toBe(true);
    expect(shrunk.trace.steps).toHaveLength(1);
    expect(shrunk.trace.header).toMatchObject({
      geometry: 'tiny',
      flush: 'eager',
      superpages: false,
      pcpus: 1,
      domains: [],
    });
    const [op] = opsOf(shrunk.trace);
    expect(op).toEqual({
      ...decrease,
      target: DOMID_SELF,
      extents: { by: 'value', gfns: [] },
      order: 0,
      start: { raw: 0 },
    });
    expect(shrunk.executions).toBeLessThan(150);
  });

  it('keeps two steps that are needed together, and what they share', () => {
    const isShared = (trace: Trace): boolean => {
      const ops = opsOf(trace);
      const first = ops.findIndex((op) => op.kind === 'memory.addToPhysmap' && op.space === 'grantTable');
      const gfn = JSON.stringify((ops[first] as typeof map | undefined)?.gfn);
      return ops
        .slice(first + 1)
        .some((op) => first >= 0 && op.kind === 'memory.decrease' && JSON.stringify(op).includes(gfn));
    };
    const fails = (trace: Trace): Failure | undefined =>
      isShared(trace) ? failure(trace.steps.length - 1) : undefined;
    const trace = hidden([map, decrease], 80);
    const shrunk = shrinkTrace(trace, { fails, original: failure(trace.steps.length - 1), limits });
    expect(shrunk.trace.steps).toHaveLength(2);
    expect(shrunk.trace.header.geometry).toBe('tiny');
    expect(sizeOf(shrunk.trace)[3]).toBeLessThan(40);
  });

  it('removes pairs that are useless only together', () => {
    // Balanced: every create is killed. Fails if it is balanced and holds a decrease.
    const fails = (trace: Trace): Failure | undefined => {
      const kinds = opsOf(trace).map(({ kind }) => kind);
      const count = (kind: string): number => kinds.filter((other) => other === kind).length;
      const isBalanced = count('memory.pauseDomain') === count('memory.unpauseDomain');
      return isBalanced && kinds.includes('memory.decrease') ? failure(trace.steps.length - 1) : undefined;
    };
    const pause: Op<'symbolic'> = { kind: 'memory.pauseDomain', target: 1 as DomId };
    const unpause: Op<'symbolic'> = { kind: 'memory.unpauseDomain', target: 1 as DomId };
    const trace = hidden([pause, decrease, unpause, pause, unpause], 30);
    const shrunk = shrinkTrace(trace, { fails, original: failure(trace.steps.length - 1), limits });
    expect(opsOf(shrunk.trace).map(({ kind }) => kind)).toEqual(['memory.decrease']);
  });

  it('does not slip to another failure', () => {
    const fails = (trace: Trace): Failure | undefined => {
      const kinds = opsOf(trace).map(({ kind }) => kind);
      if (kinds.includes('memory.decrease')) return failure(trace.steps.length - 1);
      return failure(0, 'another');
    };
    const trace = hidden([decrease], 20);
    const shrunk = shrinkTrace(trace, { fails, original: failure(trace.steps.length - 1), limits });
    expect(opsOf(shrunk.trace).map(({ kind }) => kind)).toEqual(['memory.decrease']);
  });

  it('is deterministic and stops at its limit', () => {
    const fails = (trace: Trace): Failure | undefined =>
      opsOf(trace).some(({ kind }) => kind === 'memory.decrease') ? failure(trace.steps.length - 1) : undefined;
    const trace = hidden([decrease], 40);
    const run = () =>
      shrinkTrace(trace, { fails, original: failure(trace.steps.length - 1), limits: { executions: 7 } });
    expect(run()).toEqual(run());
    expect(run()).toMatchObject({ executions: 7, isExhausted: false });
  });
});

describe('candidates', () => {
  const paused: ActStep = { ...act(9, decrease), pause: { class: 'flush', object: 'cache', nth: 2 }, preempt: 3 };
  const trace: Trace = {
    header,
    steps: [
      ...hidden([map], 6).steps,
      { ...paused, failures: [{ class: 'pool', nth: 2 }] },
      { label: 20, resume: 9, pause: { class: 'store', object: 'table', nth: 1 } },
    ],
  };

  it('are strictly smaller, from every position', () => {
    const walk = (from: Trace, position: Position | undefined, depth: number): void => {
      let seen = 0;
      for (const candidate of candidates(from, { failedAt: undefined, from: position })) {
        expect(isSmaller(candidate.trace, from)).toBe(true);
        seen += 1;
        if (depth > 0 && seen % 17 === 0) walk(candidate.trace, candidate.position, depth - 1);
      }
    };
    walk(trace, undefined, 1);
  });

  it('cut at the failing step first', () => {
    const [first] = candidates(trace, { failedAt: 3, from: undefined });
    expect(first?.trace.steps).toEqual(trace.steps.slice(0, 4));
  });
});

describe('embedInTiny', () => {
  it('keeps different gfns different where there is room', () => {
    const embedded = embedInTiny(hidden([map, decrease], 3), true);
    expect(embedded.header.geometry).toBe('tiny');
    const paths = pathsIn(embedded);
    expect(paths.every((path) => path.length <= 3 && path.every((digit) => digit < 4))).toBe(true);
    expect(new Set(paths.map((path) => path.join('.'))).size).toBe(pathsIn(hidden([map, decrease], 3)).length);
  });
});
