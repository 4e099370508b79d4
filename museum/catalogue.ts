// The list of exhibits: whatever folders there are. Nobody keeps it by hand.
// A first reader may skip it.

import { existsSync, readdirSync } from 'node:fs';
import { extname, join } from 'node:path';
import type { Exhibit } from './exhibit.ts';
import { projectRoot } from './source-tree.ts';

const isExhibit = /^xsa-(\d+)[a-z]?$/;

const numberOf = (id: string): number => Number(isExhibit.exec(id)?.[1] ?? 0);

/** Names of all exhibits, by number of the advisory. */
export const exhibitIds = (): readonly string[] =>
  readdirSync(join(projectRoot, 'museum'))
    .filter((name) => isExhibit.test(name) && existsSync(join(projectRoot, 'museum', name, 'exhibit.ts')))
    .toSorted((a, b) => numberOf(a) - numberOf(b) || (a < b ? -1 : 1));

/** One exhibit by name; there must be one. */
export async function exhibitOf(id: string): Promise<Exhibit> {
  const file = new URL(`./${id}/exhibit${extname(import.meta.url)}`, import.meta.url);
  return ((await import(file.href)) as { readonly exhibit: Exhibit }).exhibit;
}

/** All exhibits. */
export const catalogue = (): Promise<readonly Exhibit[]> => Promise.all(exhibitIds().map(exhibitOf));
