// Loads one change of impl/ beside the original: a module whose URL ends in ?mutant=... is another module than the one without,
// and everything it imports of the layers that know impl/ is such a module too. The query says it all, so nothing is copied.
// Tests get `describe`, `it` and `expect` from tests.ts instead of vitest. A first reader may skip it.

import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import swc from '@swc/wasm-typescript';

const root = new URL('../../', import.meta.url).href;
const standIn = new URL('./tests.ts', import.meta.url).href;

/** Layers that are loaded once more for each mutant; all others do not know impl/. */
const layers = ['impl', 'properties', 'oracles', 'bench'];

/** The mutant as it stands in the URL; null: there is none. In base64url, since a URL must come back from parsing as it was. */
const mutantIn = (url) => (url === undefined ? null : new URL(url).searchParams.get('mutant'));

const knowsImpl = (url) => layers.some((layer) => url.startsWith(`${root}${layer}/`)) && url.endsWith('.ts');

/** The `resolve` hook of node's module loader. */
export const resolve = async (specifier, context, next) => {
  const mutant = mutantIn(context.parentURL);
  if (mutant === null) return next(specifier, context);
  if (specifier === 'vitest') return { url: standIn, shortCircuit: true };
  const found = await next(specifier, context);
  return knowsImpl(found.url) ? { ...found, url: `${found.url}?mutant=${mutant}` } : found;
};

const stripped = (filename, text) => swc.transformSync(text, { filename, mode: 'strip-only', module: true }).code;

/** What files that are not changed come to. */
const known = new Map();

const unchanged = (filename) => {
  const code = known.get(filename) ?? stripped(filename, readFileSync(filename, 'utf8'));
  known.set(filename, code);
  return code;
};

const changed = (filename, { start, before, after }) => {
  const text = readFileSync(filename, 'utf8');
  if (text.slice(start, start + before.length) !== before) throw new Error(`${filename} has changed meanwhile`);
  return stripped(filename, text.slice(0, start) + after + text.slice(start + before.length));
};

/** The `load` hook. */
export const load = (url, context, next) => {
  const text = mutantIn(url);
  if (text === null) return next(url, context);
  const mutant = JSON.parse(Buffer.from(text, 'base64url').toString());
  const filename = fileURLToPath(url);
  const isIt = url.startsWith(`${root}impl/${mutant.file}?`);
  return { format: 'module', source: isIt ? changed(filename, mutant) : unchanged(filename), shortCircuit: true };
};
