// Every rule about Xen is still needed: without it, model and recording differ after the last step of its sequence.
// How a sequence is replayed is in replay.ts; a first reader may skip this file.

import { describe, expect, test } from 'vitest';
import { DIRECTED, readCorpus } from './corpus.ts';
import { replay } from './replay.ts';
import { rules } from './rules.ts';

describe('rules about Xen', () => {
  const { records } = readCorpus(DIRECTED);

  test('each has a sequence', () => {
    expect(records.map(({ rule }) => rule)).toEqual(rules.map(({ id }) => id));
  });

  test.each(records.map((record) => [record.rule ?? '', record] as const))('%s is needed', (_, record) => {
    expect(replay(record)?.at).toBe(record.observed.length - 1);
  });
});
