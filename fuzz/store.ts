// What campaigns keep between runs, below .ringfence/ of the working folder: failures as traces, and where `start` has got
// to in the museum. Nothing there is ever overwritten but that one number. A first reader may skip it.

import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join, relative } from 'node:path';
import { decodeTrace, encodeTrace } from '#abi/decode.ts';
import type { Trace } from '#abi/trace.ts';
import { hashText } from '#lib/hash.ts';
import { fingerprint, type Failure } from '#properties/harness/law.ts';

/** A stored failure, or why it cannot be read. */
export type Stored = { readonly file: string } & (
  { readonly ok: true; readonly trace: Trace } | { readonly ok: false; readonly error: string }
);

const isCode = (error: unknown, code: string): boolean =>
  error instanceof Error && 'code' in error && error.code === code;

/** The files below a folder, or none if there is no such folder. */
function filesIn(folder: string): readonly string[] {
  try {
    return readdirSync(folder).toSorted((a, b) => (a < b ? -1 : 1));
  } catch (error) {
    if (isCode(error, 'ENOENT')) return [];
    throw error;
  }
}

/** The trace in a file, or one sentence about why not. */
export function readTrace(file: string): Stored {
  try {
    const decoded = decodeTrace(readFileSync(file, 'utf8'));
    return decoded.ok ? { file, ok: true, trace: decoded.trace } : { file, ok: false, error: decoded.error };
  } catch (error) {
    if (isCode(error, 'ENOENT')) return { file, ok: false, error: 'there is no such file' };
    if (isCode(error, 'EISDIR')) return { file, ok: false, error: 'it is a folder' };
    if (error instanceof Error && 'code' in error)
      return { file, ok: false, error: `it cannot be read (${String(error.code)})` };
    throw error;
  }
}

/** The store of one working folder. */
export class Store {
  readonly #failures: string;
  readonly #rotation: string;
  readonly #root: string;

  constructor(workingFolder: string) {
    this.#root = workingFolder;
    this.#failures = join(workingFolder, '.ringfence/failures');
    this.#rotation = join(workingFolder, '.ringfence/start.json');
  }

  /** All stored failures, readable or not. */
  failures(): readonly Stored[] {
    return filesIn(this.#failures)
      .filter((name) => name.endsWith('.json'))
      .map((name) => {
        const file = join(this.#failures, name);
        return { ...readTrace(file), file: relative(this.#root, file) };
      });
  }

  /** Stores a failure under the hash of its fingerprint and a counter; answers the file, old if it was there already. */
  keep(trace: Trace, failure: Failure): string {
    return this.#write('failures', hashText(fingerprint(failure)), trace);
  }

  /** Stores a trace on which the harness itself broke; those are not replayed. */
  keepBroken(trace: Trace): string {
    return this.#write('broken', hashText(JSON.stringify(trace.steps)), trace);
  }

  /** How often `start` ran before; counts this run. Starts anew if the note is damaged. */
  nextTurn(): number {
    let turn = 0;
    try {
      const note: unknown = JSON.parse(readFileSync(this.#rotation, 'utf8'));
      if (typeof note === 'object' && note !== null && 'turn' in note && Number.isSafeInteger(note.turn))
        turn = Number(note.turn);
    } catch (error) {
      if (!isCode(error, 'ENOENT') && !(error instanceof SyntaxError)) throw error;
    }
    mkdirSync(join(this.#root, '.ringfence'), { recursive: true });
    writeFileSync(this.#rotation, `${JSON.stringify({ turn: turn + 1 })}\n`);
    return turn;
  }

  #write(kind: string, hash: number, trace: Trace): string {
    const text = encodeTrace(trace);
    const folder = join(this.#root, '.ringfence', kind);
    mkdirSync(folder, { recursive: true });
    for (let i = 1; ; i += 1) {
      const file = join(folder, `${hash.toString(16).padStart(8, '0')}-${i}.json`);
      try {
        writeFileSync(file, text, { flag: 'wx' });
        return relative(this.#root, file);
      } catch (error) {
        if (!isCode(error, 'EEXIST')) throw error;
        if (readFileSync(file, 'utf8') === text) return relative(this.#root, file);
      }
    }
  }
}
