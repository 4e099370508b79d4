// What the house rules need to know of a source file: its text with comments and strings blanked out, what it imports,
// how many lines of code it has. There is no parser behind this (TypeScript 7 has no programming interface); a small
// scanner that knows comments, strings, templates and regular expressions is enough.
// A first reader may skip everything below `SourceFile`.

import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';

/** A file of the project: its path from the root, with forward slashes, and its text. */
export interface SourceFile {
  readonly path: string;
  readonly text: string;
}

/** An import, re-export or dynamic import with a literal name. `line` counts from 1. */
export interface Import {
  readonly specifier: string;
  readonly line: number;
}

const notOurs = new Set(['node_modules', 'dist', 'build', 'coverage', '.git', '.ringfence']);

/** Every file below `root` that belongs to the project, sorted by path. */
export const readProject = (root: string, folder = ''): readonly SourceFile[] =>
  readdirSync(join(root, folder), { withFileTypes: true })
    .filter((entry) => !notOurs.has(entry.name))
    .flatMap((entry): readonly SourceFile[] => {
      const path = folder === '' ? entry.name : `${folder}/${entry.name}`;
      if (entry.isDirectory()) return readProject(root, path);
      return entry.isFile() ? [{ path, text: readFileSync(join(root, path), 'utf8') }] : [];
    })
    .sort((a, b) => (a.path < b.path ? -1 : 1));

/** The line (from 1) at which `offset` lies. */
export const lineAt = (text: string, offset: number): number => text.slice(0, offset).split('\n').length;

const blanks = (text: string): string => text.replaceAll(/[^\n]/g, ' ');

// One token that hides text: a comment, a string, a regular expression. Templates are handled by `endOfTemplate`.
const hiding =
  /\/\/[^\n]*|\/\*[\s\S]*?\*\/|'(?:\\.|[^'\\\n])*'|"(?:\\.|[^"\\\n])*"|(?<=(?:^|[(,=:[!&|?{};+>]|\breturn)\s*)\/(?:\\.|\[(?:\\.|[^\]\\\n])*\]|[^/\\\n[])+\/[a-z]*|`|[{}]/gm;

interface Scan {
  readonly text: string;
  readonly out: string[];
  at: number;
}

const copyTo = (scan: Scan, end: number): void => {
  scan.out.push(scan.text.slice(scan.at, end));
  scan.at = end;
};

const blankTo = (scan: Scan, end: number): void => {
  scan.out.push(blanks(scan.text.slice(scan.at, end)));
  scan.at = end;
};

// From just after a backtick to just after its partner. What stands in ${...} is code and is kept.
const template = (scan: Scan): void => {
  while (scan.at < scan.text.length) {
    const next = scan.text.slice(scan.at).search(/\\|`|\$\{/);
    blankTo(scan, next < 0 ? scan.text.length : scan.at + next);
    const found = scan.text[scan.at];
    if (found === '\\') blankTo(scan, scan.at + 2);
    else if (found === '`') return copyTo(scan, scan.at + 1);
    else if (found === '$') {
      copyTo(scan, scan.at + 2);
      code(scan, '}');
    }
  }
};

// Code up to the closing brace that belongs to nobody inside it, or to the end.
const code = (scan: Scan, until: '}' | 'end'): void => {
  let depth = 0;
  while (scan.at < scan.text.length) {
    hiding.lastIndex = scan.at;
    const found = hiding.exec(scan.text);
    if (found === null) return copyTo(scan, scan.text.length);
    const [token] = found;
    copyTo(scan, found.index);
    if (token === '{' || token === '}' || token === '`') copyTo(scan, scan.at + 1);
    if (token === '`') template(scan);
    else if (token === '{') depth += 1;
    else if (token === '}' && until === '}' && depth === 0) return;
    else if (token === '}') depth -= 1;
    else if (token.startsWith("'") || token.startsWith('"')) {
      copyTo(scan, scan.at + 1);
      blankTo(scan, found.index + token.length - 1);
      copyTo(scan, scan.at + 1);
    } else blankTo(scan, found.index + token.length);
  }
};

/** `text` with comments, regular expressions and the insides of strings turned into blanks; offsets stay the same. */
export const codeOf = (text: string): string => {
  const scan: Scan = { text, out: [], at: 0 };
  code(scan, 'end');
  return scan.out.join('');
};

const importForms = [
  /\b(?:import|export)\b[\s\w{},*$]*?\bfrom\s*(['"])( *)\1/g,
  /\bimport\s*(['"])( *)\1/g,
  /\bimport\(\s*(['"])( *)\1/g,
  /\bnew URL\(\s*(['"])( *)\1(?=\s*,\s*import\.meta\.url)/g,
];

/** What the file imports or starts by name (a worker's URL), types included. Names computed at run time are not seen. */
export const importsOf = (text: string): readonly Import[] => {
  const blanked = codeOf(text);
  const found = importForms.flatMap((form) =>
    [...blanked.matchAll(form)].map((match) => {
      const name = match[2] ?? '';
      const end = match.index + match[0].lastIndexOf(`${name}${match[1]}`) + name.length;
      const specifier = text.slice(end - name.length, end);
      return { specifier, line: lineAt(text, end), isFile: !match[0].startsWith('new') || specifier.endsWith('.ts') };
    }),
  );
  return found.filter(({ isFile }) => isFile).map(({ specifier, line }) => ({ specifier, line }));
};

/** Lines that hold code, comments and blank lines aside. */
export const codeLines = (text: string): number =>
  codeOf(text)
    .split('\n')
    .filter((line) => line.trim() !== '').length;
