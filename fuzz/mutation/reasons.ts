// Why a mutant that nothing kills is left alive: read by people, from reasons.json, where each entry names the mutant by its file,
// the line's text and what it becomes, so that it stays found when lines move. A first reader may skip it.

import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { projectRoot } from '#museum/source-tree.ts';
import type { Mutant } from './mutants.ts';

/** Groups of reasons, and what each says. */
export const groups = {
  equivalent: 'Equivalent: no program can tell the two apart',
  redundant: 'A check or step that something else makes up for',
  speed: 'Only speed, or how much is remembered',
  assertion: 'An assertion that never fails',
  rare: 'Needs a state that the suite does not come to',
  gap: 'The suite does not look',
} as const;

export type Group = keyof typeof groups;

/** One mutant's reason, in a sentence. */
export interface Reason {
  readonly file: string;
  /** The line, trimmed. */
  readonly text: string;
  readonly before: string;
  readonly after: string;
  readonly group: Group;
  readonly why: string;
}

const FILE = join(projectRoot, 'fuzz/mutation/reasons.json');

/** Text without differences of white space. */
export const plain = (text: string): string => text.replaceAll(/\s+/gu, ' ').trim();

const nameOf = ({ file, text, before, after }: Pick<Mutant, 'file' | 'text' | 'before' | 'after'>): string =>
  [file, text, before, after].map(plain).join('\0');

/** All reasons, by mutant. */
export function readReasons(file = FILE): (mutant: Mutant) => Reason | undefined {
  const all = existsSync(file) ? (JSON.parse(readFileSync(file, 'utf8')) as readonly Reason[]) : [];
  const known = new Map(all.map((reason) => [nameOf(reason), reason]));
  return (mutant) => known.get(nameOf(mutant));
}
