// A persistent map from non-negative integers to values: a radix-16 trie with structural sharing.
// `set` copies one path; two versions are compared by walking only what they do not share, and a digest is
// cached per node. This is what lets the model be immutable and yet be stepped tens of thousands of times a second.
// A first reader may think of it as an immutable Map and skip the file.
// Source of the idea: Bagwell, "Ideal Hash Trees"; keys here are their own hash.

import { pow2 } from './bits.ts';
import { fold } from './hash.ts';

interface Node {
  /** How many bits lie below this node's digit: 0 for a node whose slots are values. */
  readonly shift: number;
  readonly slots: readonly unknown[];
  /** Number of occupied slots. */
  readonly used: number;
  /** Cached digest; 0 = not computed. Memo only, never observable. */
  digest: number;
}

const digit = (key: number, shift: number): number =>
  shift < 28 ? (key >>> shift) & 15 : Math.floor(key / pow2(shift)) % 16;

const EMPTY_SLOTS: readonly unknown[] = Array.from({ length: 16 }, () => undefined);

/** An immutable map keyed by integers in 0..2^52-1. Values may be anything but `undefined`. */
export class Trie<V> {
  readonly #root: Node | undefined;
  /** Keys from here on are absent: the root does not reach them. */
  readonly #limit: number;
  /** Number of entries. */
  readonly size: number;

  private constructor(root: Node | undefined, size: number) {
    this.#root = root;
    this.#limit = root === undefined ? -Infinity : pow2(root.shift + 4);
    this.size = size;
  }

  static readonly #EMPTY = new Trie<never>(undefined, 0);

  /** The map without entries. */
  static empty<V>(): Trie<V> {
    return Trie.#EMPTY as unknown as Trie<V>;
  }

  /** The value at `key`, or undefined. */
  get(key: number): V | undefined {
    if (!(key < this.#limit)) return undefined;
    let node = this.#root as Node;
    for (let { shift } = node; shift > 0; shift -= 4) {
      const next: unknown = node.slots[digit(key, shift)];
      if (next === undefined) return undefined;
      node = next as Node;
    }
    return node.slots[key & 15] as V | undefined;
  }

  has(key: number): boolean {
    return this.get(key) !== undefined;
  }

  /** This map with `key` bound to `value`; the same object if it already is (by identity). */
  set(key: number, value: V): Trie<V> {
    const old = this.get(key);
    if (old === value) return this;
    let root = this.#root;
    if (root === undefined) {
      let shift = 0;
      while (key >= pow2(shift + 4)) shift += 4;
      root = { shift, slots: EMPTY_SLOTS, used: 0, digest: 0 };
    }
    for (let limit = this.#limit; limit > 0 && key >= limit; limit *= 16) {
      const slots = [...EMPTY_SLOTS];
      slots[0] = root;
      root = { shift: root.shift + 4, slots, used: 1, digest: 0 };
    }
    return new Trie<V>(insert(root, key, value), old === undefined ? this.size + 1 : this.size);
  }

  /** This map without `key`; the same object if it is absent. */
  delete(key: number): Trie<V> {
    if (this.#root === undefined || this.get(key) === undefined) return this;
    const root = remove(this.#root, key);
    return root === undefined ? Trie.empty<V>() : new Trie<V>(root, this.size - 1);
  }

  /** Calls `visit` for every entry in ascending order of keys. */
  forEach(visit: (value: V, key: number) => void): void {
    if (this.#root !== undefined) walk(this.#root, 0, visit as (value: unknown, key: number) => void);
  }

  /** This map without the keys in `from`..`to`-1. Cost: the entries that go, and the path to them. */
  withoutRange(from: number, to: number): Trie<V> {
    const keys: number[] = [];
    if (this.#root !== undefined) collect(this.#root, 0, { from, to, keys });
    return keys.reduce<Trie<V>>((map, key) => map.delete(key), this);
  }

  /** Whether some value satisfies `test`; asked in ascending order of keys, up to the first that does. */
  some(test: (value: V) => boolean): boolean {
    return this.#root !== undefined && anyOf(this.#root, test as (value: unknown) => boolean);
  }

  /** Keys in ascending order. */
  keys(): number[] {
    const keys: number[] = [];
    this.forEach((_, key) => keys.push(key));
    return keys;
  }

  /** Values in ascending order of keys. */
  values(): V[] {
    const values: V[] = [];
    this.forEach((value) => values.push(value));
    return values;
  }

  /** Calls `visit` for every key whose value (by identity) differs from that in `older`. */
  diff(older: Trie<V>, visit: (key: number, now: V | undefined, before: V | undefined) => void): void {
    compare(this.#root, older.#root, 0, visit as (key: number, now: unknown, before: unknown) => void);
  }

  /** Digest of all entries, given a digest of each value; equal maps have equal digests. Unsigned 32 bits. */
  digest(of: (value: V) => number): number {
    return this.#root === undefined ? 0 : digestNode(this.#root, 0, of as (value: unknown) => number);
  }
}

function insert(node: Node, key: number, value: unknown): Node {
  const at = digit(key, node.shift);
  const old = node.slots[at];
  const slots = node.slots.slice();
  if (node.shift === 0) slots[at] = value;
  else {
    const child = (old as Node | undefined) ?? { shift: node.shift - 4, slots: EMPTY_SLOTS, used: 0, digest: 0 };
    slots[at] = insert(child, key, value);
  }
  return { shift: node.shift, slots, used: old === undefined ? node.used + 1 : node.used, digest: 0 };
}

function remove(node: Node, key: number): Node | undefined {
  const at = digit(key, node.shift);
  const child = node.shift === 0 ? undefined : remove(node.slots[at] as Node, key);
  if (child === undefined && node.used === 1) return undefined;
  const slots = node.slots.slice();
  slots[at] = child;
  return { shift: node.shift, slots, used: child === undefined ? node.used - 1 : node.used, digest: 0 };
}

function walk(node: Node, base: number, visit: (value: unknown, key: number) => void): void {
  const step = pow2(node.shift);
  for (let i = 0; i < 16; i += 1) {
    const slot = node.slots[i];
    if (slot === undefined) continue;
    if (node.shift === 0) visit(slot, base + i);
    else walk(slot as Node, base + i * step, visit);
  }
}

function anyOf(node: Node, test: (value: unknown) => boolean): boolean {
  for (const slot of node.slots) {
    if (slot === undefined) continue;
    if (node.shift === 0 ? test(slot) : anyOf(slot as Node, test)) return true;
  }
  return false;
}

/** Adds the keys below `node` that lie in `from`..`to`-1. */
function collect(node: Node, base: number, range: { from: number; to: number; keys: number[] }): void {
  const step = pow2(node.shift);
  for (let i = 0; i < 16; i += 1) {
    const slot = node.slots[i];
    const first = base + i * step;
    if (slot === undefined || first >= range.to || first + step <= range.from) continue;
    if (node.shift === 0) range.keys.push(first);
    else collect(slot as Node, first, range);
  }
}

type Visit = (key: number, now: unknown, before: unknown) => void;

function compare(now: Node | undefined, before: Node | undefined, base: number, visit: Visit): void {
  if (now === before) return;
  if (now === undefined) {
    if (before !== undefined) walk(before, base, (value, key) => visit(key, undefined, value));
    return;
  }
  if (before === undefined) {
    walk(now, base, (value, key) => visit(key, value, undefined));
    return;
  }
  if (now.shift !== before.shift) {
    compareHeights(now, before, base, visit);
    return;
  }
  const step = pow2(now.shift);
  for (let i = 0; i < 16; i += 1) {
    const a = now.slots[i];
    const b = before.slots[i];
    if (a === b) continue;
    if (now.shift === 0) visit(base + i, a, b);
    else compare(a as Node | undefined, b as Node | undefined, base + i * step, visit);
  }
}

/** The taller trie covers the lower one with its slot 0. */
function compareHeights(now: Node, before: Node, base: number, visit: Visit): void {
  const nowTaller = now.shift > before.shift;
  const tall = nowTaller ? now : before;
  const low = nowTaller ? before : now;
  const first = tall.slots[0] as Node | undefined;
  if (nowTaller) compare(first, low, base, visit);
  else compare(low, first, base, visit);
  const step = pow2(tall.shift);
  for (let i = 1; i < 16; i += 1) {
    const slot = tall.slots[i] as Node | undefined;
    if (slot === undefined) continue;
    if (nowTaller) compare(slot, undefined, base + i * step, visit);
    else compare(undefined, slot, base + i * step, visit);
  }
}

function digestNode(node: Node, base: number, of: (value: unknown) => number): number {
  if (node.digest !== 0) return node.digest;
  let sum = 0;
  const step = pow2(node.shift);
  for (let i = 0; i < 16; i += 1) {
    const slot = node.slots[i];
    if (slot === undefined) continue;
    const part =
      node.shift === 0 ? fold(fold(0x51ed_270b, base + i), of(slot)) : digestNode(slot as Node, base + i * step, of);
    sum = (sum + part) >>> 0;
  }
  node.digest = sum === 0 ? 1 : sum;
  return node.digest;
}
