// Recorded answers of the emulators, replayed against model and implementation without any emulator.
// How a case is replayed is in replay.ts; a first reader may skip the files' own tests.

import { readFileSync, statSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { Counter, readCensus } from './census.ts';
import { corpusFiles, corpusFolder, packCorpus, readCorpus, unpackCorpus } from './corpus.ts';
import { describeCase } from '#abi/describe.ts';
import { Bench, replay } from './replay.ts';

const files = corpusFiles();
const bytesOf = (name: string): number => statSync(`${corpusFolder()}/${name}`).size;

describe('recorded answers of emulators', () => {
  const bench = new Bench();
  const counter = new Counter();
  let cases = 0;

  test.each(files)('%s: model and implementation agree with every answer', { timeout: 120_000 }, (name) => {
    const corpus = readCorpus(name);
    cases += corpus.records.length;
    counter.open(name, corpus);
    const wrong = corpus.records.flatMap((record) => {
      const { own, comparison, verdict } = replay(corpus, record);
      if (comparison !== undefined) counter.add(corpus.oracle, comparison, verdict);
      const implementation = bench.difference(record.case, own);
      if (verdict.kind !== 'different' && implementation === undefined) return [];
      const why = verdict.kind === 'different' ? verdict.why : implementation;
      return [[why, ...describeCase(record.case)].join('\n')];
    });
    expect(wrong.slice(0, 3), `${wrong.length} cases differ`).toEqual([]);
  });

  test('there are at least 60,000 cases in at most 6 MB', () => {
    expect(cases).toBeGreaterThanOrEqual(60_000);
    expect(files.reduce((sum, name) => sum + bytesOf(name), 0)).toBeLessThanOrEqual(6_000_000);
  });

  test('are counted as they are: npm run docs', () => {
    expect(readCensus()).toEqual(counter.census);
  });

  test('are the same after unpacking and packing', () => {
    const [name = ''] = files;
    const { records, ...corpus } = readCorpus(name);
    const some = { ...corpus, records: records.slice(0, 200) };
    expect(unpackCorpus(name, packCorpus(some))).toEqual(some);
  });

  test('a damaged file is refused in one sentence that names it', () => {
    const [name = ''] = files;
    const file = readFileSync(`${corpusFolder()}/${name}`);
    const cut = file.subarray(0, file.length - 100);
    expect(() => unpackCorpus(name, cut)).toThrow(`${name} is damaged: it cannot be unpacked`);
    expect(() => unpackCorpus('empty.gz', new Uint8Array())).toThrow('empty.gz is damaged: it cannot be unpacked');
  });
});
