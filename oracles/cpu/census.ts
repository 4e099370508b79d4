// What is recorded, counted: cases and bytes by file, and by architectural rule how many cases of each oracle decide it. Counting
// takes a replay of everything, so the counts are kept (corpus/census.json); `npm run docs` counts anew, and corpus.test.ts, which
// replays anyway, fails where they are out of date. A first reader may skip this file.

import { readFileSync, statSync, writeFileSync } from 'node:fs';
import { anchors } from './anchors.ts';
import { type Comparison, difference } from './compare.ts';
import { type Corpus, corpusFiles, corpusFolder, readCorpus } from './corpus.ts';
import type { Verdict } from './judge.ts';
import { replay } from './replay.ts';
import { type OracleName, oracleNames, oracleTitles } from './rules.ts';

/** One file of recorded answers. */
export interface CountedFile {
  readonly name: string;
  readonly oracle: OracleName;
  readonly version: string;
  readonly cases: number;
  readonly bytes: number;
}

/** Everything counted. */
export interface Census {
  readonly files: readonly CountedFile[];
  /** Cases that decide a rule, by rule and oracle. */
  readonly anchors: Readonly<Record<string, Readonly<Record<OracleName, number>>>>;
}

/** Counts while somebody replays. */
export class Counter {
  readonly #files: CountedFile[] = [];
  readonly #counts = new Map(anchors.map(({ rule }) => [rule, { qemu: 0, bochs: 0 }]));

  /** Takes a file. */
  open(name: string, { oracle, version, records }: Corpus): void {
    const { size } = statSync(`${corpusFolder()}/${name}`);
    this.#files.push({ name, oracle, version, cases: records.length, bytes: size });
  }

  /** Takes what came of a record of an open file. */
  add(oracle: OracleName, comparison: Comparison, verdict: Verdict): void {
    if (verdict.kind !== 'equal') return;
    const isUnaided = difference(comparison) === undefined;
    for (const { rule, decides, despite = [] } of anchors) {
      const counts = this.#counts.get(rule);
      const isOwn = isUnaided || verdict.rules.every((id) => despite.includes(id));
      if (counts !== undefined && isOwn && decides(comparison)) counts[oracle] += 1;
    }
  }

  get census(): Census {
    return { files: this.#files, anchors: Object.fromEntries(this.#counts) };
  }
}

const file = (): string => `${corpusFolder()}/census.json`;

/** The counts as they were kept. */
export const readCensus = (): Census => JSON.parse(readFileSync(file(), 'utf8')) as Census;

/** Counts anew, and keeps it. */
export function recount(): void {
  const counter = new Counter();
  for (const name of corpusFiles()) {
    const corpus = readCorpus(name);
    counter.open(name, corpus);
    for (const record of corpus.records) {
      const { comparison, verdict } = replay(corpus, record);
      if (comparison !== undefined) counter.add(corpus.oracle, comparison, verdict);
    }
  }
  writeFileSync(file(), `${JSON.stringify(counter.census, undefined, 1)}\n`);
}

/** `QEMU 7.2.22`: an oracle in the version that answered. */
export const versionOf = ({ files }: Census, oracle: OracleName): string => {
  const versions = new Set(files.filter((counted) => counted.oracle === oracle).map(({ version }) => version));
  return `${oracleTitles[oracle]} ${[...versions].join(', ')}`;
};

/** The rules that no recorded case of any oracle decides. */
export const unanchored = ({ anchors: counts }: Census): readonly string[] =>
  Object.entries(counts)
    .filter(([, of]) => oracleNames.every((oracle) => of[oracle] === 0))
    .map(([rule]) => rule);
