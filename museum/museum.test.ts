// Every exhibit, held to four things: its edits still fit impl/, its copy type-checks (all copies in one run of tsc), its
// stored trace breaks one of its laws on the copy, and holds on the implementation as it stands. And the loader's refusals.

import { execFileSync } from 'node:child_process';
import { mkdirSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join, relative } from 'node:path';
import { describe, expect, it } from 'vitest';
import { laws } from '#properties/index.ts';
import { clean } from '#properties/harness/subject.ts';
import { replay } from './attempt.ts';
import { catalogue } from './catalogue.ts';
import { editedSources, loadSubject, prepareCopy } from './loader.ts';
import { projectRoot } from './source-tree.ts';
import { storedTrace } from './traces.ts';

const exhibits = await catalogue();

describe.each(exhibits.map((exhibit) => ({ id: exhibit.id, exhibit })))('$id', ({ exhibit }) => {
  it('applies to impl/ as it stands', () => {
    expect(editedSources(exhibit).size).toBeGreaterThan(0);
  });

  it('is killed by laws that there are', () => {
    const known = new Set(laws.map(({ id }) => id));
    expect(exhibit.killedBy.filter((id) => !known.has(id))).toEqual([]);
    expect(exhibit.killedBy.length).toBeGreaterThan(0);
  });

  it('has a trace that breaks one of its laws on the copy and none on the clean implementation', async () => {
    const trace = storedTrace(exhibit);
    if (trace === undefined) throw new Error(`no trace yet: npm run museum -- --hunt --id ${exhibit.id}`);
    const edited = replay(await loadSubject(exhibit), trace);
    expect(edited.error).toBeUndefined();
    expect(exhibit.killedBy).toContain(edited.failure?.law);
    const held = replay(clean, trace);
    expect(held.error).toBeUndefined();
    expect(held.failure).toBeUndefined();
  });
});

describe('copies', () => {
  it('type-check, all of them at once', () => {
    const folder = join(projectRoot, 'build/museum');
    mkdirSync(folder, { recursive: true });
    const file = join(folder, `tsconfig.${process.pid}.json`);
    const include = exhibits.map((exhibit) => relative(folder, prepareCopy(exhibit)));
    writeFileSync(file, JSON.stringify({ extends: '../../tsconfig.json', include, exclude: [] }));
    const tsc = join(dirname(createRequire(import.meta.url).resolve('typescript/package.json')), 'bin/tsc');
    expect(execFileSync(process.execPath, [tsc, '-p', file], { encoding: 'utf8' })).toBe('');
  }, 60_000);
});

describe('the loader refuses', () => {
  const sources = new Map([
    ['a.ts', 'one two two'],
    ['tlb/hardware.ts', '// Simulated hardware: one'],
    ['port.ts', 'one'],
  ]);
  const edit = (file: string, before: string, after = 'x') => ({ id: 'xsa-0', edits: [{ file, before, after }] });

  it('an edit whose text occurs twice or not at all', () => {
    expect(() => editedSources(edit('a.ts', 'two'), sources)).toThrow(/exactly once but finds it 2 times/);
    expect(() => editedSources(edit('a.ts', 'three'), sources)).toThrow(/exactly once but finds it 0 times/);
  });

  it('an edit of the judge', () => {
    for (const file of ['tlb/hardware.ts', 'port.ts'])
      expect(() => editedSources(edit(file, 'one'), sources)).toThrow(/the judge/);
  });

  it('an edit of a file that is not there, one that changes nothing, and an exhibit without edits', () => {
    expect(() => editedSources(edit('../model/step.ts', 'one'), sources)).toThrow(/names no such file/);
    expect(() => editedSources(edit('a.ts', 'one', 'one'), sources)).toThrow(/changes nothing/);
    expect(() => editedSources({ id: 'xsa-0', edits: [] }, sources)).toThrow(/there are no edits/);
  });

  it('nothing else: the text is replaced as it stands', () => {
    expect(editedSources(edit('a.ts', 'one', '$& and $1'), sources).get('a.ts')).toBe('$& and $1 two two');
  });
});
