// Everything the implementation remembers, in one Int32Array: simulated memory, frame table, domains, caches, clocks.
// A field is a named run of words. Every access is bounds-checked per field: a typed array would answer an index that
// is one too large with the neighbour's word, and a wild guest value would go unnoticed (law XEN).
// Snapshot, restore, hash and first difference are four short functions because there is nothing else to copy.

import { hashWords } from '#lib/hash.ts';

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
    this.#words[at] = masked;
    this.#log.push(at);
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

/** Offsets of words that changed since the log was last taken; an offset may appear more than once. */
export class WriteLog {
  #offsets = new Int32Array(1024);
  #length = 0;

  push(offset: number): void {
    if (this.#length === this.#offsets.length) {
      const longer = new Int32Array(2 * this.#length);
      longer.set(this.#offsets);
      this.#offsets = longer;
    }
    this.#offsets[this.#length] = offset;
    this.#length += 1;
  }

  /** Calls `visit` for each logged offset and empties the log. */
  take(visit: (offset: number) => void): void {
    for (let i = 0; i < this.#length; i += 1) visit(this.#offsets[i] as number);
    this.#length = 0;
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
    this.log.take(() => undefined);
  }

  /** What has changed since `snapshot`: offsets and values in turn. */
  changesSince(snapshot: Int32Array): Int32Array {
    const changes: number[] = [];
    for (let at = 0; at < this.words.length; at += 1)
      if (this.words[at] !== snapshot[at]) changes.push(at, this.words[at] as number);
    return Int32Array.from(changes);
  }

  /** Makes the changes that `changesSince` returned and forgets the write log. Cost: the number of changes. */
  change(changes: Int32Array): void {
    for (let i = 0; i < changes.length; i += 2) this.words[changes[i] as number] = changes[i + 1] as number;
    this.log.take(() => undefined);
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
