// docs/mutation.md: what became of the mutants that were drawn, from the results as they are.
// A first reader may skip how cells are written.

import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { projectRoot } from '#museum/source-tree.ts';
import { drawn, mutantsOf, targets, type Mutant, type Target } from './mutants.ts';
import { groups, plain, readReasons, type Group, type Reason } from './reasons.ts';
import { idOf, type Result } from './results.ts';

/** A mutant that was drawn, and what became of it. */
export interface Judged {
  readonly mutant: Mutant;
  readonly result: Result | undefined;
}

/** What is drawn: by which seed, how many of each mechanism. */
export interface Draw {
  readonly seed: number;
  readonly count: number;
}

/** The mutants of a mechanism with what is known of them. */
export async function judgedOf(
  target: Target,
  draw: Draw,
  results: ReadonlyMap<string, Result>,
): Promise<{ readonly total: number; readonly judged: readonly Judged[] }> {
  const all = await mutantsOf(target);
  const total = [...all.values()].reduce((sum, { length }) => sum + length, 0);
  const judged = drawn(all, draw).map((mutant) => ({ mutant, result: results.get(idOf(mutant)) }));
  return { total, judged };
}

const LONGEST = 90;

const shown = (text: string): string => {
  const row = plain(text);
  return row.length <= LONGEST ? row : `${row.slice(0, LONGEST - 2)} …`;
};

/** Code within a cell: backquotes in it would end it. */
const code = (text: string): string => {
  const quoted = shown(text).replaceAll('|', '\\|');
  return quoted.includes('`') ? `\`\` ${quoted} \`\`` : `\`${quoted}\``;
};

const count = <T>(of: readonly T[], is: (one: T) => boolean): number => of.filter(is).length;

const share = (some: number, all: number): string => (all === 0 ? '-' : `${((100 * some) / all).toFixed(1)} %`);

/** What killed, without the name of the test or the message. */
const killerOf = ({ status, by = '' }: Result): string => {
  if (status === 'timeout') return 'does not end';
  if (by.includes(' threw: ')) return `throws in ${by.slice(0, by.indexOf(' threw: '))}`;
  return by.replace(/(\.test\.ts): .*$/u, '$1');
};

const isKilled = ({ result }: Judged): boolean => result?.status === 'killed' || result?.status === 'timeout';
const isAlive = ({ result }: Judged): boolean => result?.status === 'survived';

function killers(judged: readonly Judged[]): readonly string[] {
  const tally = new Map<string, number>();
  for (const { result } of judged) {
    if (result === undefined || result.status === 'survived') continue;
    const by = killerOf(result);
    tally.set(by, (tally.get(by) ?? 0) + 1);
  }
  const rows = [...tally].toSorted(([a, m], [b, n]) => n - m || (a < b ? -1 : 1));
  return ['| killed by | mutants |', '|---|---|', ...rows.map(([by, n]) => `| ${by.replaceAll('|', '\\|')} | ${n} |`)];
}

function survivors(judged: readonly Judged[], reasonOf: (mutant: Mutant) => Reason | undefined): readonly string[] {
  const alive = judged.filter(isAlive).map((one) => ({ ...one, reason: reasonOf(one.mutant) }));
  const names = [...(Object.keys(groups) as readonly Group[]), undefined];
  return names.flatMap((group) => {
    const some = alive.filter(({ reason }) => reason?.group === group);
    if (some.length === 0) return [];
    const title = group === undefined ? 'Not looked at yet' : groups[group];
    return [
      '',
      `**${title}** (${some.length})`,
      '',
      '| place | text | becomes | why |',
      '|---|---|---|---|',
      ...some.map(
        ({ mutant, reason }) =>
          `| \`impl/${mutant.file}:${mutant.line}\` | ${code(mutant.before)} | ${code(mutant.after)} | ${(reason?.why ?? '').replaceAll('|', '\\|')} |`,
      ),
    ];
  });
}

function sectionOf(target: Target, total: number, judged: readonly Judged[]): readonly string[] {
  const done = judged.filter(({ result }) => result !== undefined);
  const killed = count(done, isKilled);
  const hanging = count(done, ({ result }) => result?.status === 'timeout');
  const slow = Math.max(0, ...done.map(({ result }) => result?.milliseconds ?? 0));
  const files = new Set(judged.map(({ mutant }) => mutant.file));
  return [
    `## ${target}`,
    '',
    `${judged.length} of ${total} mutants, from ${files.size} files; ${done.length} judged. Killed: **${killed} of ${done.length}, ${share(killed, done.length)}**` +
      ` (${hanging} of them because they do not end). Survivors: ${done.length - killed}. Most time for one: ${(slow / 1000).toFixed(1)} s.`,
    '',
    ...killers(done),
    ...survivors(done, readReasons()),
    '',
  ];
}

/** Writes the page. Mechanisms of which nothing is known are left out. */
export async function writePage(draw: Draw, results: ReadonlyMap<string, Result>): Promise<void> {
  const sections: string[] = [];
  for (const target of targets) {
    const { total, judged } = await judgedOf(target, draw, results);
    if (judged.some(({ result }) => result !== undefined)) sections.push(...sectionOf(target, total, judged));
  }
  const page = [
    '# Mutants of the implementation',
    '',
    `Small changes of the code (the mutators of Stryker, sentences of assertions left out), drawn by seed ${draw.seed} in proportion to the size of files, and judged one`,
    'by one by the suite without the museum: directed tests, random and recorded cases, lockstep runs, other tests; at most 8 seconds of test for each.',
    `\`npm run mutate -- paging|hap|tlb --mutants ${draw.count} --seed ${draw.seed}\` repeats it; how it works is in decision 0009.`,
    '',
    ...sections,
  ].join('\n');
  writeFileSync(join(projectRoot, 'docs/mutation.md'), page);
}
