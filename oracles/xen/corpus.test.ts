// Recorded sequences of the real Xen, replayed against model and implementation without any emulator.
// How a sequence is replayed is in replay.ts; a first reader may skip the files' own tests.

import { readFileSync, statSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { describeTrace } from '#abi/describe.ts';
import { corpusFiles, corpusFolder, packCorpus, readCorpus, unpackCorpus } from './corpus.ts';
import { replay } from './replay.ts';

const files = corpusFiles();

describe('recorded sequences of Xen', () => {
  test.each(files)('%s: model and implementation agree with every step', { timeout: 120_000 }, (name) => {
    const wrong = readCorpus(name).records.flatMap((record) => {
      const found = replay(record);
      if (found === undefined) return [];
      const { sentence, expected, actual } = found.difference;
      return [[`step ${found.at}: ${sentence}`, expected, actual, ...describeTrace(record.trace)].join('\n')];
    });
    expect(wrong.slice(0, 2), `${wrong.length} sequences differ`).toEqual([]);
  });

  test('take at most 4 MB', () => {
    const bytes = files.reduce((sum, name) => sum + statSync(`${corpusFolder()}/${name}`).size, 0);
    expect(bytes).toBeLessThanOrEqual(4_000_000);
  });

  test('are the same after unpacking and packing', () => {
    const [name = ''] = files;
    const { records, ...corpus } = readCorpus(name);
    const some = { ...corpus, records: records.slice(0, 5) };
    expect(unpackCorpus(name, packCorpus(some))).toEqual(some);
  });

  test('a damaged file is refused in one sentence that names it', () => {
    const [name = ''] = files;
    const file = readFileSync(`${corpusFolder()}/${name}`);
    expect(() => unpackCorpus(name, file.subarray(0, file.length - 50))).toThrow(
      `${name} is damaged: it cannot be unpacked`,
    );
  });
});
