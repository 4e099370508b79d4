// What stored JSON may look like, as data, and the one function that holds a value against it. The result is built anew
// with keys in declared order, so reading also serves printing. Every refusal is one sentence that starts with a path.
// A first reader may skip the typed constructors at the end: they make the compiler ask for every key of an interface.

import { invariant, unreachable } from '#lib/invariant.ts';
import type { Decoded } from './json.ts';

/** The shape of a record: its keys in order. Keys in `optional` may be absent. */
export interface RecordShape {
  readonly is: 'record';
  readonly keys: Readonly<Record<string, Shape>>;
  readonly optional: readonly string[];
}

/** The shape of a value. `noun` is how a refusal calls it. */
export type Shape =
  /** `absent`: stands for a key that is left out. */
  | { readonly is: 'int'; readonly min: number; readonly max: number; readonly absent?: number | undefined }
  | { readonly is: 'flag' }
  | {
      readonly is: 'oneOf';
      readonly noun: string;
      readonly values: readonly string[];
      readonly absent?: string | undefined;
    }
  | { readonly is: 'list'; readonly of: Shape; readonly max: number }
  | RecordShape
  /** Records told apart by the value of the key `tag`. */
  | {
      readonly is: 'tagged';
      readonly tag: string;
      readonly noun: string;
      readonly cases: ReadonlyMap<string, RecordShape>;
    }
  /** Records told apart by which key they have: the first of these. */
  | { readonly is: 'untagged'; readonly cases: ReadonlyMap<string, RecordShape> };

type Loose = Readonly<Record<string, unknown>>;

const isLoose = (value: unknown): value is Loose =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

const SHOWN_MAX = 40;
const NAMED_MAX = 12;

/** A value from outside in a few words. */
function show(value: unknown): string {
  if (Array.isArray(value)) return 'a list';
  if (isLoose(value)) return 'a record';
  if (typeof value !== 'string') return String(value);
  return JSON.stringify(value.length > SHOWN_MAX ? `${value.slice(0, SHOWN_MAX)}...` : value);
}

const key = (path: string, name: string): string => {
  const safe = /^[A-Za-z_]\w*$/u.test(name) ? name : `[${show(name)}]`;
  return path === '' || safe.startsWith('[') ? path + safe : `${path}.${safe}`;
};

const refuse = (path: string, sentence: string): Decoded<never> => ({
  ok: false,
  error: `${path === '' ? 'at the top' : path}: ${sentence}`,
});

const done = (value: unknown): Decoded<unknown> => ({ ok: true, value });

const listed = (all: readonly string[]): string =>
  all.length <= NAMED_MAX ? all.join(', ') : `${all.slice(0, NAMED_MAX).join(', ')} and ${all.length - NAMED_MAX} more`;

/** A sentence about a name that is not among those of `known`. */
const notKnown = (known: { readonly noun: string; readonly names: readonly string[] }, found: unknown): string =>
  typeof found === 'string'
    ? `unknown ${known.noun} ${show(found)}; known are ${listed(known.names)}`
    : `expected the name of a known ${known.noun}, found ${show(found)}`;

type ShapeThat<Is extends Shape['is']> = Extract<Shape, { readonly is: Is }>;

function readInt({ min, max }: ShapeThat<'int'>, value: unknown, path: string): Decoded<unknown> {
  if (typeof value !== 'number' || !Number.isInteger(value))
    return refuse(path, `expected an integer in ${min}..${max}, found ${show(value)}`);
  return value < min || value > max ? refuse(path, `${value} lies outside ${min}..${max}`) : done(value + 0);
}

function readList({ of, max }: ShapeThat<'list'>, value: unknown, path: string): Decoded<unknown> {
  if (!Array.isArray(value)) return refuse(path, `expected a list, found ${show(value)}`);
  if (value.length > max) return refuse(path, `${value.length} elements are more than ${max}`);
  const items: unknown[] = [];
  for (const [i, item] of value.entries()) {
    const read = readShape(of, item, `${path}[${i}]`);
    if (!read.ok) return read;
    items.push(read.value);
  }
  return done(items);
}

function readRecord(shape: RecordShape, value: Loose, path: string): Decoded<unknown> {
  const known = Object.keys(shape.keys);
  const extra = Object.keys(value).find((name) => !Object.hasOwn(shape.keys, name) && value[name] !== undefined);
  if (extra !== undefined) return refuse(key(path, extra), `unknown key; known are ${listed(known)}`);
  const entries: [string, unknown][] = [];
  for (const [name, part] of Object.entries(shape.keys)) {
    const there = Object.hasOwn(value, name) ? value[name] : 'absent' in part ? part.absent : undefined;
    if (there === undefined && shape.optional.includes(name)) continue;
    if (there === undefined) return refuse(key(path, name), 'missing');
    const read = readShape(part, there, key(path, name));
    if (!read.ok) return read;
    entries.push([name, read.value]);
  }
  return done(Object.fromEntries(entries));
}

function readTagged(shape: ShapeThat<'tagged'>, value: Loose, path: string): Decoded<unknown> {
  const tag = Object.hasOwn(value, shape.tag) ? value[shape.tag] : undefined;
  if (tag === undefined) return refuse(key(path, shape.tag), 'missing');
  const one = typeof tag === 'string' ? shape.cases.get(tag) : undefined;
  return one === undefined
    ? refuse(key(path, shape.tag), notKnown({ noun: shape.noun, names: [...shape.cases.keys()] }, tag))
    : readRecord(one, value, path);
}

function readUntagged(shape: ShapeThat<'untagged'>, value: Loose, path: string): Decoded<unknown> {
  for (const [name, one] of shape.cases) if (Object.hasOwn(value, name)) return readRecord(one, value, path);
  return refuse(path, `expected a record with one of the keys ${listed([...shape.cases.keys()])}`);
}

/** `value` held against `shape`: a fresh copy with keys in declared order, or the first refusal. Never throws. */
export function readShape(shape: Shape, value: unknown, path: string): Decoded<unknown> {
  switch (shape.is) {
    case 'int':
      return readInt(shape, value, path);
    case 'flag':
      return typeof value === 'boolean' ? done(value) : refuse(path, `expected true or false, found ${show(value)}`);
    case 'oneOf':
      return typeof value === 'string' && shape.values.includes(value)
        ? done(value)
        : refuse(path, notKnown({ noun: shape.noun, names: shape.values }, value));
    case 'list':
      return readList(shape, value, path);
    case 'record':
      return isLoose(value) ? readRecord(shape, value, path) : refuse(path, `expected a record, found ${show(value)}`);
    case 'tagged':
      return isLoose(value) ? readTagged(shape, value, path) : refuse(path, `expected a record, found ${show(value)}`);
    case 'untagged':
      return isLoose(value)
        ? readUntagged(shape, value, path)
        : refuse(path, `expected a record, found ${show(value)}`);
    default:
      return unreachable(shape);
  }
}

// Constructors. A type argument makes the compiler compare the keys with those of the interface.

/** Exactly the keys of `T`, each with a shape. */
export type KeysOf<T> = { readonly [K in keyof T]-?: Shape };

export const int = (min: number, max: number, absent?: number): Shape => ({ is: 'int', min, max, absent });
export const flag: Shape = { is: 'flag' };
export const oneOf = (noun: string, values: readonly string[], absent?: string): Shape => ({
  is: 'oneOf',
  noun,
  values,
  absent,
});
export const list = (of: Shape, max: number): Shape => ({ is: 'list', of, max });

/** A record with the keys of `T`, some of which may be absent. */
export const record = <T>(keys: KeysOf<T>, optional: readonly (keyof T & string)[] = []): RecordShape => ({
  is: 'record',
  keys: keys as Readonly<Record<string, Shape>>,
  optional,
});

/** Records told apart by the value of `tag`; `cases` gives the other keys of each. */
export const tagged = (
  tag: string,
  noun: string,
  cases: Readonly<Record<string, Readonly<Record<string, Shape>>>>,
): Shape => ({
  is: 'tagged',
  tag,
  noun,
  cases: new Map(
    Object.entries(cases).map(([name, keys]) => [name, record({ [tag]: oneOf(noun, [name]), ...keys })] as const),
  ),
});

/** The keys besides `Tag` of every member of the union `T`, by the value of `Tag`. */
export type CasesOf<T extends Readonly<Record<Tag, string>>, Tag extends string> = {
  readonly [V in T[Tag]]: KeysOf<Omit<Extract<T, Readonly<Record<Tag, V>>>, Tag>>;
};

/** Records told apart by which key they have, tried in order. */
export const untagged = (...cases: readonly (readonly [string, RecordShape])[]): Shape => {
  for (const [name, one] of cases) invariant(Object.hasOwn(one.keys, name), 'a record is known by a key it has');
  return { is: 'untagged', cases: new Map(cases) };
};
