// Every synthetic mutant, held to what an exhibit is held to: its edits fit impl/, and the case or trace that is kept breaks one of
// its laws on the copy and none on the implementation as it stands. And there are enough of them, of all kinds.

import { describe, expect, it } from 'vitest';
import { laws } from '#properties/index.ts';
import { clean } from '#properties/harness/subject.ts';
import { accessJudge } from '#properties/paging/cases-judge.ts';
import { replay } from './attempt.ts';
import { editedSources, loadSubject } from './loader.ts';
import { mutants } from './synthetic-catalogue.ts';
import { lawOf } from './synthetic-hunt.ts';
import { brokenRules, evidenceOf, loadUnit, type Mutant } from './synthetic.ts';

const judgeClean = accessJudge();

const kept = ({ id }: Mutant) =>
  evidenceOf(id) ?? expect.fail(`not found yet: npm run museum -- --synthetic --hunt --id ${id}`);

it('there are at least twenty, of every kind', () => {
  expect(mutants.length).toBeGreaterThanOrEqual(20);
  expect(new Set(mutants.map(({ id }) => id)).size).toBe(mutants.length);
  expect(new Set(mutants.map(({ breaks }) => breaks))).toEqual(new Set(brokenRules));
});

it('are killed by laws that there are', () => {
  const known = new Set(laws.map(({ id }) => id));
  expect(mutants.flatMap(({ killedBy }) => killedBy).filter((id) => !known.has(id))).toEqual([]);
});

it.each(mutants)('$id applies to impl/ as it stands', (mutant) => {
  expect(editedSources(mutant).size).toBeGreaterThan(0);
});

describe('evidence', () => {
  it.each(mutants.filter(({ by }) => by === 'cases'))('against $id: a case', async (mutant) => {
    const evidence = kept(mutant);
    if (evidence.kind !== 'case') return expect.fail('it is a trace');
    expect(mutant.killedBy).toContain(lawOf(evidence.case));
    expect(accessJudge(await loadUnit(mutant))(evidence.case)).toBeDefined();
    expect(judgeClean(evidence.case)).toBeUndefined();
  });

  it.each(mutants.filter(({ by }) => by === 'runs'))('against $id: a trace', async (mutant) => {
    const evidence = kept(mutant);
    if (evidence.kind !== 'trace') return expect.fail('it is a case');
    const edited = replay(await loadSubject(mutant), evidence.trace);
    expect(edited.error).toBeUndefined();
    expect(mutant.killedBy).toContain(edited.failure?.law);
    const held = replay(clean, evidence.trace);
    expect(held.error).toBeUndefined();
    expect(held.failure).toBeUndefined();
  });
});
