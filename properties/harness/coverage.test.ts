// Counting what runs reach: nothing is answered that no table declares, and checks are counted where they are made.
// A first reader may skip this file.

import { expect, it } from 'vitest';
import { Coverage } from './coverage.ts';
import { drive, headerFor, type Seeded } from './generate.ts';
import { Lockstep } from './lockstep.ts';
import { clean } from './subject.ts';

const RUNS = 80;

it('hears only what the tables of operations declare, and most of it', () => {
  const coverage = new Coverage();
  for (let seed = 1; seed <= RUNS; seed += 1) {
    const source: Seeded = { kind: 'seeds', header: seed, steps: seed, length: 75 };
    const run = new Lockstep({ subject: clean, header: headerFor(source), settings: coverage.settings });
    drive(run, source);
    expect(run.failure).toBeUndefined();
  }
  const replies = coverage.replies();
  expect(replies.filter(({ isDeclared }) => !isDeclared)).toStrictEqual([]);
  expect(replies.filter(({ count }) => count > 0).length).toBeGreaterThan(0.8 * replies.length);
  expect(coverage.checks('OWN', 'hap')).toBeGreaterThan(0);
  expect(coverage.checks('STALE', 'tlb')).toBeGreaterThan(0);
  expect(coverage.checks('REF', 'grants')).toBeGreaterThan(0);
  // There is no device yet.
  expect(coverage.checks('DMA', 'memory')).toBe(0);
});

it('counts nothing that nobody did', () => {
  const coverage = new Coverage();
  expect(coverage.replies().every(({ count }) => count === 0)).toBe(true);
  expect(
    coverage
      .table()
      .flatMap(({ counts }) => Object.values(counts))
      .every((count) => count === 0),
  ).toBe(true);
});
