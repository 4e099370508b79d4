// fuzz/mutation/results.jsonl: what was found out about each mutant, one line each, only ever appended to. What killed a mutant
// kills it as long as its file stays as it is; that it survives is known of one suite only. So a run that was interrupted goes
// on where it stopped, and one after a change judges only what that may have changed. A first reader may skip it.

import { createHash } from 'node:crypto';
import { appendFileSync, existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { lineAfter, valuesIn } from '#lib/lines.ts';
import { projectRoot, readSources } from '#museum/source-tree.ts';
import type { Verdict } from './judge.ts';
import { digestOf, keyOf, type Mutant } from './mutants.ts';
import { testsBeside } from './suite.ts';

/** A verdict, and on what. */
export interface Result extends Verdict {
  readonly key: string;
  /** Digest of what judged. */
  readonly suite: string;
}

const FILE = join(projectRoot, 'fuzz/mutation/results.jsonl');

const isResult = (value: unknown): value is Result =>
  typeof value === 'object' && value !== null && 'key' in value && 'suite' in value && 'status' in value;

const textOf = (file: string): string => (existsSync(file) ? readFileSync(file, 'utf8') : '');

/** The newest result for each mutant. A line that was cut off is passed over. */
export const readResults = (file = FILE): ReadonlyMap<string, Result> =>
  new Map(
    valuesIn(textOf(file))
      .filter(isResult)
      .map((result) => [result.key, result]),
  );

/** Short, and the same for the same mutant. */
export const idOf = (mutant: Mutant): string => digestOf(keyOf(mutant));

/** Adds a result, on a line of its own even if the last one was cut off. */
export function appendResult(result: Result, file = FILE): void {
  appendFileSync(file, lineAfter(textOf(file), result));
}

/** Digest of everything that judges: the layers, the tests beside the code, and how it is put together. */
export function suiteDigest(): string {
  const hash = createHash('sha256');
  for (const layer of ['lib', 'abi', 'model', 'impl', 'properties', 'fuzz/mutation'])
    for (const [path, text] of readSources(layer)) hash.update(`${layer}/${path}\0${text}\0`);
  for (const path of testsBeside()) hash.update(readFileSync(join(projectRoot, path)));
  return hash.digest('hex').slice(0, 12);
}
