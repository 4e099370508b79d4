// museum/results.jsonl: what every hunt came to, one line each, only ever appended to. A hunt is done when there is a line for
// its exhibit, seed and budget made with the code as it stands; so a hunt that was interrupted goes on where it stopped, and
// figures of older code stay as history. A first reader may skip it.

import { createHash } from 'node:crypto';
import { appendFileSync, existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { lineAfter, valuesIn } from '#lib/lines.ts';
import type { Exhibit } from './exhibit.ts';
import { projectRoot, readSources } from './source-tree.ts';

/** One hunt: found or not, after how many completed operations, and the shortest trace that came of it. */
export interface Result {
  readonly id: string;
  readonly seed: number;
  readonly budget: number;
  /** Digest of the layers below the museum and of the edit. */
  readonly code: string;
  readonly solved: boolean;
  readonly steps: number;
  readonly runs: number;
  readonly law?: string;
  /** Steps of the trace as found and after shrinking. */
  readonly found?: number;
  readonly length?: number;
  /** What certification says: `minimal in its own vocabulary` (older lines: `minimal`, which meant the same), or how far it got. */
  readonly certified?: string;
}

const FILE = join(projectRoot, 'museum/results.jsonl');

const isResult = (value: unknown): value is Result =>
  typeof value === 'object' &&
  value !== null &&
  'id' in value &&
  'seed' in value &&
  'solved' in value &&
  'steps' in value;

const textOf = (file: string): string => (existsSync(file) ? readFileSync(file, 'utf8') : '');

/** All results, oldest first. A line that cannot be read (a hunt was killed while writing it) is passed over. */
export const readResults = (file = FILE): readonly Result[] => valuesIn(textOf(file)).filter(isResult);

/** Adds a result, on a line of its own even if the last one was cut off. */
export function appendResult(result: Result, file = FILE): void {
  appendFileSync(file, lineAfter(textOf(file), result));
}

/** Digest of everything that decides how a hunt goes. */
export function codeDigest(exhibit: Pick<Exhibit, 'edits' | 'killedBy'>): string {
  const hash = createHash('sha256');
  for (const layer of ['lib', 'abi', 'model', 'impl', 'properties'])
    for (const [path, text] of readSources(layer)) hash.update(`${layer}/${path}\0${text}\0`);
  hash.update(JSON.stringify([exhibit.edits, exhibit.killedBy]));
  return hash.digest('hex').slice(0, 12);
}

/** The newest result for each seed of an exhibit. */
export function newest(results: readonly Result[], id: string): ReadonlyMap<number, Result> {
  return new Map(results.filter((result) => result.id === id).map((result) => [result.seed, result]));
}
