// Bad input on the command line gets one clear sentence and a non-zero exit code, and nothing is written.
// What commands do with good input is watched in CI by running them.

import { mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { main } from './commands.ts';

const folder = mkdtempSync(join(tmpdir(), 'ringfence-'));
const before = process.cwd();

beforeAll(() => process.chdir(folder));

afterAll(() => {
  process.chdir(before);
  rmSync(folder, { recursive: true, force: true });
});

interface Ended {
  readonly code: number;
  readonly out: string;
  readonly err: string;
}

async function run(args: readonly string[]): Promise<Ended> {
  const said = { out: '', err: '' };
  const hear = (name: 'out' | 'err') => (text: unknown) => {
    said[name] += String(text);
    return true;
  };
  const out = vi.spyOn(process.stdout, 'write').mockImplementation(hear('out'));
  const err = vi.spyOn(process.stderr, 'write').mockImplementation(hear('err'));
  try {
    return { code: await main(args), ...said };
  } finally {
    out.mockRestore();
    err.mockRestore();
  }
}

const file = (name: string, text: string): string => {
  writeFileSync(join(folder, name), text);
  return name;
};

const cases: readonly { readonly args: readonly string[]; readonly says: RegExp }[] = [
  { args: ['fuzz', '--seconds', 'soon'], says: /number above 0/ },
  { args: ['fuzz', '--operations', '1.5'], says: /whole number above 0/ },
  { args: ['fuzz', '--law', 'grants/nothing'], says: /no such law/ },
  { args: ['fuzz', '--mechanism', 'magic'], says: /no such mechanism/ },
  { args: ['museum', '--id', 'xsa-0'], says: /no such exhibit/ },
  { args: ['museum', '--seeds', '9-1'], says: /range/ },
  { args: ['replay'], says: /missing required argument/ },
  { args: ['replay', 'nowhere.json'], says: /nowhere\.json cannot be replayed: there is no such file/ },
  {
    args: ['replay', file('damaged.json', '{ "header": ')],
    says: /damaged\.json cannot be replayed: line 1, column 13/,
  },
  { args: ['replay', file('older.json', '{ "header": { "version": 0 }, "steps": [] }')], says: /this is version 0/ },
  { args: ['sing'], says: /unknown command/ },
];

describe('bad input', () => {
  it.each(cases)('$args', async ({ args, says }) => {
    const { code, out, err } = await run(args);
    expect(err).toMatch(says);
    expect(err.trim().split('\n')).toHaveLength(1);
    expect(out).toBe('');
    expect(code).toBe(2);
  });

  it('writes nothing', () => {
    expect(readdirSync(folder).toSorted((a, b) => (a < b ? -1 : 1))).toEqual(['damaged.json', 'older.json']);
  });
});
