// The first thing in which the implementation's state and the model's differ. Each mechanism relates its own part in a table
// (properties/<mechanism>/abstract.ts): a row has a name, what it breaks if both sides differ, and how to read it on each.
// Nothing is built unless something differs: these tables are gone through at every step.

import type { Invariant } from '#abi/invariants.ts';
import type { Mechanism } from '#abi/operation.ts';
import type { Problem } from './law.ts';

/** A part of something that both sides have: how the model says it and how the implementation does. */
export interface Row<S> {
  readonly name: string;
  readonly breaks: Invariant;
  readonly model: (sides: S) => number | string | boolean | undefined;
  readonly machine: (sides: S) => number | string | boolean | undefined;
  /** The same question answered without putting anything into words, where words are dear. */
  readonly isSame?: (sides: S) => boolean;
}

/** What is related: whose it is, its kind (the first part of a problem's field), and its rows in order of comparison. */
export interface Relation<S> {
  readonly mechanism: Mechanism;
  readonly kind: string;
  /** Which one it is, in words. */
  readonly thing: (sides: S) => string;
  readonly rows: readonly Row<S>[];
}

/** The first row in which the two sides differ, as a problem of field `<kind>.<name>`. */
export function firstDifference<S>({ mechanism, kind, thing, rows }: Relation<S>, sides: S): Problem | undefined {
  for (const row of rows) {
    if (row.isSame?.(sides) === true) continue;
    const expected = row.model(sides);
    const actual = row.machine(sides);
    if (expected === actual) continue;
    return {
      invariant: row.breaks,
      mechanism,
      field: `${kind}.${row.name}`,
      sentence: `${row.name} of ${thing(sides)} is ${String(actual)}, the model says ${String(expected)}`,
      expected: String(expected),
      actual: String(actual),
    };
  }
  return undefined;
}
