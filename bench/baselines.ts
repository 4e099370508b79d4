// The whole suite against what one would write with a property-testing library off the shelf, on the same lockstep with the same
// laws: `fc.commands` with preconditions derived from the specification, and plain arrays of total operations. Each gets the
// same CPU time in turn. Two figures: distinct semantic states, and exhibits solved, per CPU second.
// A first reader may skip how the two baselines are put together.

import fc from 'fast-check';
import type { Agent } from '#abi/agents.ts';
import type { DomId, VcpuId } from '#abi/address.ts';
import { mechanismOf, opKinds, type OpKind } from '#abi/operation.ts';
import type { ActStep } from '#abi/trace.ts';
import { Prng } from '#lib/prng.ts';
import { fold } from '#lib/hash.ts';
import { begin, runAlone } from '#model/step.ts';
import { attempt, sourceOf, type Attempt } from '#museum/attempt.ts';
import type { Exhibit } from '#museum/exhibit.ts';
import { absurdOp } from '#properties/harness/absurd.ts';
import type { Driven } from '#properties/harness/generate.ts';
import { headerOf } from '#properties/harness/headers.ts';
import { isError } from '#properties/harness/replies.ts';
import { answersFrom, resolveOp } from '#properties/harness/resolve.ts';
import { clean, type Subject } from '#properties/harness/subject.ts';
import { geometryOf } from '#impl/machine.ts';
import { cpuSeconds } from './clock.ts';

/** Whoever takes part: the n-th run from a seed, on a subject. */
export interface Generator {
  readonly name: string;
  readonly run: (subject: Subject, seed: number, n: number) => Attempt;
}

const LENGTH_MAX = 100;

/** Who may make a call of this kind at all: knowledge that anybody would put into a generator. */
function callerFor(prng: Prng, kind: OpKind): Agent {
  const mechanism = mechanismOf(kind);
  if (mechanism === 'tlb') return { kind: 'fate' };
  if (kind === 'memory.scrub') return { kind: 'background' };
  if (mechanism === 'memory' && prng.chance(1, 2)) return { kind: 'toolstack' };
  return { kind: 'vcpu', domain: (1 + prng.below(2)) as DomId, vcpu: prng.below(2) as VcpuId };
}

/** A step of a kind, its arguments from the shared pools of hot and cold values. */
function stepOf(kind: OpKind, seed: number, label: number): ActStep {
  const prng = new Prng(seed);
  const earlier = Array.from({ length: Math.min(label, 8) }, (_, i) => label - 1 - i);
  return { label, agent: callerFor(prng, kind), op: absurdOp(prng, kind, earlier) };
}

/** Whether the specification lets the step succeed, as far as it can tell before choices are made. */
function permits(run: Driven, step: ActStep): boolean {
  const geometry = geometryOf(run.header);
  const answers = answersFrom(() => undefined);
  const op = resolveOp(step.op, { geometry, label: step.label, ...answers, handedOut: run.handedOut.bind(run) });
  const outcome = runAlone(run.state, begin(step.agent, op), []);
  if (outcome.kind !== 'done') return true;
  const { expected } = outcome;
  if (expected.kind !== 'exact') return true;
  const { reply } = expected;
  return !isError(reply) && reply.elements.every(({ status }) => status === 'okay');
}

interface Model {
  label: number;
}

/** One command per kind of operation. */
const commands = fc.commands(
  opKinds.map((kind) =>
    fc.integer().map((seed): fc.Command<Model, Driven> => ({
      check: (model) => permits(currentRun(), stepOf(kind, seed, model.label)),
      run: (model, run) => {
        run.apply(stepOf(kind, seed, model.label));
        model.label += 1;
      },
      toString: () => `${kind} ${seed}`,
    })),
  ),
  { maxCommands: LENGTH_MAX, size: 'max' },
);

/** What a precondition may look at: fast-check hands it the model only, and here the specification's state is the model. */
let watched: Driven | undefined;

function currentRun(): Driven {
  if (watched === undefined) throw new Error('a precondition is asked while a run is on');
  return watched;
}

/** Runs what `drive` does on a random machine. */
const onMachine = (subject: Subject, seed: number, drive: (run: Driven) => void): Attempt =>
  attempt(subject, { header: headerOf(new Prng(fold(seed, 1))), drive });

const sampled = <T>(arbitrary: fc.Arbitrary<T>, seed: number): T => {
  const [value] = fc.sample(arbitrary, { seed, numRuns: 1 });
  if (value === undefined) throw new Error('fast-check gives a value');
  return value;
};

const withCommands: Generator = {
  name: 'fc.commands, preconditions from the specification',
  run: (subject, seed, n) =>
    onMachine(subject, fold(seed, n), (run) => {
      watched = run;
      fc.modelRun(() => ({ model: { label: 0 }, real: run }), sampled(commands, fold(seed, n)));
      run.finish();
    }),
};

const totalSteps = fc.array(fc.record({ kind: fc.constantFrom(...opKinds), seed: fc.integer() }), {
  maxLength: LENGTH_MAX,
  size: 'max',
});

const withArrays: Generator = {
  name: 'fc.array of total operations',
  run: (subject, seed, n) =>
    onMachine(subject, fold(seed, n), (run) => {
      sampled(totalSteps, fold(seed, n)).forEach((one, label) => run.apply(stepOf(one.kind, one.seed, label)));
      run.finish();
    }),
};

const ownSuite: Generator = { name: 'the suite', run: (subject, seed, n) => attempt(subject, sourceOf(seed, n)) };

export const generators: readonly Generator[] = [ownSuite, withCommands, withArrays];

/** What one generator came to. */
export interface BaselineFigures {
  readonly name: string;
  readonly states: number;
  readonly operations: number;
  readonly statesPerSecond: number;
  /** Exhibit and seed pairs solved, out of so many, and the CPU seconds that all hunts took. */
  readonly solved: number;
  readonly hunts: number;
  readonly huntSeconds: number;
  readonly solvedPerSecond: number;
}

/** How much CPU time each generator gets: for states, and for each exhibit and seed. */
export interface Budget {
  readonly stateSeconds: number;
  readonly huntSeconds: number;
  readonly seeds: number;
}

/** Distinct semantic states of all generators, in turns of one run so that none has the machine to itself. */
function reachStates(seed: number, seconds: number): ReadonlyMap<string, { states: Set<number>; operations: number }> {
  const all = new Map(generators.map(({ name }) => [name, { states: new Set<number>(), operations: 0, used: 0 }]));
  for (let n = 1, isOver = false; !isOver; n += 1) {
    isOver = true;
    for (const { name, run } of generators) {
      const mine = all.get(name);
      if (mine === undefined || mine.used >= seconds) continue;
      const start = cpuSeconds();
      const one = run(clean, seed, n);
      mine.used += cpuSeconds() - start;
      mine.operations += one.operations;
      for (const state of one.semantic) mine.states.add(state);
      isOver = false;
    }
  }
  return all;
}

/** CPU seconds until one of the exhibit's laws broke; undefined: not within the budget. */
function solve(
  generator: Generator,
  of: { exhibit: Exhibit; subject: Subject; seed: number },
  budget: number,
): number | undefined {
  const start = cpuSeconds();
  for (let n = 1; cpuSeconds() - start < budget; n += 1) {
    const { failure } = generator.run(of.subject, of.seed, n);
    if (failure !== undefined && of.exhibit.killedBy.includes(failure.law)) return cpuSeconds() - start;
  }
  return undefined;
}

/** All generators on the clean implementation and on every exhibit. */
export function baselineFigures(
  subjects: readonly { readonly exhibit: Exhibit; readonly subject: Subject }[],
  budget: Budget,
): readonly BaselineFigures[] {
  const reached = reachStates(1, budget.stateSeconds);
  const hunted = new Map(generators.map(({ name }) => [name, { solved: 0, seconds: 0 }]));
  for (let seed = 1; seed <= budget.seeds; seed += 1)
    for (const one of subjects)
      for (const generator of generators) {
        const mine = hunted.get(generator.name);
        if (mine === undefined) continue;
        const seconds = solve(generator, { ...one, seed }, budget.huntSeconds);
        mine.solved += seconds === undefined ? 0 : 1;
        mine.seconds += seconds ?? budget.huntSeconds;
      }
  return generators.map(({ name }) => {
    const { states = new Set<number>(), operations = 0 } = reached.get(name) ?? {};
    const { solved = 0, seconds = 0 } = hunted.get(name) ?? {};
    return {
      name,
      states: states.size,
      operations,
      statesPerSecond: states.size / budget.stateSeconds,
      solved,
      hunts: budget.seeds * subjects.length,
      huntSeconds: seconds,
      solvedPerSecond: solved / Math.max(seconds, 1e-6),
    };
  });
}
