// `npm run bench`: all benches, or those named (suite, engine, baselines, cpu), as tables or with --json as one object. Contestants
// stand side by side in one run; what counts are the ratios. README.md in this folder has the figures and how to read them.
// A first reader may skip the tables.

import { parseArgs } from 'node:util';
import { catalogue } from '#museum/catalogue.ts';
import { loadSubject } from '#museum/loader.ts';
import { baselineFigures, type BaselineFigures } from './baselines.ts';
import type { Timed } from './clock.ts';
import { cpuFigures, type CpuFigures } from './cpu.ts';
import { engineShrinking, engineSpeed, type EngineShrinking, type EngineSpeed } from './engine.ts';
import { suiteFigures, type SuiteFigures } from './suite.ts';

const ROUNDS = 7;
/** Walks over tables that no cache holds differ more from round to round. */
const CPU_ROUNDS = 15;
const SHRINK_SEEDS = 40;

const round = (n: number): number => Math.round(n * 1000) / 1000;

const speeds = (timed: readonly Timed[], base: string): object[] => {
  const whole = timed.find(({ name }) => name === base)?.perSecond ?? 1;
  return timed.map(({ name, perSecond }) => ({
    contestant: name,
    'operations per CPU second': Math.round(perSecond),
    [`times ${base}`]: round(perSecond / whole),
  }));
};

function showSuite({ operations, timed, microseconds }: SuiteFigures): void {
  console.log(`\nSuite: ${operations} recorded operations, best of ${ROUNDS} rounds`);
  console.table(speeds(timed, 'implementation alone'));
  const sum = Object.values(microseconds).reduce((total: number, one: number) => total + one, 0);
  console.table(
    Object.entries(microseconds).map(([part, one]: [string, number]) => ({
      part,
      'microseconds per operation': round(one),
      share: `${Math.round((100 * one) / sum)} %`,
    })),
  );
}

function showEngine(speed: readonly EngineSpeed[], shrinking: readonly EngineShrinking[]): void {
  for (const { length, timed, shareOfBareLoop, timesCommands } of speed) {
    console.log(`\nEngine alone: ${length} trivial operations per run, best of ${ROUNDS} rounds`);
    console.table(speeds(timed, 'bare loop'));
    console.log(`${round(timesCommands)} times fc.commands; ${Math.round(100 * shareOfBareLoop)} % of the bare loop`);
  }
  console.log(`\nShrinking two planted bugs, seeds 1 to ${SHRINK_SEEDS}`);
  console.table(shrinking);
}

function showBaselines(figures: readonly BaselineFigures[]): void {
  console.log('\nThe suite and two baselines, the same lockstep and laws, the same CPU time in turn');
  console.table(
    figures.map((one) => ({
      generator: one.name,
      'semantic states': one.states,
      'per CPU second': round(one.statesPerSecond),
      solved: `${one.solved} of ${one.hunts}`,
      'hunting CPU seconds': round(one.huntSeconds),
      'solved per CPU second': round(one.solvedPerSecond),
    })),
  );
}

function showCpu({ compiler, contests, cacheGain, hitShare, reference }: CpuFigures): void {
  console.log(`\nAddress translation: nanoseconds of CPU time for one, best of ${CPU_ROUNDS} rounds, checksums equal`);
  if (compiler === undefined) console.log('No C compiler (gcc, cc, clang) was found: native figures are left out.');
  console.table(
    contests.map(({ goal, what, ours, native, ratio, atMost }) => ({
      goal,
      what,
      ours: round(ours),
      [compiler === undefined ? 'native' : `${compiler} -O2`]: native === undefined ? '' : round(native),
      ratio: ratio === undefined ? '' : round(ratio),
      'at most': atMost,
    })),
  );
  const [local, wide] = cacheGain;
  console.log(
    `P3: without caches ${round(local)} times (wide: ${round(wide)}) what it takes with them; at least 4 (2.2).`,
  );
  console.log(`P4: a hit takes ${Math.round(100 * hitShare)} % of a walk; at most 40 %.`);
  console.table(
    reference.map((one) => ({
      goal: 'P6',
      pages: one.pages,
      'specification per CPU second': Math.round(one.specification),
      'walker, times': round(one.timesWalker),
      'whole accesses, times': round(one.timesAccess),
      'times bigints in a Map': round(one.timesBigints),
      'both over words': round(one.timesBigintsBothWords),
      'both over a Map': round(one.timesBigintsBothMap),
    })),
  );
}

const benches = {
  suite: (show: boolean): unknown => {
    const figures = suiteFigures(1, ROUNDS);
    if (show) showSuite(figures);
    return figures;
  },
  engine: (show: boolean): unknown => {
    const speed = [50, 200].map((length) => engineSpeed(length, ROUNDS));
    const shrinking = engineShrinking(SHRINK_SEEDS);
    if (show) showEngine(speed, shrinking);
    return { speed, shrinking };
  },
  baselines: async (show: boolean): Promise<unknown> => {
    const exhibits = await catalogue();
    const subjects = await Promise.all(
      exhibits.map(async (exhibit) => ({ exhibit, subject: await loadSubject(exhibit) })),
    );
    const figures = baselineFigures(subjects, { stateSeconds: 10, huntSeconds: 6, seeds: 3 });
    if (show) showBaselines(figures);
    return figures;
  },
  cpu: (show: boolean): unknown => {
    const figures = cpuFigures(CPU_ROUNDS);
    if (show) showCpu(figures);
    return figures;
  },
} as const;

type BenchName = keyof typeof benches;

const isBench = (name: string): name is BenchName => Object.hasOwn(benches, name);

async function main(): Promise<number> {
  const { values, positionals } = parseArgs({ options: { json: { type: 'boolean' } }, allowPositionals: true });
  const unknown = positionals.find((name) => !isBench(name));
  if (unknown !== undefined) {
    console.error(`There is no bench '${unknown}'; there are ${Object.keys(benches).join(', ')}.`);
    return 2;
  }
  const names = positionals.length === 0 ? (Object.keys(benches) as BenchName[]) : positionals.filter(isBench);
  const results: Record<string, unknown> = {};
  for (const name of names) results[name] = await benches[name](values.json !== true);
  if (values.json === true) console.log(JSON.stringify(results, null, 2));
  return 0;
}

try {
  process.exitCode = await main();
} catch (error) {
  if (!(error instanceof TypeError && 'code' in error)) throw error;
  console.error(`${error.message}.`);
  process.exitCode = 2;
}
