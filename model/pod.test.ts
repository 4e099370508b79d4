// Runs of gfns on demand: joined where they touch, cut where something else comes in between, and counted.
// A first reader may skip this file.

import type { DomId } from '#abi/address.ts';
import { Trie } from '#lib/trie.ts';
import { describe, expect, it } from 'vitest';
import { demandIn, entryCount, isOnDemand, withDemand, withoutDemand } from './pod.ts';
import type { Domain, Run, State } from './state.ts';

const ID = 1 as DomId;

const stateWith = (entries: readonly Run[]): State =>
  ({ domains: Trie.empty<Domain>().set(ID, { id: ID, pod: { entries } } as unknown as Domain) }) as unknown as State;

const entriesOf = (state: State): readonly Run[] => state.domains.get(ID)?.pod.entries ?? [];

describe('runs on demand', () => {
  const two = stateWith([
    { from: 2, to: 4 },
    { from: 8, to: 9 },
  ]);

  it.each([
    ['apart', { from: 5, to: 7 }, ['2-4', '5-7', '8-9']],
    ['after one', { from: 4, to: 6 }, ['2-6', '8-9']],
    ['before one', { from: 6, to: 8 }, ['2-4', '6-9']],
    ['between two', { from: 4, to: 8 }, ['2-9']],
    ['over all', { from: 0, to: 16 }, ['0-16']],
    ['within one', { from: 2, to: 3 }, ['2-4', '8-9']],
  ] as const)('are joined by one that lies %s', (_, run, runs) => {
    expect(entriesOf(withDemand(two, ID, run)).map(({ from, to }) => `${from}-${to}`)).toEqual(runs);
  });

  it.each([
    ['the middle', { from: 3, to: 5 }, ['2-3', '5-6', '8-9']],
    ['the beginning', { from: 0, to: 3 }, ['3-6', '8-9']],
    ['a whole one', { from: 8, to: 9 }, ['2-6']],
    ['nothing', { from: 6, to: 8 }, ['2-6', '8-9']],
  ] as const)('lose %s', (_, run, runs) => {
    const state = withDemand(two, ID, { from: 4, to: 6 });
    expect(entriesOf(withoutDemand(state, ID, run)).map(({ from, to }) => `${from}-${to}`)).toEqual(runs);
  });

  it('are counted', () => {
    const domain = two.domains.get(ID) ?? expect.fail('there is the domain');
    expect(entryCount(domain)).toBe(3);
    expect(demandIn(domain, { from: 3, to: 9 })).toBe(2);
    expect([1, 2, 3, 4, 8, 9].filter((gfn) => isOnDemand(domain, gfn))).toEqual([2, 3, 8]);
  });
});
