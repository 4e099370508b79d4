// The suite itself: every law on generated runs, the states that must be reached, and what makes a verdict worth having: that
// a run repeats itself, that corrupted choices are noticed, that comparisons do not become looser.
// What is proved about nothing is not proved: each test here can fail; that each law does, its canary shows (museum).

import { readFileSync } from 'node:fs';
import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { describeTrace } from '#abi/describe.ts';
import { opKinds, type OpKind } from '#abi/operation.ts';
import type { Trace } from '#abi/trace.ts';
import { Prng } from '#lib/prng.ts';
import { TraceArbitrary } from './arbitrary.ts';
import { corrupted, disowned, isNoticed } from './corrupt.ts';
import { drive, headerFor, type Source } from './generate.ts';
import type { Failure } from './law.ts';
import { Lockstep } from './lockstep.ts';
import type { Settings } from './settings.ts';
import { comparison } from './pairs.ts';
import { pointsOf, tableWritePoints, type Point } from './points.ts';
import { sometimesLaws } from './sometimes.ts';
import { clean, type Subject } from './subject.ts';

const told = (failure: Failure | undefined, trace: Trace): string =>
  failure === undefined
    ? ''
    : [
        `${failure.law}: ${failure.statement}`,
        failure.sentence,
        `model: ${failure.expected ?? '-'}`,
        `implementation: ${failure.actual ?? '-'}`,
        ...describeTrace(trace),
      ].join('\n');

const run = (source: Source, settings: Partial<Settings> = {}): { lockstep: Lockstep; trace: Trace } => {
  const lockstep = new Lockstep({ subject: clean, header: headerFor(source), settings });
  const trace = drive(lockstep, source);
  return { lockstep, trace };
};

const seeded = (n: number): Extract<Source, { readonly kind: 'seeds' }> => ({
  kind: 'seeds',
  header: 7919 * n,
  steps: 104_729 * n + 1,
  length: 75,
});

describe('generated runs', () => {
  it('break no law', { timeout: 120_000 }, () => {
    fc.assert(
      fc.property(new TraceArbitrary(), (source) => {
        const { lockstep, trace } = run(source);
        if (lockstep.failure !== undefined) throw new Error(told(lockstep.failure, trace));
      }),
      { seed: 1, numRuns: 300 },
    );
  });

  it('reach every state that a law must not be vacuous about', { timeout: 180_000 }, () => {
    const marks = new Set<string>();
    const isSeen = ({ mark }: { mark: string }): boolean => marks.has(mark);
    for (let n = 1; n <= 900 && !sometimesLaws.every(isSeen); n += 1)
      for (const mark of run(seeded(n)).lockstep.marks) marks.add(mark);
    expect(sometimesLaws.filter((law) => !isSeen(law)).map(({ id }) => id)).toEqual([]);
  });

  it('are the same on a machine that another run has used', () => {
    for (let n = 1; n <= 12; n += 1) {
      const source = seeded(n);
      const first = run(source);
      const digest = first.lockstep.digest();
      const other = run({ ...source, steps: source.steps + 1 });
      first.lockstep.close();
      const again = run(source);
      expect(again.lockstep.machine).toBe(first.lockstep.machine);
      expect(again.trace).toEqual(first.trace);
      expect(again.lockstep.digest()).toBe(digest);
      // While one run has it, another gets a machine of its own.
      expect(other.lockstep.machine).not.toBe(again.lockstep.machine);
    }
  });

  it('are hardly ever given up for having too many orders', () => {
    let abandoned = 0;
    for (let n = 1; n <= 100; n += 1) if (run(seeded(n)).lockstep.abandoned) abandoned += 1;
    expect(abandoned).toBeLessThanOrEqual(1);
  });

  it('do the same twice', () => {
    for (let n = 1; n <= 20; n += 1) {
      const one = run(seeded(n));
      const two = run(seeded(n));
      expect(two.trace).toEqual(one.trace);
      expect(two.lockstep.digest()).toBe(one.lockstep.digest());
    }
  });

  it('do when replayed what they did when generated', () => {
    for (let n = 1; n <= 20; n += 1) {
      const { lockstep, trace } = run(seeded(n));
      expect(run({ kind: 'trace', trace }).lockstep.digest()).toBe(lockstep.digest());
    }
  });

  it('give worlds that differ in one guest alone the same look to all others', { timeout: 60_000 }, () => {
    let runs = 0;
    let compared = 0;
    let whole = 0;
    for (let n = 1; n <= 40; n += 1) {
      const { trace } = run(seeded(n), { laws: [], fineEvery: 1_000_000 });
      for (const { id, kind } of trace.header.domains) {
        if (kind !== 'hvm') continue;
        const found = comparison(clean, trace, id);
        expect(found.problem?.sentence).toBe(undefined);
        runs += 1;
        compared += found.compared;
        whole += found.whole;
      }
    }
    // A law that soon has nothing left to compare proves nothing.
    expect(compared / runs).toBeGreaterThan(40);
    expect(whole / runs).toBeGreaterThan(12);
  });
});

describe('the model', () => {
  it('notices corrupted choices in at least 99 of 100 cases', () => {
    const prng = new Prng(5);
    let tried = 0;
    let noticed = 0;
    for (let n = 1; n <= 80; n += 1)
      run(seeded(n), {
        onReturn: (returned, after) => {
          // Only operations that ran alone have a log that explains them by itself.
          if (!returned.alone) return;
          const log = corrupted(returned, prng);
          if (log === undefined) return;
          tried += 1;
          if (isNoticed(returned, after, log)) noticed += 1;
        },
      });
    expect(tried).toBeGreaterThan(500);
    expect(noticed / tried).toBeGreaterThanOrEqual(0.99);
  });

  it('notices every refusal that nobody ordered, unless there was nothing left', () => {
    let tried = 0;
    let missed = 0;
    for (let n = 1; n <= 160; n += 1)
      run(seeded(n), {
        onReturn: (returned, after) => {
          const other = returned.alone ? disowned(returned) : undefined;
          if (other === undefined) return;
          tried += 1;
          if (!isNoticed(other, after, other.log)) missed += 1;
        },
      });
    expect(tried).toBeGreaterThan(20);
    // A pool or a heap can be empty when a failure is ordered.
    expect(missed / tried).toBeLessThan(0.1);
  });

  it('is not compared more loosely than the committed shares say', () => {
    const committed = JSON.parse(readFileSync(new URL('./looseness.json', import.meta.url), 'utf8')) as Record<
      string,
      number
    >;
    const loose = new Map<string, { loose: number; all: number }>();
    for (let n = 1; n <= 60; n += 1)
      run(seeded(n), {
        onReturn: ({ op, expected }) => {
          const known = loose.get(op.kind) ?? { loose: 0, all: 0 };
          known.all += 1;
          if (expected !== undefined && expected.kind !== 'exact') known.loose += 1;
          loose.set(op.kind, known);
        },
      });
    for (const [kind, share] of loose) expect(share.loose / share.all, kind).toBeLessThanOrEqual(committed[kind] ?? 0);
  });
});

/** The clean implementation, which tells what points operations pass. */
const telling = (told: (kind: OpKind, point: string) => void): Subject => ({
  name: 'telling',
  create: (header) => {
    const machine = clean.create(header);
    const { port } = machine;
    const point = port.point.bind(port);
    port.point = (pointClass, object) => {
      if (port.current !== undefined) told(port.current.call.op.kind, `${pointClass}:${object}`);
      return point(pointClass, object);
    };
    return machine;
  },
});

describe('the table of points', () => {
  const names = (points: readonly Point[]): readonly string[] => points.map(([c, object]) => `${c}:${object}`);

  it('names points that operations pass, and for each kind all that it passes', { timeout: 120_000 }, () => {
    const passed = new Set<string>();
    const untold = new Set<string>();
    const tabled = new Map(opKinds.map((kind) => [kind, new Set([...names(pointsOf[kind]), ...names(tableWritePoints[kind] ?? [])])])); // prettier-ignore
    const subject = telling((kind, point) => {
      passed.add(point);
      if (tabled.get(kind)?.has(point) !== true) untold.add(`${kind} ${point}`);
    });
    for (let n = 1; n <= 200; n += 1) {
      const source = seeded(n);
      const settings = { laws: [], fineEvery: 1_000_000 };
      expect(drive(new Lockstep({ subject, header: headerFor(source), settings }), source).steps.length).toBeGreaterThan(0); // prettier-ignore
    }
    expect([...untold]).toEqual([]);
    const all = new Set([...tabled.values()].flatMap((points) => [...points]));
    expect([...all].filter((point) => !passed.has(point))).toEqual([]);
  });
});
