// The parts of the documentation that are made from the code, so that they cannot drift: run `npm run docs` to rewrite
// them between their markers, <!-- name --> and <!-- /name -->. tidy.test.ts fails while one of them is out of date.
// A first reader may skip it.

import { invariantNames, invariants } from '#abi/invariants.ts';
import { opTables } from '#abi/operation.ts';
import { catalogue } from '#museum/catalogue.ts';
import type { Exhibit } from '#museum/exhibit.ts';
import { newest, readResults } from '#museum/results.ts';
import { storedTrace } from '#museum/traces.ts';
import { readCensus, recount, unanchored, versionOf } from '#oracles/cpu/census.ts';
import { oracleNames, oracleTitles, rules } from '#oracles/cpu/rules.ts';
import { readXenCensus, recountXen } from '#oracles/xen/census.ts';
import { rules as xenRules } from '#oracles/xen/rules.ts';
import { existsSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { readProject } from './source-text.ts';

/** The folder that holds package.json. */
export const projectRoot = fileURLToPath(new URL('..', import.meta.url));

/** What the documentation says of a law. */
export interface LawRow {
  readonly id: string;
  readonly invariant: string;
  readonly statement: string;
}

/** The laws that properties/index.ts exports, or undefined as long as there is no such file. */
export const readLaws = async (root: string): Promise<readonly LawRow[] | undefined> => {
  const file = join(root, 'properties/index.ts');
  if (!existsSync(file)) return undefined;
  const exported = (await import(pathToFileURL(file).href)) as { readonly laws: readonly LawRow[] };
  return exported.laws;
};

const table = (head: readonly string[], rows: readonly (readonly string[])[]): string =>
  [head, head.map(() => '---'), ...rows]
    .map((cells) => `| ${cells.map((cell) => cell.replaceAll('|', '\\|')).join(' | ')} |`)
    .join('\n');

const code = (word: string): string => `\`${word}\``;

const grouped = (n: number): string => String(n).replaceAll(/\B(?=(?:\d{3})+$)/g, ',');

/** The tables of oracles/README.md, and what is left for ARCHITECTURE.md. */
const oracleBlocks = (): readonly (readonly [string, string])[] => {
  const census = readCensus();
  const cases = census.files.reduce((sum, file) => sum + file.cases, 0);
  const bytes = census.files.reduce((sum, file) => sum + file.bytes, 0);
  const files = census.files.map((file) => [
    code(file.name),
    `${oracleTitles[file.oracle]} ${file.version}`,
    grouped(file.cases),
    grouped(file.bytes),
  ]);
  const deviations = rules.map(({ id, oracle, versions, effect, vehicles }) => [
    code(id),
    `${oracleTitles[oracle]} ${versions.join(', ')}`,
    effect,
    vehicles.map(code).join(', '),
  ]);
  const anchored = Object.entries(census.anchors).map(([rule, counts]) => [
    rule,
    ...oracleNames.map((oracle) => (counts[oracle] === 0 ? '' : grouped(counts[oracle]))),
  ]);
  return [
    [
      'corpora',
      table(['file', 'emulator', 'cases', 'bytes'], [...files, ['together', '', grouped(cases), grouped(bytes)]]),
    ],
    ['deviations', table(['rule', 'emulator', 'effect', 'ways of asking'], deviations)],
    ['anchors', table(['rule', ...oracleNames.map((oracle) => versionOf(census, oracle))], anchored)],
    [
      'unanchored',
      unanchored(census)
        .map((rule) => `- ${rule}`)
        .join('\n'),
    ],
  ];
};

/** The tables of oracles/README.md about Xen. */
const xenBlocks = (): readonly (readonly [string, string])[] => {
  const { files, answers } = readXenCensus();
  const rows = files.map(({ name, xen, qemu, sequences, operations, bytes }) => [
    code(name),
    `Xen ${xen} in QEMU ${qemu}`,
    ...[sequences, operations, bytes].map(grouped),
  ]);
  const answerRows = Object.entries(answers).map(([kind, counts]) => [
    code(kind),
    Object.entries(counts)
      .map(([name, n]) => `${name} ${grouped(n)}`)
      .join(', '),
  ]);
  return [
    ['sequences', table(['file', 'hypervisor', 'sequences', 'operations', 'bytes'], rows)],
    ['answers', table(['operation', 'what Xen answered, how often'], answerRows)],
    [
      'differences',
      table(
        ['rule', 'effect', 'reason'],
        xenRules.map(({ id, effect, reason }) => [code(id), effect, reason]),
      ),
    ],
  ];
};

/** README's table of exhibits: what the newest hunt with each seed came to. */
const huntRows = (exhibits: readonly Exhibit[]): readonly (readonly string[])[] => {
  const results = readResults();
  return exhibits.map((exhibit) => {
    const hunts = [...newest(results, exhibit.id)].toSorted(([a], [b]) => a - b).map(([, hunt]) => hunt);
    const laws = new Set(hunts.flatMap(({ law }) => (law === undefined ? [] : [code(law)])));
    return [
      exhibit.id.toUpperCase(),
      exhibit.class,
      [...laws].join(', '),
      String(storedTrace(exhibit)?.steps.length ?? ''),
      hunts.map(({ solved, steps }) => (solved ? grouped(steps) : `not in ${grouped(steps)}`)).join('; '),
    ];
  });
};

/** Every generated block by the name in its markers. Without `laws`, or `exhibits`, their table is left as it is: whoever hunts may not have it rewritten yet. */
export const blocks = (
  laws: readonly LawRow[] | undefined,
  exhibits?: readonly Exhibit[],
): ReadonlyMap<string, string> => {
  const lawRows = laws?.map((law) => [code(law.id), law.invariant, law.statement]);
  const all: readonly (readonly [string, string | undefined])[] = [
    ['laws', lawRows && table(['law', 'invariant', 'what it says'], lawRows)],
    [
      'invariants',
      table(
        ['name', 'what must hold'],
        invariantNames.map((name) => [name, invariants[name]]),
      ),
    ],
    [
      'operations',
      table(
        ['mechanism', 'operations'],
        Object.entries(opTables).map(([mechanism, ops]) => [mechanism, Object.keys(ops).map(code).join(', ')]),
      ),
    ],
    [
      'hunts',
      exhibits &&
        table(
          ['exhibit', 'class', 'laws that caught it', 'steps', 'operations, by seed from 1 on'],
          huntRows(exhibits),
        ),
    ],
    ...oracleBlocks(),
    ...xenBlocks(),
  ];
  return new Map(all.filter((entry): entry is [string, string] => entry[1] !== undefined));
};

/** `text` with the inside of each generated block replaced. Unknown markers are left alone. */
export const withBlocks = (text: string, current: ReadonlyMap<string, string>): string =>
  text.replaceAll(/<!-- ([a-z]+) -->[\s\S]*?<!-- \/\1 -->/g, (whole, name: string) => {
    const content = current.get(name);
    return content === undefined ? whole : `<!-- ${name} -->\n\n${content}\n\n<!-- /${name} -->`;
  });

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  recount();
  recountXen();
  const current = blocks(await readLaws(projectRoot), await catalogue());
  for (const { path, text } of readProject(projectRoot)) {
    const rewritten = path.endsWith('.md') ? withBlocks(text, current) : text;
    if (rewritten === text) continue;
    writeFileSync(join(projectRoot, path), rewritten);
    console.log(`rewrote ${path}`);
  }
}
