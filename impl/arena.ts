// Everything the implementation remembers, in one Int32Array: simulated memory, frame table, domains, caches, clocks.
// A field is a named run of words. Every access is bounds-checked per field: a typed array would answer an index that
// is one too large with the neighbour's word, and a wild guest value would go unnoticed (law XEN).
// Snapshot, restore, hash and first difference are four short functions because there is nothing else to copy.

import { hashWords } from '#lib/hash.ts';
import { invariant } from '#lib/invariant.ts';

/** An access outside its field: a guest value has reached hypervisor memory. Reported as a failure of law XEN. */
export class ArenaFault extends Error {
  override readonly name = 'ArenaFault';
}

/** A named run of 32-bit words of the arena. Values are unsigned below 2^`bits`; wider values wrap as hardware would. */
export class Field {
  readonly name: string;
  readonly base: number;
  readonly length: number;
  readonly bits: number;
  readonly #words: Int32Array;
  readonly #mask: number;
  readonly #log: WriteLog;

  constructor(at: { name: string; base: number; length: number; bits: number }, words: Int32Array, log: WriteLog) {
    this.name = at.name;
    this.base = at.base;
    this.length = at.length;
    this.bits = at.bits;
    this.#words = words;
    this.#mask = at.bits >= 32 ? -1 : (1 << at.bits) - 1;
    this.#log = log;
  }

  /** The word at `index`, unsigned. Throws `ArenaFault` outside 0..length-1. */
  get(index: number): number {
    if (!(index >= 0 && index < this.length)) throw this.#fault(index, 'read');
    return (this.#words[this.base + index] as number) >>> 0;
  }

  /** Stores the low `bits` bits of `value` at `index`. Throws `ArenaFault` outside 0..length-1. */
  set(index: number, value: number): void {
    if (!(index >= 0 && index < this.length)) throw this.#fault(index, 'written');
    const at = this.base + index;
    const masked = value & this.#mask;
    if (this.#words[at] === masked) return;
    this.#log.push(at, this.#words[at] as number);
    this.#words[at] = masked;
  }

  /** Adds `amount` (may be negative), wrapping at the field's width; returns the new value. */
  add(index: number, amount: number): number {
    this.set(index, this.get(index) + amount);
    return this.get(index);
  }

  /** The number below 2^53 that words 2*index (low) and 2*index+1 (high) make. */
  getWide(index: number): number {
    return this.get(2 * index) + this.get(2 * index + 1) * 0x1_0000_0000;
  }

  /** Stores a number below 2^53 in words 2*index (low) and 2*index+1 (high). */
  setWide(index: number, value: number): void {
    this.set(2 * index, value >>> 0);
    this.set(2 * index + 1, Math.floor(value / 0x1_0000_0000));
  }

  #fault(index: number, verb: string): ArenaFault {
    return new ArenaFault(`${this.name}[${index}] is ${verb}, but the field has ${this.length} words`);
  }
}

/** A log that grows beyond so many writes forgets those that were taken. */
const LOG_MAX = 2 ** 20;

/** Every word that changed, and what it was before, in order; an offset may appear more than once. */
export class WriteLog {
  /** Offsets and old values in turn. */
  #writes = new Int32Array(2048);
  #length = 0;
  #taken = 0;
  /** How many writes have been forgotten. */
  #forgotten = 0;

  push(offset: number, old: number): void {
    if (this.#length === this.#writes.length) {
      const longer = new Int32Array(2 * this.#length);
      longer.set(this.#writes);
      this.#writes = longer;
    }
    this.#writes[this.#length] = offset;
    this.#writes[this.#length + 1] = old;
    this.#length += 2;
  }

  /** Calls `visit` for the offset of each write that has not been taken yet. */
  take(visit: (offset: number) => void): void {
    for (let i = this.#taken; i < this.#length; i += 2) visit(this.#writes[i] as number);
    this.#taken = this.#length;
    if (this.#length > 2 * LOG_MAX) this.forget();
  }

  /** Forgets every write, and one more that is in no log: nobody goes back behind this. */
  forget(): void {
    this.#forgotten += this.#length / 2 + 1;
    this.#length = 0;
    this.#taken = 0;
  }

  /** How many writes there have been. */
  get count(): number {
    return this.#forgotten + this.#length / 2;
  }

  /** Whether every write from the `count`-th on is still known. */
  reaches(count: number): boolean {
    return count >= this.#forgotten;
  }

  /** The offsets of all writes that are known. */
  offsets(): ReadonlySet<number> {
    const offsets = new Set<number>();
    for (let i = 0; i < this.#length; i += 2) offsets.add(this.#writes[i] as number);
    return offsets;
  }

  /** Puts back in `words` what was there before the `count`-th write, the latest first, and forgets those writes. */
  undo(words: Int32Array, count: number): void {
    invariant(this.reaches(count) && count <= this.count, 'the log goes back to what was before, not on');
    const end = 2 * (count - this.#forgotten);
    for (let i = this.#length - 2; i >= end; i -= 2) words[this.#writes[i] as number] = this.#writes[i + 1] as number;
    this.#length = end;
    this.#taken = end;
  }
}

/** The size of one field: how many words, and how many bits of each are kept (32 unless told). */
export interface Shape {
  readonly length: number;
  readonly bits?: number;
}

/** One arena with its fields by name. */
export class Arena<Name extends string> {
  readonly words: Int32Array;
  readonly fields: Readonly<Record<Name, Field>>;
  readonly log: WriteLog;
  /** Fields in ascending order of their base. */
  readonly layout: readonly Field[];

  constructor(shapes: Readonly<Record<Name, Shape>>) {
    const names = Object.keys(shapes) as Name[];
    this.words = new Int32Array(names.reduce((sum, name) => sum + shapes[name].length, 0));
    this.log = new WriteLog();
    let base = 0;
    this.layout = names.map((name) => {
      const { length, bits = 32 } = shapes[name];
      const made = new Field({ name, base, length, bits }, this.words, this.log);
      base += length;
      return made;
    });
    this.fields = Object.fromEntries(this.layout.map((f) => [f.name, f])) as unknown as Record<Name, Field>;
  }

  /** A copy of all words, owned by the caller. Cost: the arena's size. */
  snapshot(): Int32Array {
    return this.words.slice();
  }

  /** Puts back what `snapshot` returned and forgets the write log. */
  restore(snapshot: Int32Array): void {
    this.words.set(snapshot);
    this.log.forget();
  }

  /** What was written since the arena was made, if its log still knows: offsets and values in turn. Cost: the writes. */
  changes(): Int32Array {
    invariant(this.log.reaches(0), 'the log of writes goes back to the beginning');
    return Int32Array.from([...this.log.offsets()].flatMap((at) => [at, this.words[at] as number]));
  }

  /** Makes the changes that `changes` of another arena returned, and forgets the write log. Cost: the number of changes. */
  change(changes: Int32Array): void {
    for (let i = 0; i < changes.length; i += 2) this.words[changes[i] as number] = changes[i + 1] as number;
    this.log.forget();
  }

  /** Goes back to how it was after `count` writes (`log.count` then). False: too many have followed. Cost: those writes. */
  rewind(count: number): boolean {
    if (!this.log.reaches(count)) return false;
    this.log.undo(this.words, count);
    return true;
  }

  /** Hash of all words, unsigned 32 bits. */
  hash(): number {
    return hashWords(this.words, 0, this.words.length);
  }

  /** The first word that differs from `snapshot`, by field name and index; undefined if none does. */
  firstDifference(snapshot: Int32Array): { readonly field: string; readonly index: number } | undefined {
    const at = this.words.findIndex((word, i) => word !== snapshot[i]);
    return at < 0 ? undefined : this.locate(at);
  }

  /** The field and index of an offset. */
  locate(offset: number): { readonly field: string; readonly index: number } {
    const { name, base } = this.fieldAt(offset);
    return { field: name, index: offset - base };
  }

  /** The field that an offset lies in. */
  fieldAt(offset: number): Field {
    let low = 0;
    let high = this.layout.length - 1;
    while (low < high) {
      const middle = (low + high + 1) >> 1;
      if ((this.layout[middle] as Field).base <= offset) low = middle;
      else high = middle - 1;
    }
    return this.layout[low] as Field;
  }
}
