// The trace engine in miniature: an arbitrary of our own for lists of packed operations, as properties/harness does it for
// traces. It draws two numbers from fast-check and yields a source of decisions; generation happens while the list runs,
// and a failing run leaves on the value what it did and where it failed. Shrinking works on that: the tail is cut off,
// chunks of halving size are removed, then single operations and pairs, operands are made smaller and merged.
// A first reader may skip the generator of shrunk lists.

import fc from 'fast-check';

/**
 * A list of packed operations: `ops`, or if that is undefined, `draws` of them from `seed`. Whoever runs it leaves the step
 * that failed in `failedAt`, and then the operations that ran in `ops`.
 */
export interface ToyList {
  ops: readonly number[] | undefined;
  readonly seed: number;
  readonly draws: number;
  failedAt: number;
}

/** Next of a linear congruential generator (Numerical Recipes' constants). `Math.imul` by 1 keeps 32 bits. */
export const nextDraw = (state: number): number => Math.imul(Math.imul(state, 1_664_525) + 1_013_904_223, 1);

/** A packed operation from a draw: the high bits, as a number in 0..2^20-1. */
export const opOfDraw = (draw: number): number => Math.floor((draw + 0x8000_0000) / 4096);

const without = (ops: readonly number[], from: number, count: number): readonly number[] => [
  ...ops.slice(0, from),
  ...ops.slice(from + count),
];

/** Where shrinking goes on after a success; kept as fast-check's context. */
interface Resume {
  /** Chunks of this size are removed from this place on; 0: done with that. */
  readonly size: number;
  readonly from: number;
  /** Digits of operands made small so far. */
  readonly digit: number;
}

interface Shrunk {
  readonly ops: readonly number[];
  readonly resume: Resume;
}

function* removals(ops: readonly number[], start: Resume): Generator<Shrunk> {
  let { size, from } = start;
  while (size > 0) {
    for (; from < ops.length; from += size)
      yield { ops: without(ops, from, Math.min(size, ops.length - from)), resume: { ...start, size, from } };
    size = Math.floor(size / 2);
    from = 0;
  }
}

/** Pairs that are useless only together, the close ones first. */
function* pairs(ops: readonly number[], resume: Resume): Generator<Shrunk> {
  for (let apart = 1; apart < ops.length; apart += 1)
    for (let i = 0; i + apart < ops.length; i += 1) yield { ops: without(without(ops, i + apart, 1), i, 1), resume };
}

/** Each digit of each operation to 0, to its half, to one less. */
function* smaller(ops: readonly number[], bases: readonly number[], start: number): Generator<Shrunk> {
  for (let digit = start; digit < ops.length * bases.length; digit += 1) {
    const at = Math.floor(digit / bases.length);
    const op = ops[at] as number;
    const place = digit % bases.length;
    const unit = bases.slice(0, place).reduce((product, base) => product * base, 1);
    const value = Math.floor(op / unit) % (bases[place] as number);
    for (const to of new Set([0, Math.floor(value / 2), value - 1]))
      if (to >= 0 && to < value)
        yield {
          ops: ops.with(at, op - (value - to) * unit),
          resume: { size: 0, from: 0, digit: to === 0 ? digit + 1 : digit },
        };
  }
}

/** Arguments merged: the same digit of all operations made 0 at once, so that what refers to each other still does. */
function* merged(ops: readonly number[], bases: readonly number[], resume: Resume): Generator<Shrunk> {
  let unit = 1;
  for (const base of bases) {
    const cleared = ops.map((op) => op - (Math.floor(op / unit) % base) * unit);
    if (cleared.some((op, i) => op !== ops[i])) yield { ops: cleared, resume };
    unit *= base;
  }
}

const PAIRS_MAX = 20;

function* candidates(value: ToyList, bases: readonly number[], resume: Resume | undefined): Generator<Shrunk> {
  const { ops = [], failedAt } = value;
  const first = resume ?? { size: Math.max(1, Math.floor(ops.length / 2)), from: 0, digit: 0 };
  if (failedAt >= 0 && failedAt + 1 < ops.length)
    yield { ops: ops.slice(0, failedAt + 1), resume: { ...first, size: resume?.size ?? Math.floor(failedAt / 2) + 1 } };
  yield* removals(ops, first);
  yield* smaller(ops, bases, first.digit);
  const again = { size: 1, from: 0, digit: ops.length * bases.length };
  if (first.digit > 0) yield* removals(ops, again);
  yield* merged(ops, bases, { ...again, digit: 0 });
  if (ops.length <= PAIRS_MAX) yield* pairs(ops, again);
}

interface Machine {
  readonly step: (op: number) => boolean;
}

/** The first `count` operations that a seed gives. */
function drawn(seed: number, count: number): readonly number[] {
  let state = seed;
  return Array.from({ length: count }, () => {
    state = nextDraw(state);
    return opOfDraw(state);
  });
}

function runDraws(list: ToyList, machine: Machine): boolean {
  const { seed, draws } = list;
  let state = seed;
  for (let i = 0; i < draws; i += 1) {
    state = nextDraw(state);
    if (machine.step(opOfDraw(state))) continue;
    list.failedAt = i;
    list.ops = drawn(seed, i + 1);
    return false;
  }
  return true;
}

/** Runs a list on a machine. False: it failed. */
export function runToyList(list: ToyList, machine: Machine): boolean {
  const { ops } = list;
  if (ops === undefined) return runDraws(list, machine);
  for (let i = 0; i < ops.length; i += 1)
    if (!machine.step(ops[i] as number)) {
      list.failedAt = i;
      return false;
    }
  return true;
}

/** Lists of exactly `length` operations whose operands are digits to the given bases, lowest first. */
export class ToyListArbitrary extends fc.Arbitrary<ToyList> {
  readonly #length: number;
  readonly #bases: readonly number[];

  constructor(length: number, bases: readonly number[]) {
    super();
    this.#length = length;
    this.#bases = bases;
  }

  generate(random: fc.Random): fc.Value<ToyList> {
    const seed = Math.imul(random.nextInt(), random.nextInt());
    return new fc.Value<ToyList>({ ops: undefined, seed, draws: this.#length, failedAt: -1 }, undefined);
  }

  canShrinkWithoutContext(_value: unknown): _value is ToyList {
    return false;
  }

  shrink(value: ToyList, context: unknown): fc.Stream<fc.Value<ToyList>> {
    return new fc.Stream(this.#values(candidates(value, this.#bases, context as Resume | undefined)));
  }

  *#values(shrunk: Iterable<Shrunk>): IterableIterator<fc.Value<ToyList>> {
    for (const { ops, resume } of shrunk) yield new fc.Value<ToyList>({ ops, seed: 0, draws: 0, failedAt: -1 }, resume);
  }
}
