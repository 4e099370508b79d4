// How mutants are made and drawn, and the stand-in for vitest that runs test files on them. What mutants come to is a matter of
// minutes and stands in docs/mutation.md. A first reader may skip it.

import swc from '@swc/wasm-typescript';
import { expect, it } from 'vitest';
import { readSources } from '#museum/source-tree.ts';
import { drawn, keyOf, mutantsOf } from './mutants.ts';
import { urlOf } from './suite.ts';
import * as standIn from './tests.ts';

const all = await mutantsOf('tlb');
const sources = readSources('impl');

it('draws the same by the same seed, some of every file, in proportion', () => {
  const some = drawn(all, { seed: 1, count: 60 });
  expect(drawn(all, { seed: 1, count: 60 })).toEqual(some);
  expect(drawn(all, { seed: 2, count: 60 })).not.toEqual(some);
  expect(new Set(some.map(keyOf)).size).toBe(some.length);
  const total = [...all.values()].flat().length;
  for (const [file, mutants] of all) {
    const share = some.filter((mutant) => mutant.file === file).length;
    expect(share).toBeGreaterThanOrEqual(Math.min(1, mutants.length));
    expect(Math.abs(share - (60 * mutants.length) / total)).toBeLessThanOrEqual(1);
  }
});

it('makes mutants that can be loaded and change something', () => {
  for (const { file, start, before, after } of [...all.values()].flat()) {
    const text = sources.get(file) ?? '';
    expect(text.slice(start, start + before.length)).toBe(before);
    const changed = text.slice(0, start) + after + text.slice(start + before.length);
    expect(() => swc.transformSync(changed, { mode: 'strip-only', module: true })).not.toThrow();
  }
});

it('names modules by URLs that stay as they are when they are read', () => {
  for (const mutant of [...all.values()].flat()) {
    const url = urlOf('impl/machine.ts', mutant);
    expect(new URL(url).href).toBe(url);
  }
});

it('leaves the sentences of assertions alone', () => {
  for (const { before, text, mutator } of [...all.values()].flat())
    if (mutator === 'StringLiteral' && before.includes(' ')) expect(text).not.toMatch(/\b(?:invariant|present)\(/u);
});

it('runs tests as vitest does, rows included', () => {
  standIn.begin();
  standIn.describe('a group', () => {
    standIn.it('passes', () => standIn.expect([1]).toEqual([1]));
    standIn.it.each([[1, 2], [2, 2]])('%d is the other', { timeout: 1 }, (a: unknown, b: unknown) => standIn.expect(a).toBe(b)); // prettier-ignore
    standIn.it.each([{ id: 'x' }])('$id', (row: unknown) => standIn.expect(row).not.toBe(undefined));
  });
  const outcome = standIn.declared().map(({ name, run }) => {
    try {
      run();
      return name;
    } catch {
      return `${name}: fails`;
    }
  });
  expect(outcome).toEqual(['a group > passes', 'a group > 1 is the other: fails', 'a group > 2 is the other', 'a group > x']); // prettier-ignore
});
