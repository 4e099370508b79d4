// Digests of model states, for telling candidates apart and for the test that a run repeats itself. Tries remember the digests of
// their nodes, so only what has changed is hashed again; remembering those of single values as well costs more than it saves.
// A first reader may skip it.

import { fold, hashText } from '#lib/hash.ts';
import { Trie } from '#lib/trie.ts';
import type { State } from '#model/state.ts';

const ABSENT = 0x5bd1;

/** Digest of any immutable value: equal values have equal digests. Objects count by their values, in declared order. */
export function digestOf(value: unknown): number {
  if (typeof value === 'number') return value;
  if (typeof value === 'string') return hashText(value);
  if (typeof value !== 'object' || value === null) return value === true ? 1 : value === false ? 0 : ABSENT;
  if (value instanceof Trie) return value.digest(digestOf);
  let h = 7;
  if (Array.isArray(value)) for (const part of value) h = fold(h, digestOf(part));
  else for (const name in value) h = fold(h, digestOf((value as Readonly<Record<string, unknown>>)[name]));
  return h;
}

/** Digest of what can change in a state: what the header says is not in it. Unsigned 32 bits. */
export const digestState = ({ frames, words, domains, vcpus, contexts }: State): number =>
  [frames, words, domains, vcpus, contexts].reduce((h, part) => fold(h, digestOf(part)), 7);
