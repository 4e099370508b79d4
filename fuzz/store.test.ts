// What is stored is never overwritten and can be read again; what is damaged is passed over with a reason.
// Prefixes that are extended keep their labels apart from the fresh steps.

import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { DomId } from '#abi/address.ts';
import { TRACE_VERSION, type Trace } from '#abi/trace.ts';
import { attempt, sourceOf } from '#museum/attempt.ts';
import type { Failure } from '#properties/harness/law.ts';
import { clean } from '#properties/harness/subject.ts';
import { extended } from './extend.ts';
import { Store } from './store.ts';

const traceOf = (frames: number): Trace => ({
  header: {
    version: TRACE_VERSION,
    geometry: 'tiny',
    width: {},
    pcpus: 1,
    iommus: [],
    domains: [],
    flush: 'eager',
    scrub: 'always',
    scrubAt: 'free',
    superpages: true,
  },
  steps: [{ label: 0, agent: { kind: 'toolstack' }, op: { kind: 'memory.setPool', target: 1 as DomId, frames } }],
});

const failure: Failure = {
  law: 'harness/bothSidesAgree',
  statement: 'They agree.',
  invariant: 'refines',
  mechanism: 'memory',
  field: 'reply.status',
  sentence: 'they do not',
  step: 0,
};

describe('the store', () => {
  let folder = '';
  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 'ringfence-'));
  });
  afterEach(() => rmSync(folder, { recursive: true, force: true }));

  it('keeps failures with one fingerprint apart, and the same trace once', () => {
    const store = new Store(folder);
    const first = store.keep(traceOf(1), failure);
    const second = store.keep(traceOf(2), failure);
    expect(second).not.toBe(first);
    expect(store.keep(traceOf(1), failure)).toBe(first);
    expect(store.failures().map((one) => (one.ok ? one.trace : one.error))).toEqual([traceOf(1), traceOf(2)]);
  });

  it('says why a stored failure cannot be read, and leaves it alone', () => {
    const store = new Store(folder);
    mkdirSync(join(folder, '.ringfence/failures'), { recursive: true });
    const damaged = join(folder, '.ringfence/failures/x.json');
    writeFileSync(damaged, '[');
    expect(store.failures()).toEqual([
      { ok: false, file: join('.ringfence', 'failures', 'x.json'), error: expect.stringContaining('line 1') as string },
    ]);
    expect(readFileSync(damaged, 'utf8')).toBe('[');
  });

  it('counts turns, from 0 again if the note is damaged', () => {
    const store = new Store(folder);
    expect([store.nextTurn(), store.nextTurn()]).toEqual([0, 1]);
    writeFileSync(join(folder, '.ringfence/start.json'), 'no');
    expect(store.nextTurn()).toBe(0);
  });
});

describe('extending a prefix', () => {
  it('gives a trace with unique labels that runs alike again', () => {
    const prefix = attempt(clean, sourceOf(1, 1)).trace;
    const half = { ...prefix, steps: prefix.steps.slice(0, 20) };
    const one = attempt(clean, extended(half, sourceOf(1, 2)));
    expect(one.error).toBeUndefined();
    expect(one.trace.steps.slice(0, 20)).toEqual(half.steps);
    expect(one.trace.steps.length).toBeGreaterThan(20);
    expect(new Set(one.trace.steps.map(({ label }) => label)).size).toBe(one.trace.steps.length);
    const again = attempt(clean, { kind: 'trace', trace: one.trace });
    expect([again.operations, again.failure, [...again.semantic]]).toEqual([
      one.operations,
      one.failure,
      [...one.semantic],
    ]);
  });
});
