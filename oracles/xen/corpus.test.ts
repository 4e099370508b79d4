// Recorded sequences of the real Xen, replayed against model and implementation without any emulator.
// How a sequence is replayed is in replay.ts; a first reader may skip the files' own tests.

import { readFileSync, statSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { describeTrace } from '#abi/describe.ts';
import { readXenCensus, takeCensus } from './census.ts';
import { corpusFiles, corpusFolder, packCorpus, readCorpus, unpackCorpus } from './corpus.ts';
import type { Observed } from './play.ts';
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

  test('are counted as they are: npm run docs', () => {
    expect(readXenCensus()).toEqual(takeCensus());
  });

  test('take at most 4 MB', () => {
    const bytes = files.reduce((sum, name) => sum + statSync(`${corpusFolder()}/${name}`).size, 0);
    expect(bytes).toBeLessThanOrEqual(4_000_000);
  });

  test('that say anything else are noticed', () => {
    const record = readCorpus(files[0] ?? '').records.find(({ observed }) => observed.length > 3);
    const last = record?.observed.at(-1);
    if (record === undefined || last === undefined) throw new Error('there is a sequence of some length');
    const saying = (changed: Partial<Observed>): ReturnType<typeof replay> =>
      replay({ ...record, observed: [...record.observed.slice(0, -1), { ...last, ...changed }] });
    const { frames, entries } = last.look;
    const counted = frames.map((frame, i) => (i === 0 ? { ...frame, count: frame.count + 1 } : frame));
    const swapped = entries.map((entry, i) => ({ ...entry, mfn: entries[i === 0 ? 1 : i === 1 ? 0 : i]?.mfn ?? 0 }));
    expect(saying({ look: { frames: counted, entries } })?.difference.field).toMatch(/^frame/u);
    expect(saying({ look: { frames, entries: swapped } })?.difference.field).toBe('entry.frame');
    expect(saying({ look: { frames, entries: entries.slice(1) } })?.difference.field).toBe('entry.type');
    expect(saying({ heard: { status: 'EDOM', done: 99, words: [], elements: [] } })).toBeDefined();
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
