// The loader behind source.mjs: blanks out the types of every .ts file that is imported, as newer versions of node do by
// themselves. Only erasable syntax is used in this project, so this is all there is to do; lines and columns stay what they
// were, and functions stay as they were written.
// A first reader may skip it.

import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import swc from '@swc/wasm-typescript';

/** The `load` hook of node's module loader. */
export const load = (url, context, next) => {
  const { protocol, pathname } = new URL(url);
  if (protocol !== 'file:' || !pathname.endsWith('.ts')) return next(url, context);
  const filename = fileURLToPath(url);
  const { code } = swc.transformSync(readFileSync(filename, 'utf8'), { filename, mode: 'strip-only', module: true });
  return { format: 'module', source: code, shortCircuit: true };
};
