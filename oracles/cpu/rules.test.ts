// Every rule about an emulator is needed by a recorded case: with the rule there is no disagreement, without it there is one.
// How that is judged is in directed.ts.

import { describe, expect, test } from 'vitest';
import { readFileSync } from 'node:fs';
import { decodeCase } from '#abi/decode.ts';
import { corpusFolder } from './corpus.ts';
import { isNeeded, needOf, readDirected } from './directed.ts';
import type { Comparison } from './compare.ts';
import { rules, rulesFor } from './rules.ts';
import { expected } from './window.ts';

const directed = readDirected();

describe('rules about emulators', () => {
  test('have names of their own', () => {
    expect(new Set(rules.map(({ id }) => id)).size).toBe(rules.length);
  });

  test.each(rules.map(({ id }) => id))('%s has a case that is judged differently without it', (id) => {
    const found = directed.filter(({ rule }) => rule === id);
    expect(found).toHaveLength(1);
    for (const each of found) expect(isNeeded(needOf(each)), JSON.stringify(needOf(each))).toBe(true);
  });

  test('every directed case belongs to a rule', () => {
    const ids = new Set(rules.map(({ id }) => id));
    expect(directed.filter(({ rule }) => !ids.has(rule))).toEqual([]);
  });

  test('add up: an implicit access past bit 8 of a PML4 entry', () => {
    const decoded = decodeCase(readFileSync(`${corpusFolder()}/two-rules.json`, 'utf8'));
    if (!decoded.ok || decoded.case.engine === 'ept') return expect.fail('no such case');
    const one = decoded.case;
    const outcome = expected(one, false) ?? expect.fail('out of reach');
    expect(outcome.result.kind).toBe('pageFault');
    const seen = { kind: 'done' } as const;
    let comparison = { case: one, modelled: one, outcome, direct: false, seen } as unknown as Comparison;
    for (const { apply } of rulesFor({ oracle: 'bochs', vehicle: 'svmNested' })) {
      const applied = apply?.(comparison);
      if (applied !== undefined && applied !== 'masked') comparison = applied;
    }
    expect(comparison.outcome.result.kind).toBe('done');
  });
});
