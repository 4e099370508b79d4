// Numbers of many records, byte by byte in columns, so that what is alike in all of them lies together and compresses. Reading
// is total: a file that is not what was written says so in one sentence. A first reader may skip this file.

import { gunzipSync, gzipSync } from 'node:zlib';
import type { Word } from '#abi/address.ts';

/** A file that cannot be read; the message names it. */
export class DamagedCorpus extends Error {}

/** Columns that grow. */
export class ColumnWriter {
  readonly #columns = new Map<string, number[]>();

  #column(name: string): number[] {
    const known = this.#columns.get(name);
    if (known !== undefined) return known;
    const made: number[] = [];
    this.#columns.set(name, made);
    return made;
  }

  /** A number below 256^`bytes`. */
  put(name: string, value: number, bytes: number): void {
    let rest = value;
    for (let i = 0; i < bytes; i += 1) {
      this.#column(`${name}.${i}`).push(rest % 256);
      rest = Math.floor(rest / 256);
    }
  }

  putWord(name: string, { lo, hi }: Word): void {
    this.put(`${name}.lo`, lo, 4);
    this.put(`${name}.hi`, hi, 4);
  }

  /** The file: a line of JSON with `head` and the lengths of the columns, then the columns, compressed as a whole. */
  finish(head: object): Uint8Array {
    const columns = [...this.#columns].toSorted(([a], [b]) => (a < b ? -1 : 1));
    const lengths = Object.fromEntries(columns.map(([name, bytes]) => [name, bytes.length]));
    const first = Buffer.from(`${JSON.stringify({ ...head, columns: lengths })}\n`);
    return gzipSync(Buffer.concat([first, ...columns.map(([, bytes]) => Uint8Array.from(bytes))]), { level: 9 });
  }
}

const isRecord = (value: unknown): value is Readonly<Record<string, unknown>> =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

/** Columns as they were written, read from the beginning. */
export class ColumnReader {
  readonly head: Readonly<Record<string, unknown>>;
  readonly #name: string;
  readonly #columns = new Map<string, { readonly bytes: Uint8Array; next: number }>();

  /** Throws `DamagedCorpus`; `name` is what the file is called. */
  constructor(name: string, file: Uint8Array) {
    this.#name = name;
    const content = this.#unpacked(file);
    const end = content.indexOf(0x0a);
    this.head = this.#headOf(content.subarray(0, Math.max(0, end)));
    let at = end + 1;
    const { columns } = this.head;
    if (!isRecord(columns)) return this.damaged('it does not say which columns it has');
    for (const [column, length] of Object.entries(columns)) {
      if (typeof length !== 'number' || !Number.isSafeInteger(length) || length < 0)
        return this.damaged(`column ${column} has no length`);
      this.#columns.set(column, { bytes: content.subarray(at, at + length), next: 0 });
      at += length;
    }
    if (at !== content.length) this.damaged('its columns do not fill it');
  }

  damaged(why: string): never {
    throw new DamagedCorpus(`${this.#name} is damaged: ${why}`);
  }

  #unpacked(file: Uint8Array): Buffer {
    try {
      return gunzipSync(file);
    } catch {
      return this.damaged('it cannot be unpacked');
    }
  }

  #headOf(line: Uint8Array): Readonly<Record<string, unknown>> {
    try {
      const head: unknown = JSON.parse(Buffer.from(line).toString('utf8'));
      if (isRecord(head)) return head;
    } catch {
      // Told below.
    }
    return this.damaged('it does not begin with a line of JSON');
  }

  take(name: string, bytes: number): number {
    let value = 0;
    for (let i = 0; i < bytes; i += 1) {
      const column = this.#columns.get(`${name}.${i}`);
      const byte = column?.bytes[column.next];
      if (column === undefined || byte === undefined) return this.damaged(`column ${name}.${i} ends too early`);
      column.next += 1;
      value += byte * 256 ** i;
    }
    return value;
  }

  takeWord(name: string): Word {
    return { lo: this.take(`${name}.lo`, 4), hi: this.take(`${name}.hi`, 4) };
  }

  /** Throws unless everything has been read. */
  finish(): void {
    for (const [name, { bytes, next }] of this.#columns)
      if (next !== bytes.length) this.damaged(`column ${name} goes on after the last case`);
  }
}
