// The trace engine alone: how fast it feeds operations that do nothing much, and how well it shrinks, beside a bare loop
// with an inlined generator and beside `fc.commands`, on the same toys in one run. The goals are P9 and P10 of the
// performance facts. A first reader may skip the shrinking half.

import fc from 'fast-check';
import { race, ratio, type Contestant, type Timed } from './clock.ts';
import { nextDraw, opOfDraw, runToyList, ToyListArbitrary } from './toy-list.ts';
import { HANDLE_BASES, Handles, PAGE_BASES, Pages, REGISTER_BASES, Registers, type Toy } from './toy-machine.ts';

interface Acting extends Toy {
  readonly act: (kind: number, a: number, b: number) => boolean;
}

interface Count {
  executions: number;
  operations: number;
}

function bareLoop(runs: number, length: number): number {
  let operations = 0;
  for (let run = 0; run < runs; run += 1) {
    const machine = new Registers();
    let state = run;
    for (let i = 0; i < length; i += 1) {
      state = nextDraw(state);
      machine.step(opOfDraw(state));
    }
    operations += length;
  }
  return operations;
}

function ownLists(runs: number, length: number): number {
  let operations = 0;
  const property = fc.property(new ToyListArbitrary(length, REGISTER_BASES), (value) => {
    runToyList(value, new Registers());
    operations += value.draws;
  });
  fc.check(property, { numRuns: runs, seed: 1 });
  return operations;
}

type Real = { machine: Acting; failed: boolean };

/** One command class per kind of operation, as fast-check's documentation has it. */
const commandsOf = (kinds: number, length: number, count: Count) =>
  fc.commands(
    Array.from({ length: kinds }, (_, kind) =>
      fc.tuple(fc.nat({ max: 15 }), fc.nat({ max: 63 })).map(([a, b]): fc.Command<object, Real> => ({
        check: () => true,
        run: (_model, real) => {
          count.operations += 1;
          if (!real.machine.act(kind, a, b)) throw new Error('the bug shows');
        },
        toString: () => `${kind}(${a}, ${b})`,
      })),
    ),
    { maxCommands: length, size: 'max' },
  );

function commands(runs: number, length: number): number {
  const count: Count = { executions: 0, operations: 0 };
  const property = fc.property(commandsOf(4, length, count), (list) => {
    fc.modelRun(() => ({ model: {}, real: { machine: new Registers(), failed: false } }), list);
  });
  fc.check(property, { numRuns: runs, seed: 1 });
  return count.operations;
}

/** Speed at one length: operations per CPU second of each engine, and the two ratios that the goals are about. */
export interface EngineSpeed {
  readonly length: number;
  readonly timed: readonly Timed[];
  readonly shareOfBareLoop: number;
  readonly timesCommands: number;
}

export function engineSpeed(length: number, rounds: number): EngineSpeed {
  const runs = Math.ceil(200_000 / length);
  const contestants: readonly Contestant[] = [
    { name: 'bare loop', work: () => bareLoop(20 * runs, length) },
    { name: 'own arbitrary', work: () => ownLists(10 * runs, length) },
    { name: 'fc.commands', work: () => commands(runs, length) },
  ];
  const timed = race(contestants, rounds);
  return {
    length,
    timed,
    shareOfBareLoop: ratio(timed, 'own arbitrary', 'bare loop'),
    timesCommands: ratio(timed, 'own arbitrary', 'fc.commands'),
  };
}

/** How a planted bug shrank over the seeds: share of shortest results, longest result, median and most executions. */
export interface EngineShrinking {
  readonly bug: string;
  readonly engine: string;
  readonly seeds: number;
  readonly minimal: number;
  readonly longest: number;
  readonly medianExecutions: number;
  readonly mostExecutions: number;
}

const LENGTH = 50;

function shrinkOwn(seed: number, make: () => Toy, bases: readonly number[]): { length: number; executions: number } {
  let executions = 0;
  let isShrinking = false;
  const property = fc.property(new ToyListArbitrary(LENGTH, bases), (value) => {
    if (isShrinking) executions += 1;
    const holds = runToyList(value, make());
    isShrinking ||= !holds;
    return holds;
  });
  const result = fc.check(property, { seed, numRuns: 200_000 });
  return { length: result.counterexample?.[0].ops?.length ?? 0, executions };
}

function shrinkCommands(seed: number, make: () => Acting): { length: number; executions: number } {
  const count: Count = { executions: 0, operations: 0 };
  let isShrinking = false;
  let length = 0;
  const property = fc.property(commandsOf(4, LENGTH, count), (list) => {
    if (isShrinking) count.executions += 1;
    count.operations = 0;
    try {
      fc.modelRun(() => ({ model: {}, real: { machine: make(), failed: false } }), list);
    } catch (error) {
      isShrinking = true;
      length = count.operations;
      throw error;
    }
  });
  fc.check(property, { seed, numRuns: 200_000 });
  return { length, executions: count.executions };
}

const median = (numbers: readonly number[]): number =>
  numbers.toSorted((a, b) => a - b)[Math.floor(numbers.length / 2)] ?? 0;

/** Shrinks both planted bugs with both engines, seeds 1..`seeds`. */
export function engineShrinking(seeds: number): readonly EngineShrinking[] {
  const bugs = [
    { bug: 'A: three operations, exact operands', make: () => new Pages(), bases: PAGE_BASES, least: 3 },
    { bug: 'B: four operations by handle index', make: () => new Handles(), bases: HANDLE_BASES, least: 4 },
  ];
  return bugs.flatMap(({ bug, make, bases, least }) =>
    [
      { engine: 'own arbitrary', shrink: (seed: number) => shrinkOwn(seed, make, bases) },
      { engine: 'fc.commands', shrink: (seed: number) => shrinkCommands(seed, make) },
    ].map(({ engine, shrink }) => {
      const results = Array.from({ length: seeds }, (_, i) => shrink(i + 1));
      const executions = results.map((one) => one.executions);
      return {
        bug,
        engine,
        seeds,
        minimal: results.filter(({ length }) => length === least).length / seeds,
        longest: Math.max(...results.map(({ length }) => length)),
        medianExecutions: median(executions),
        mostExecutions: Math.max(...executions),
      };
    }),
  );
}
