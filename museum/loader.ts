// Puts a bug back: copies impl/ to build/museum/<id>/<digest>/impl, applies the exhibit's edits to the copy and loads it as
// a subject. The copy lies inside the project so that its #lib and #abi imports mean the same modules as ours.
// The digest names the content: processes that want the same copy at once make it under another name and rename it, so
// nobody ever sees half of one. A first reader may skip `prepareCopy`.

import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, mkdtempSync, readdirSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { pathToFileURL } from 'node:url';
import type { Header } from '#abi/trace.ts';
import type { Machine } from '#impl/machine.ts';
import type { Subject } from '#properties/harness/subject.ts';
import type { Edit, Exhibit } from './exhibit.ts';
import { isJudge, projectRoot, readSources } from './source-tree.ts';

/** Why an exhibit cannot be loaded: its edits do not fit impl/ as it stands. */
export class EditRefused extends Error {
  override readonly name = 'EditRefused';
}

/** What is edited and how. `by`: who judges the copy; cases of whole accesses judge simulated hardware itself, runs trust it. */
export type Edited = Pick<Exhibit, 'id' | 'edits'> & { readonly by?: 'cases' | 'runs' };

const occurrences = (text: string, part: string): number => text.split(part).length - 1;

function applyEdit(files: Map<string, string>, edit: Edit, of: Edited): void {
  const refuse = (reason: string): never => {
    throw new EditRefused(`${of.id}: the edit of ${edit.file} ${reason}`);
  };
  const text = files.get(edit.file);
  if (text === undefined) return refuse('names no such file');
  if (of.by !== 'cases' && isJudge(edit.file.replace(/^impl\//u, ''), text)) refuse('would change the judge');
  if (edit.before === '' || edit.before === edit.after) refuse('changes nothing');
  const count = occurrences(text, edit.before);
  if (count !== 1) refuse(`needs its text exactly once but finds it ${count} times: ${edit.before.split('\n')[0]}`);
  files.set(
    edit.file,
    text.replace(edit.before, () => edit.after),
  );
}

/** The files of impl/ (or of `sources`) with the exhibit's edits applied, by path. Throws `EditRefused`. */
export function editedSources(
  exhibit: Edited,
  sources: ReadonlyMap<string, string> = readSources('impl'),
): ReadonlyMap<string, string> {
  if (exhibit.edits.length === 0) throw new EditRefused(`${exhibit.id}: there are no edits`);
  const files = new Map(sources);
  for (const edit of exhibit.edits) applyEdit(files, edit, exhibit);
  return files;
}

/** Copies that nobody made anew for this long are removed. */
const KEPT_MS = 24 * 60 * 60 * 1000;

function removeOld(folder: string, but: string): void {
  for (const name of readdirSync(folder)) {
    const path = join(folder, name);
    const age = Date.now() - (statSync(path, { throwIfNoEntry: false })?.mtimeMs ?? Date.now());
    if (name !== but && age > KEPT_MS) rmSync(path, { recursive: true, force: true });
  }
}

/** Makes the edited copy unless it is there already; answers its impl/ folder. Throws `EditRefused`. */
export function prepareCopy(exhibit: Edited): string {
  const files = [...editedSources(exhibit)].map(([path, text]) => [`impl/${path}`, text] as const);
  return join(placed(exhibit.id, new Map(files)), 'impl');
}

/** The folder below build/museum/`id` that holds exactly `files`, made unless it is there. */
export function placed(id: string, files: ReadonlyMap<string, string>): string {
  const hash = createHash('sha256');
  for (const [path, text] of files) hash.update(`${path}\0${text}\0`);
  const digest = hash.digest('hex').slice(0, 16);
  const folder = join(projectRoot, 'build/museum', id);
  const finished = join(folder, digest);
  if (existsSync(finished)) return finished;
  mkdirSync(folder, { recursive: true });
  removeOld(folder, digest);
  const draft = mkdtempSync(join(folder, '.draft-'));
  for (const [path, text] of files) {
    const target = join(draft, path);
    mkdirSync(dirname(target), { recursive: true });
    writeFileSync(target, text);
  }
  try {
    renameSync(draft, finished);
  } catch (error) {
    rmSync(draft, { recursive: true, force: true });
    if (!existsSync(finished)) throw error;
  }
  return finished;
}

/** Imports a .ts file of a copy. */
export async function importFrom(folder: string, file: string): Promise<unknown> {
  // Lets node import .ts files; from dist/ nobody has asked for that yet.
  await import(pathToFileURL(join(projectRoot, 'tools/source.mjs')).href);
  return import(pathToFileURL(join(folder, file)).href);
}

/** The exhibit's copy as an implementation under test. Throws `EditRefused`. */
export async function loadSubject(exhibit: Edited): Promise<Subject> {
  const copy = (await importFrom(prepareCopy(exhibit), 'machine.ts')) as {
    readonly Machine: new (header: Header) => Machine;
  };
  return { name: exhibit.id, create: (header) => new copy.Machine(header) };
}
