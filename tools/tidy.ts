// The house rules that no linter knows, as functions from the files of the project to a list of violations.
// tidy.test.ts holds the tree to them and proves of each rule that it can fail. Each violation says what to do instead.
// A first reader may skip the bodies; `rules` at the end is the list.
//
// Arrows:  lib <- abi <- {model, impl} <- properties <- {museum, oracles, bench} <- {fuzz, lab}

import { posix } from 'node:path';
import { blocks, withBlocks, type LawRow } from './docs.ts';
import { codeLines, codeOf, importsOf, lineAt, type SourceFile } from './source-text.ts';

/** A broken rule. `line` counts from 1; 0 when the whole file is meant. */
export interface Violation {
  readonly file: string;
  readonly line: number;
  readonly rule: string;
  readonly advice: string;
}

/** What the rules judge: all files, and the exported laws once there are any. */
export interface Project {
  readonly files: readonly SourceFile[];
  readonly laws?: readonly LawRow[] | undefined;
}

type Found = Omit<Violation, 'rule'>;

/** The mechanisms in reading order: the only sub-folders that a mirrored layer has. */
export const mechanismNames = [
  'memory', 'paging', 'pv', 'shadow', 'hap', 'tlb', 'iommu', 'grants', 'platform', 'viridian',
] as const; // prettier-ignore

const below = ['lib', 'abi', 'model', 'impl', 'properties'];

/** Which other layers each layer may import. bench measures what the museum finds, so it may import its neighbours. */
const mayImport: Readonly<Record<string, readonly string[]>> = {
  lib: [],
  abi: ['lib'],
  model: ['lib', 'abi'],
  impl: ['lib', 'abi'],
  properties: ['lib', 'abi', 'model', 'impl'],
  museum: [...below, 'tools'],
  oracles: below,
  bench: [...below, 'museum', 'oracles'],
  fuzz: [...below, 'museum', 'oracles', 'bench', 'tools'],
  lab: [...below, 'museum', 'oracles', 'bench'],
};

/** Which packages the layers below the harness may import. */
const mayUse: Readonly<Record<string, readonly string[]>> = {
  lib: [],
  abi: [],
  model: ['ts-pattern'],
  impl: [],
  properties: ['ts-pattern', 'fast-check'],
};

const layerOf = (path: string): string => path.split('/')[0] ?? '';
/** Tests, and what they share: `.testing.ts`, which is no part of the build. */
const isTest = (path: string): boolean => /\.test(?:ing)?\.ts$/.test(path);
const sources = (project: Project): readonly SourceFile[] => project.files.filter((file) => file.path.endsWith('.ts'));
const coreSources = (project: Project): readonly SourceFile[] =>
  sources(project).filter(({ path }) => below.includes(layerOf(path)) && !isTest(path));

/** The project path that `specifier` means in `from`, or undefined for a package. */
const targetOf = (from: string, specifier: string): string | undefined => {
  if (specifier.startsWith('#')) return specifier.slice(1);
  return specifier.startsWith('.') ? posix.normalize(posix.join(posix.dirname(from), specifier)) : undefined;
};

/** Imports follow the arrows; inside a layer they are relative, across layers they begin with #. */
export const arrows = (project: Project): readonly Found[] =>
  sources(project).flatMap(({ path, text }) => {
    const allowed = mayImport[layerOf(path)];
    if (allowed === undefined) return [];
    return importsOf(text).flatMap(({ specifier, line }): Found[] => {
      const target = targetOf(path, specifier);
      if (target === undefined) return [];
      const layer = layerOf(target);
      if (layer === layerOf(path)) {
        const advice = 'Within a layer, import by a relative path.';
        return specifier.startsWith('#') ? [{ file: path, line, advice }] : [];
      }
      if (!allowed.includes(layer))
        return [
          { file: path, line, advice: `${layerOf(path)}/ may not import ${layer}/; put what both need into abi/.` },
        ];
      const advice = `Across layers, import '#${target}'.`;
      return specifier.startsWith('#') ? [] : [{ file: path, line, advice }];
    });
  });

/** The layers below the harness import no packages but those listed, and nothing of Node. */
export const packages = (project: Project): readonly Found[] =>
  coreSources(project).flatMap(({ path, text }) =>
    importsOf(text)
      .filter(({ specifier }) => targetOf(path, specifier) === undefined && !mayUse[layerOf(path)]?.includes(specifier))
      .map(({ specifier, line }) => ({
        file: path,
        line,
        advice: `${layerOf(path)}/ may not import '${specifier}'; it also runs in a browser.`,
      })),
  );

const mirrored = ['model', 'impl', 'properties'];

/** model/, impl/ and properties/ have the same mechanisms as sub-folders, and abi/ has a file for each. */
export const mirror = (project: Project): readonly Found[] => {
  const paths = sources(project).map((file) => file.path.split('/'));
  const has = (layer: string, folder: string): boolean =>
    paths.some((p) => p[0] === layer && p[1] === folder && p.length > 2);
  const strangers = paths
    .filter(
      ([layer = '', folder = '', ...rest]) => mirrored.includes(layer) && rest.length > 0 && !isExpected(layer, folder),
    )
    .map((path) => ({
      file: path.join('/'),
      line: 0,
      advice: `'${path[1]}' is no mechanism; what belongs to none stands directly in the layer.`,
    }));
  const missing = mechanismNames
    .filter((name) => mirrored.some((layer) => has(layer, name)))
    .flatMap((name) => [
      ...mirrored.filter((layer) => !has(layer, name)).map((layer) => `${layer}/${name}`),
      ...(paths.some((p) => p.join('/') === `abi/${name}.ts`) ? [] : [`abi/${name}.ts`]),
    ]);
  return [
    ...strangers,
    ...missing.map((file) => ({ file, line: 0, advice: 'Missing: the layers mirror each other.' })),
  ];
};

const isExpected = (layer: string, folder: string): boolean =>
  mechanismNames.some((name) => name === folder) || (layer === 'properties' && folder === 'harness');

const linesMax = 300;

/** A file has at most 300 lines of code. */
export const size = (project: Project): readonly Found[] =>
  sources(project)
    .map(({ path, text }) => ({ path, lines: codeLines(text) }))
    .filter(({ lines }) => lines > linesMax)
    .map(({ path, lines }) => ({ file: path, line: 0, advice: `${lines} lines of code; split at ${linesMax}.` }));

const bannedWords: Readonly<Record<string, string>> = {
  util: 'what it computes',
  utils: 'what it computes',
  helper: 'what it helps with',
  helpers: 'what they help with',
  common: 'what its parts have in common',
  misc: 'one thing per file',
  manager: 'what it does',
  service: 'what it does',
};

/** No file is called after nothing in particular. */
export const names = (project: Project): readonly Found[] =>
  project.files.flatMap(({ path }) =>
    path
      .replaceAll(/([a-z])([A-Z])/g, '$1-$2')
      .toLowerCase()
      .split(/[^a-z]+/)
      .filter((word) => Object.hasOwn(bannedWords, word))
      .map((word) => ({ file: path, line: 0, advice: `Not '${word}': name it after ${bannedWords[word]}.` })),
  );

const undetermined: readonly (readonly [RegExp, string])[] = [
  [/\bMath\.random\b/g, 'take numbers from lib/prng.ts'],
  [/\b(?:Date|performance)\b/g, 'count steps, not time'],
  [/\bcrypto\b/g, 'hash with lib/hash.ts'],
  [/\bset(?:Timeout|Interval|Immediate)\b|\bqueueMicrotask\b/g, 'the scheduler of the trace decides what happens next'],
  [/\bPromise\b|\basync\b|\bawait\b/g, 'code below the harness is synchronous; pause with a generator'],
  [/\blocaleCompare\b|\btoLocale\w+\b|\bIntl\b/g, 'compare with < and print with String'],
  [/\.(?:sort|toSorted)\(\s*\)/g, 'give a comparator: without one numbers are sorted as text'],
];

/** Nothing below the harness depends on clock, chance, host or locale. */
export const determinism = (project: Project): readonly Found[] =>
  coreSources(project).flatMap(({ path, text }) => {
    const code = codeOf(text);
    return undetermined.flatMap(([pattern, advice]) =>
      [...code.matchAll(pattern)].map((found) => ({
        file: path,
        line: lineAt(text, found.index),
        advice: `'${found[0]}': ${advice}.`,
      })),
    );
  });

const headerOf = (text: string): readonly string[] => {
  const lines = text.replace(/^#![^\n]*\n/, '').split('\n');
  const end = lines.findIndex((line) => !line.startsWith('//'));
  return lines.slice(0, end < 0 ? lines.length : end).filter((line) => /\w/.test(line));
};

/** Every file opens with at least two comment lines: what it is, and what a first reader may skip. */
export const headers = (project: Project): readonly Found[] =>
  project.files
    .filter(({ path, text }) => /\.(?:ts|mjs|mts)$/.test(path) && headerOf(text).length < 2)
    .map(({ path }) => ({
      file: path,
      line: 1,
      advice: 'Open with two lines of // comment: what is this, what to skip.',
    }));

const elsewhere =
  /(?:^|[\s'"`(=:<])\/(?:work|root|home)\/|\.\.\/shared\b|\bregistry\.(?:npmjs|yarnpkg|npmmirror)\b|\bnpmmirror\.com\b/gm;

/** No path or host that means something on one machine only. */
export const places = (project: Project): readonly Found[] =>
  project.files.flatMap(({ path, text }) =>
    [...text.matchAll(elsewhere)].map((found) => ({
      file: path,
      line: lineAt(text, found.index + found[0].length),
      advice: `'${found[0].trim()}' means nothing on another machine.`,
    })),
  );

// Loaded by name, not by import: what scripts start, what the museum and vitest look for.
const isEntry = (path: string, scripts: string): boolean =>
  path.endsWith('.test.ts') ||
  /(?:^|\/)index\.ts$|\.config\.ts$|^museum\/[^/]+\/exhibit\.ts$|\.d\.ts$/.test(path) ||
  scripts.includes(` ${path}`);

/** Every file is imported by another one, or is started by a script, or is a test or an index. */
export const deadFiles = (project: Project): readonly Found[] => {
  const scripts = project.files.find(({ path }) => path === 'package.json')?.text ?? '';
  const imported = new Set(
    sources(project).flatMap(({ path, text }) => importsOf(text).map(({ specifier }) => targetOf(path, specifier))),
  );
  return sources(project)
    .filter(({ path }) => !imported.has(path) && !isEntry(path, scripts))
    .map(({ path }) => ({ file: path, line: 0, advice: 'Nobody imports it; remove it or use it.' }));
};

/** impl/ does not know that its bugs are exhibited. */
export const innocence = (project: Project): readonly Found[] =>
  project.files
    .filter(({ path }) => layerOf(path) === 'impl')
    .flatMap(({ path, text }) =>
      [...text.matchAll(/museum|exhibit/gi)].map((found) => ({
        file: path,
        line: lineAt(text, found.index),
        advice: 'impl/ has no flag, hook or word for planted bugs; they are edits to a copy.',
      })),
    );

/** Generated tables in the documentation are current, and README has the table of laws. */
export const docs = (project: Project): readonly Found[] => {
  const current = blocks(project.laws);
  const pages = project.files.filter(({ path }) => path.endsWith('.md'));
  const stale = pages.filter(({ text }) => withBlocks(text, current) !== text);
  const readme = pages.find(({ path }) => path === 'README.md');
  const unmarked = readme?.text.includes('<!-- laws -->') === false;
  return [
    ...stale.map(({ path }) => ({ file: path, line: 0, advice: 'A generated table is out of date: npm run docs.' })),
    ...(unmarked ? [{ file: 'README.md', line: 0, advice: 'Keep the table of laws between its markers.' }] : []),
  ];
};

/** A law has an id of the form place/nameInPresentTense, unique, and says what it says in a sentence. */
export const lawForm = (project: Project): readonly Found[] => {
  const laws = project.laws ?? [];
  const broken = laws.filter(
    ({ id, statement }, at) =>
      !/^[a-z]+\/[a-z]\w*$/i.test(id) || !/^[A-Z].*\.$/.test(statement) || laws.findIndex((law) => law.id === id) < at,
  );
  return broken.map(({ id }) => ({
    file: 'properties/index.ts',
    line: 0,
    advice: `Law '${id}': an id like grants/revokedGrantReachesNothing, used once, and a sentence with its full stop.`,
  }));
};

/** Every kind of number in abi/ is in the glossary, and every word of the glossary is used in code or documentation. */
export const glossary = (project: Project): readonly Found[] => {
  const page = project.files.find(({ path }) => path === 'GLOSSARY.md');
  if (page === undefined) return [];
  const defined = [...page.text.matchAll(/^- \*\*(.+?)\*\*/gm)].map((found) => ({
    words: (found[1] ?? '').toLowerCase().split(/, | \/ /),
    line: lineAt(page.text, found.index),
  }));
  const code = sources(project);
  const users = project.files.filter(({ path }) => /\.(?:ts|md)$/.test(path) && path !== page.path);
  const all = users.map(({ text }) => text.toLowerCase()).join('\n');
  const spaced = all.replaceAll(/\s+(?:\/\/|\*)?\s*|-/g, ' ');
  const squeezed = spaced.replaceAll(' ', '');
  const unused = defined.filter(({ words }) => !words.some((word) => squeezed.includes(word.replaceAll(/[ -]/g, ''))));
  const brands = code.flatMap(({ path, text }) =>
    [...codeOf(text).matchAll(/\bBrand<[\w<>]+, '( *)'>/g)].map((found) => ({
      path,
      line: lineAt(text, found.index),
      name: /'(\w+)'/.exec(text.slice(found.index, found.index + found[0].length))?.[1] ?? '',
    })),
  );
  const undefinedBrands = brands.filter(
    ({ name }) => !defined.some(({ words }) => words.some((word) => word.replaceAll(' ', '') === name.toLowerCase())),
  );
  return [
    ...unused.map(({ words, line }) => ({
      file: page.path,
      line,
      advice: `'${words[0]}' is a word that nobody uses.`,
    })),
    ...undefinedBrands.map(({ path, line, name }) => ({
      file: path,
      line,
      advice: `Say in GLOSSARY.md what '${name}' is.`,
    })),
  ];
};

/** What is named as hardware says so first: by that line the museum knows the judge, which it does not edit. */
export const hardware = (project: Project): readonly Found[] =>
  sources(project)
    .filter(({ path }) => /^impl\/.*(?:hardware|walker|cache|unit|marks)\.ts$/.test(path))
    .filter(({ text }) => !text.startsWith('// Simulated hardware'))
    .map(({ path }) => ({
      file: path,
      line: 1,
      advice: "Begin the file with '// Simulated hardware', or name it otherwise.",
    }));

/** All house rules by name. */
export const rules = {
  arrows, packages, mirror, size, names, determinism, headers, places, deadFiles, innocence, docs, lawForm, glossary, hardware,
} as const; // prettier-ignore

export type RuleName = keyof typeof rules;

/** What breaks one rule. */
export const judge = (rule: RuleName, project: Project): readonly Violation[] =>
  rules[rule](project).map(({ file, line, advice }) => ({ file, line, rule, advice }));
