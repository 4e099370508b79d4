// The trace that an exhibit keeps: the shortest one that our own campaigns have found.
// A first reader may skip it.

import { existsSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { decodeTrace, encodeTrace } from '#abi/decode.ts';
import type { Trace } from '#abi/trace.ts';
import type { Exhibit } from './exhibit.ts';
import { projectRoot } from './source-tree.ts';

/** A stored trace that cannot be read. */
export class DamagedTrace extends Error {
  override readonly name = 'DamagedTrace';
}

type Kept = Pick<Exhibit, 'id' | 'trace'>;

/** Path of an exhibit's stored trace, from the project's folder. */
export const traceFile = ({ id, trace }: Kept): string => `museum/${id}/${trace}`;

/** The stored trace; undefined if there is none yet. Throws `DamagedTrace` with the position of what is wrong. */
export function storedTrace(exhibit: Kept): Trace | undefined {
  const file = traceFile(exhibit);
  const path = join(projectRoot, file);
  if (!existsSync(path)) return undefined;
  const decoded = decodeTrace(readFileSync(path, 'utf8'));
  if (!decoded.ok) throw new DamagedTrace(`${file} cannot be read: ${decoded.error}`);
  return decoded.trace;
}

/** Traces by name, from the text of `file`. Throws `DamagedTrace` with the name and the position of what is wrong. */
export const tracesByName = (text: string, file: string): ReadonlyMap<string, Trace> =>
  new Map(
    Object.entries(JSON.parse(text) as Readonly<Record<string, unknown>>).map(([name, value]) => {
      const decoded = decodeTrace(JSON.stringify(value));
      if (!decoded.ok) throw new DamagedTrace(`${file}, ${name}: ${decoded.error}`);
      return [name, decoded.trace];
    }),
  );

/** Stores `trace` if there is none yet, it is shorter than the stored one, or that one `isStale`; says whether it did. */
export function keepIfShorter(exhibit: Kept, trace: Trace, isStale: (stored: Trace) => boolean): boolean {
  const old = storedTrace(exhibit);
  if (old !== undefined && old.steps.length <= trace.steps.length && !isStale(old)) return false;
  const path = join(projectRoot, traceFile(exhibit));
  const draft = `${path}.draft`;
  writeFileSync(draft, encodeTrace(trace));
  renameSync(draft, path);
  return true;
}
