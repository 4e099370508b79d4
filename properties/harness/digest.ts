// Digests of model states, for telling candidates apart and for the test that a run repeats itself. Values are hashed once:
// states share what they have in common.

import { fold, hashText } from '#lib/hash.ts';
import type { Domain, Frame, State } from '#model/state.ts';

const memo = new WeakMap<object, number>();

/** Digest of any immutable value, remembered by identity. */
function once<T extends object>(value: T, compute: (value: T) => number): number {
  const known = memo.get(value);
  if (known !== undefined) return known;
  const made = compute(value);
  memo.set(value, made);
  return made;
}

/** Digest of a plain value by its JSON, remembered by identity. */
export const textOf = (value: object): number => once(value, (v) => hashText(JSON.stringify(v)));

const frameDigest = (frame: Frame): number => textOf(frame);

const domainDigest = (domain: Domain): number =>
  once(domain, ({ p2m, grants, pool, ...rest }) =>
    [
      p2m.digest(textOf),
      grants.active.digest(textOf),
      grants.handles.digest(textOf),
      pool.frames.digest(hashText),
      hashText(JSON.stringify([rest, grants.frames, grants.limit, grants.maptrack, pool.used])),
    ].reduce(fold, 7),
  );

/** Digest of a state: equal states have equal digests. Unsigned 32 bits. */
export const digestState = (state: State): number =>
  once(state, (s) =>
    [
      s.frames.digest(frameDigest),
      s.words.digest((word) => fold(fold(word.lo, word.hi), word.author ?? 0xffff)),
      s.domains.digest(domainDigest),
      s.vcpus.digest((pcpu) => pcpu + 2),
    ].reduce(fold, 11),
  );
