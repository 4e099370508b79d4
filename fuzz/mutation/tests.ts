// Stands in for vitest while mutants are judged: test files as they are, in one process with everything that is loaded
// already, up to the first test that fails. The matchers are vitest's own.
// A first reader may skip it.

import { chai, getState, JestAsymmetricMatchers, JestChaiExpect, JestExtend, setState } from '@vitest/expect';

/** A test, not run yet. */
export interface Test {
  readonly name: string;
  readonly run: () => unknown;
}

chai.use(JestExtend);
chai.use(JestChaiExpect);
chai.use(JestAsymmetricMatchers);

type Expect = Parameters<typeof getState>[0];

const matching = (value: unknown, message?: string): unknown => chai.expect(value, message);

/** As in vitest. */
export const expect = Object.assign(matching, chai.expect) as unknown as Expect;

setState({ assertionCalls: 0, isExpectingAssertions: false, expectedAssertionsNumber: null }, expect);

let collected: Test[] = [];
let path: readonly string[] = [];

/** Starts a new list of tests. */
export const begin = (): void => {
  collected = [];
  path = [];
};

/** The tests that were declared since. */
export const declared = (): readonly Test[] => collected;

type Body = (...row: readonly unknown[]) => unknown;

/** `it('name', body)`, `it('name', options, body)`, `it('name', body, timeout)`. */
const bodyIn = (rest: readonly unknown[]): Body =>
  (rest.find((part) => typeof part === 'function') as Body | undefined) ?? (() => undefined);

const rowOf = (row: unknown): readonly unknown[] => (Array.isArray(row) ? (row as readonly unknown[]) : [row]);

/** The first %s of a name is enough to tell rows apart. */
const nameFor = (name: string, row: readonly unknown[]): string => {
  const [first] = row;
  return name
    .replace(/%[sd]/u, String(first))
    .replaceAll(/\$(\w+)/gu, (_, key: string) => String((first as Readonly<Record<string, unknown>>)[key]));
};

type Declare = (name: string, body: () => unknown) => void;

const declaring = (declare: Declare) =>
  Object.assign((name: string, ...rest: readonly unknown[]): void => declare(name, bodyIn(rest)), {
    each:
      (rows: readonly unknown[]) =>
      (name: string, ...rest: readonly unknown[]): void => {
        for (const row of rows) declare(nameFor(name, rowOf(row)), () => bodyIn(rest)(...rowOf(row)));
      },
  });

/** As in vitest, `each` included. */
export const it = declaring((name, run) => collected.push({ name: [...path, name].join(' > '), run }));

export const test = it;

/** As in vitest: its body runs at once. */
export const describe = declaring((name, body) => {
  const outside = path;
  path = [...path, name];
  body();
  path = outside;
});
