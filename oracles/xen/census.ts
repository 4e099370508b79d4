// What is recorded of Xen, counted: for the tables of oracles/README.md. Kept in corpus/census.json; `npm run docs` counts again,
// and the tests fail while a count is out of date. A first reader may skip this file.

import { readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { isAct } from '#abi/trace.ts';
import { corpusFiles, corpusFolder, DIRECTED, readCorpus, type Recorded } from './corpus.ts';
import type { Heard } from './heard.ts';

/** Counts of one file. */
export interface FileCensus {
  readonly name: string;
  readonly xen: string;
  readonly qemu: string;
  readonly sequences: number;
  readonly operations: number;
  readonly bytes: number;
}

export interface Census {
  readonly files: readonly FileCensus[];
  /** By kind of operation: how often Xen answered what. */
  readonly answers: Readonly<Record<string, Readonly<Record<string, number>>>>;
}

/** What an answer is counted as: each element's status, or the status of the call, or that it was answered at all. */
const namesOf = ({ status, elements = [], done }: Heard): readonly string[] => {
  if (elements.length > 0) return elements;
  return [status ?? (done === undefined ? 'done' : done === 0 ? 'none done' : 'some done')];
};

/** The counts of records, added to those so far. */
function addAnswers(answers: Record<string, Record<string, number>>, { trace, observed }: Recorded): void {
  const acts = trace.steps.filter(isAct);
  for (const [i, { heard }] of observed.entries()) {
    const kind = acts[i]?.op.kind ?? 'nothing';
    const counts = (answers[kind] ??= {});
    for (const name of namesOf(heard)) counts[name] = (counts[name] ?? 0) + 1;
  }
}

const byName = <T>(record: Readonly<Record<string, T>>): Record<string, T> =>
  Object.fromEntries(Object.entries(record).toSorted(([a], [b]) => (a < b ? -1 : 1)));

/** Counts what is recorded now. */
export function takeCensus(): Census {
  const answers: Record<string, Record<string, number>> = {};
  const files = [...corpusFiles(), DIRECTED].map((name): FileCensus => {
    const { xen, qemu, records } = readCorpus(name);
    if (name !== DIRECTED) for (const record of records) addAnswers(answers, record);
    const operations = records.reduce((sum, { observed }) => sum + observed.length, 0);
    const bytes = statSync(join(corpusFolder(), name)).size;
    return { name, xen, qemu, sequences: records.length, operations, bytes };
  });
  return { files, answers: byName(Object.fromEntries(Object.entries(answers).map(([k, v]) => [k, byName(v)]))) };
}

const FILE = 'census.json';

/** The counts that are kept. */
export const readXenCensus = (): Census => JSON.parse(readFileSync(join(corpusFolder(), FILE), 'utf8')) as Census;

/** Counts again and keeps it. */
export const recountXen = (): void =>
  writeFileSync(join(corpusFolder(), FILE), `${JSON.stringify(takeCensus(), undefined, 1)}\n`);
