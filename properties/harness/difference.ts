// The first thing in which the implementation's state and the model's differ. Each mechanism relates its own part
// (properties/<mechanism>/abstract.ts) with these few words.

import type { Problem } from './law.ts';

/** A named part and its value on both sides. */
export type Pairs = readonly (readonly [name: string, expected: unknown, actual: unknown])[];

/** Of what a difference is: the problem without its two sides. */
export type About = Pick<Problem, 'invariant' | 'mechanism'> & { readonly thing: string };

/** The first pair that differs, as a problem of field `<kind>.<name>`. */
export function firstDifference(about: About, kind: string, pairs: Pairs): Problem | undefined {
  for (const [name, expected, actual] of pairs) {
    if (expected === actual) continue;
    const { invariant, mechanism, thing } = about;
    return {
      invariant,
      mechanism,
      field: `${kind}.${name}`,
      sentence: `${name} of ${thing} is ${String(actual)}, the model says ${String(expected)}`,
      expected: String(expected),
      actual: String(actual),
    };
  }
  return undefined;
}
