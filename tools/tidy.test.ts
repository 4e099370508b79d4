// Holds the tree to the house rules of tidy.ts, and each rule to failing on a planted violation: a rule that cannot fail
// is none. `plants` is a record over the rules, so a new rule does not compile without its plant.

import { describe, expect, it } from 'vitest';
import { blocks, projectRoot, readLaws, withBlocks } from './docs.ts';
import { codeLines, codeOf, importsOf, readProject } from './source-text.ts';
import { judge, rules, type Project, type RuleName } from './tidy.ts';

const laws = await readLaws(projectRoot);
const project: Project = { files: readProject(projectRoot), laws };
const ruleNames = Object.keys(rules) as readonly RuleName[];

const only = (path: string, text: string): Project => ({ files: [{ path, text }] });
const law = {
  id: 'grants/revokedGrantReachesNothing',
  invariant: 'OWN',
  statement: 'A revoked grant reaches nothing.',
};
const readme = (inside: string): Project => ({
  files: [{ path: 'README.md', text: `<!-- laws -->\n\n${inside}\n\n<!-- /laws -->` }],
  laws: [law],
});

/** Projects that break a rule, each in another way. */
const plants: Readonly<Record<RuleName, readonly Project[]>> = {
  arrows: [
    only('impl/a.ts', `import type { State } from '#model/state.ts';`),
    only('model/a.ts', `import { x } from '../impl/x.ts';`),
    only('lib/a.ts', `export { y } from '#abi/y.ts';`),
    only('abi/a.ts', `const m = import('#properties/index.ts');`),
    only('impl/memory/a.ts', `import { z } from '#impl/grants/z.ts';`),
    only('impl/memory/a.ts', `import { z } from '../../abi/z.ts';`),
    only('model/memory/a.ts', `import { z } from '../../impl/z.ts';`),
    only('museum/a.ts', `import '#fuzz/cli.ts';`),
  ],
  packages: [
    only('impl/a.ts', `import { match } from 'ts-pattern';`),
    only('abi/a.ts', `import { readFileSync } from 'node:fs';`),
    only('properties/harness/a.ts', `import pc from 'picocolors';`),
  ],
  mirror: [
    only('model/memory/step.ts', ''),
    only('impl/caches/a.ts', ''),
    { files: ['model', 'impl', 'properties'].map((layer) => ({ path: `${layer}/grants/a.ts`, text: '' })) },
  ],
  hardware: [only('impl/hap/new-walker.ts', '// A walker.'), only('impl/tlb/hardware.ts', '// Caches.')],
  size: [only('impl/a.ts', 'let a = 1;\n'.repeat(301))],
  names: [only('lib/utils.ts', ''), only('impl/frameManager.ts', ''), only('properties/helpers/a.ts', '')],
  determinism: [
    'Math.random()',
    'Date.now()',
    'performance.now()',
    'crypto.subtle',
    'setTimeout(f, 1)',
    'new Promise(f)',
    'async () => 1',
    'a.localeCompare(b)',
    'numbers.sort()',
    'numbers.toSorted()',
    '`${Math.random()}`',
  ].map((text) => only('model/a.ts', text)),
  headers: [
    only('lib/a.ts', 'export const a = 1;\n'),
    only('lib/a.ts', '// One line.\n\nexport const a = 1;\n'),
    only('tools/a.mjs', "import 'x';\n"),
  ],
  places: [
    ['', 'work', 'main'],
    ['', 'root', '.npm'],
    ['..', 'shared'],
    ['https:', '', `registry.${'npmjs'}.org`],
  ].map((parts) => only('docs/a.md', `see ${parts.join('/')}`)),
  deadFiles: [
    {
      files: [
        { path: 'lib/a.ts', text: '' },
        { path: 'lib/b.test.ts', text: `import './c.ts';` },
        { path: 'lib/c.ts', text: '' },
      ],
    },
  ],
  innocence: [only('impl/a.ts', '// The museum removes this check.'), only('impl/b.ts', 'if (exhibit) return;')],
  docs: [readme('| old |'), only('README.md', 'no table at all')],
  lawForm: [
    { files: [], laws: [{ ...law, id: 'revokedGrantReachesNothing' }] },
    { files: [], laws: [{ ...law, statement: 'revoked grants' }] },
    { files: [], laws: [law, law] },
  ],
  glossary: [
    only('GLOSSARY.md', '- **phlogiston**: the stuff that burns.'),
    {
      files: [
        { path: 'GLOSSARY.md', text: '- **gfn**: a frame number.' },
        { path: 'abi/a.ts', text: `export type Gfn = Brand<number, 'Gfn'>; export type Mfn = Brand<number, 'Mfn'>;` },
      ],
    },
  ],
};

describe.each(ruleNames)('%s', (rule) => {
  it('holds', () => {
    const told = judge(rule, project).map(({ file, line, advice }) => `${file}:${line} ${advice}`);
    expect(told).toEqual([]);
  });
  it.each(plants[rule])('refuses a planted violation', (plant) => {
    expect(judge(rule, plant)).not.toEqual([]);
  });
});

describe('rules are silent where they should be', () => {
  it.each([
    ['arrows', only('fuzz/a.ts', `import { a } from '#museum/loader.ts';\nimport { b } from './b.ts';`)],
    ['arrows', only('impl/a.ts', `const text = "import { a } from '#model/a.ts'"; // import '#model/a.ts'`)],
    ['packages', only('properties/a.test.ts', `import { it } from 'vitest';`)],
    [
      'determinism',
      only('abi/a.ts', `const say = 'Date'; // a Promise, Math.random()\nnumbers.sort((a, b) => a - b);`),
    ],
    ['determinism', only('fuzz/a.ts', 'await Promise.all([]);')],
    ['docs', readme(blocks([law]).get('laws') ?? '')],
    ['headers', only('fuzz/cli.ts', '#!/usr/bin/env node\n// The command line.\n// Skip nothing.\n')],
  ] as const)('%s', (rule, plant) => {
    expect(judge(rule, plant)).toEqual([]);
  });
});

describe('source text', () => {
  it('blanks comments, strings and regular expressions, and keeps offsets and code in templates', () => {
    const text = "const a = 'b//c'; // d\nconst e = /[/'\"]/g; /* f\n */ const g = `h ${i + `j ${k}`} l`;";
    const code = codeOf(text);
    expect(code.length).toBe(text.length);
    expect(code.replaceAll(/\s+/g, ' ')).toBe("const a = ' '; const e = ; const g = ` ${i + ` ${k}`} `;");
  });
  it('keeps divisions', () => {
    expect(codeOf('const a = (b + c) / d / e;')).toBe('const a = (b + c) / d / e;');
  });
  it('finds every form of import with its line', () => {
    const text = `import a, { type B } from 'a';\nimport * as c from "c";\nexport {\n  d,\n} from './d.ts';\nimport 'e';\nimport('f');\nnew URL('./g.ts', import.meta.url); new URL('..', import.meta.url);`;
    expect(importsOf(text).toSorted((x, y) => x.line - y.line)).toEqual([
      { specifier: 'a', line: 1 },
      { specifier: 'c', line: 2 },
      { specifier: './d.ts', line: 5 },
      { specifier: 'e', line: 6 },
      { specifier: 'f', line: 7 },
      { specifier: './g.ts', line: 8 },
    ]);
  });
  it('counts lines of code only', () => {
    expect(codeLines('// a\n\nconst b = 1;\n/* c */\n')).toBe(1);
  });
});

it('leaves unknown markers of the documentation alone', () => {
  const text = '<!-- figures -->\nas they are\n<!-- /figures -->';
  expect(withBlocks(text, blocks(undefined))).toBe(text);
});
