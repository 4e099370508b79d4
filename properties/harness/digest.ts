// Digests of model states, for telling candidates apart and for the test that a run repeats itself. Values are hashed once:
// states share what they have in common, and so do their digests.

import { fold, hashText } from '#lib/hash.ts';
import { Trie } from '#lib/trie.ts';
import type { State } from '#model/state.ts';

const memo = new WeakMap<object, number>();

const ABSENT = 0x5bd1;

/** Digest of any immutable value: equal values have equal digests. Objects count by their values, in declared order. */
export function digestOf(value: unknown): number {
  if (typeof value === 'number') return value;
  if (typeof value === 'string') return hashText(value);
  if (typeof value !== 'object' || value === null) return value === true ? 1 : value === false ? 0 : ABSENT;
  if (value instanceof Trie) return value.digest(digestOf);
  const known = memo.get(value);
  if (known !== undefined) return known;
  let h = 7;
  for (const part of Array.isArray(value) ? value : Object.values(value)) h = fold(h, digestOf(part));
  memo.set(value, h);
  return h;
}

/** Digest of a state. Unsigned 32 bits. */
export const digestState = (state: State): number => digestOf(state);
