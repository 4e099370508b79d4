// Where the project lies, and the text of impl/ as it stands: what edited copies are made from.
// A first reader may skip it.

import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const above = fileURLToPath(new URL('..', import.meta.url));

/** The folder of package.json: the parent of museum/, or of dist/ when this runs from there. */
export const projectRoot = existsSync(join(above, 'package.json')) ? above : join(above, '..');

/** How every file of simulated hardware begins: walkers, caches, the moving of bytes. tidy holds their names to it. */
const HARDWARE = '// Simulated hardware';

/** What every implementation stands on, and what the laws look through. */
const engine: ReadonlySet<string> = new Set([
  'arena.ts',
  'execution.ts',
  'index.ts',
  'layout.ts',
  'machine.ts',
  'port.ts',
]);

/** Whether a file of impl/ is the judge, which is never edited. Acts of guests and of fate (paging/step.ts, tlb/step.ts) are not. */
export const isJudge = (path: string, text: string): boolean => engine.has(path) || text.startsWith(HARDWARE);

/** Source files below `folder` of the project, by path from that folder with forward slashes, in order of path. */
export function readSources(folder: string): ReadonlyMap<string, string> {
  const files = new Map<string, string>();
  const visit = (path: string): void => {
    const entries = readdirSync(join(projectRoot, folder, path), { withFileTypes: true });
    for (const entry of entries.toSorted((a, b) => (a.name < b.name ? -1 : 1))) {
      const inside = path === '' ? entry.name : `${path}/${entry.name}`;
      if (entry.isDirectory()) visit(inside);
      else if (entry.name.endsWith('.ts') && !/\.test(?:ing)?\.ts$/.test(entry.name))
        files.set(inside, readFileSync(join(projectRoot, folder, inside), 'utf8'));
    }
  };
  visit('');
  return files;
}
