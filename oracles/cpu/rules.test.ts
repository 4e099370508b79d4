// Every rule about an emulator is needed by a recorded case: with the rule there is no disagreement, without it there is one.
// How that is judged is in directed.ts.

import { describe, expect, test } from 'vitest';
import { isNeeded, needOf, readDirected } from './directed.ts';
import { rules } from './rules.ts';

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
});
