// The command line: start, fuzz, coverage, replay, museum, exhaust. Only what is said and how it may be wrong; the commands are their own files.
// Bad input gets one sentence and exit code 2; nothing has happened by then.

import { Command, CommanderError, InvalidArgumentError } from 'commander';
import { mechanisms, type Mechanism } from '#abi/operation.ts';
import { seedOf } from '#lib/prng.ts';
import { catalogue, exhibitIds } from '#museum/catalogue.ts';
import { EditRefused } from '#museum/loader.ts';
import { mutants } from '#museum/synthetic-catalogue.ts';
import { DamagedTrace } from '#museum/traces.ts';
import { laws } from '#properties/index.ts';
import type { Law } from '#properties/harness/law.ts';
import { coverage } from './coverage.ts';
import { exhaust, exhaustTargets, type ExhaustTarget } from './exhaust.ts';
import { EXIT, fuzz } from './fuzz.ts';
import { museum } from './museum.ts';
import { synthetic } from './synthetic.ts';
import { replayFile } from './replay.ts';
import { start } from './start.ts';

const refuse = (sentence: string): never => {
  throw new InvalidArgumentError(sentence);
};

const aboveZero = (text: string): number => {
  const n = Number(text);
  return Number.isFinite(n) && n > 0 ? n : refuse('It wants a number above 0.');
};

const wholeAboveZero = (text: string): number => {
  const n = aboveZero(text);
  return Number.isSafeInteger(n) ? n : refuse('It wants a whole number above 0.');
};

const seed = (text: string): number =>
  /^[\w.-]{1,64}$/.test(text) ? seedOf(text) : refuse('It wants a whole number or a word, a git hash say.');

const seedsMax = 1000;

/** `7` or `1-10`. */
const seeds = (text: string): readonly number[] => {
  const [, first = '', last = first] =
    /^(\d{1,9})(?:-(\d{1,9}))?$/.exec(text) ?? refuse('It wants a seed or a range like 1-10.');
  const count = Number(last) - Number(first) + 1;
  if (count < 1 || count > seedsMax) refuse(`It wants a range of 1 to ${seedsMax} seeds, upwards.`);
  return Array.from({ length: count }, (_, i) => Number(first) + i);
};

const mechanism = (text: string): Mechanism =>
  mechanisms.find((name) => name === text) ?? refuse(`There is no such mechanism; there are ${mechanisms.join(', ')}.`);

/** Adds one law to those asked for. */
const law = (text: string, before: readonly Law[] = []): readonly Law[] => {
  const judging = laws.filter(({ kind }) => kind === 'always' || kind === 'pair');
  const found = judging.find(({ id }) => id === text);
  if (found !== undefined) return [...before, found];
  const other = laws.find(({ id }) => id === text);
  if (other !== undefined) return refuse(`It is a '${other.kind}' law, which no campaign judges; npm test does.`);
  return refuse(`There is no such law; there are ${judging.map(({ id }) => id).join(', ')}.`);
};

const exhibit = (text: string): string =>
  exhibitIds().includes(text) ? text : refuse(`There is no such exhibit; there are ${exhibitIds().join(', ')}.`);

const exhibitOrMutant = (text: string): string => (mutants.some(({ id }) => id === text) ? text : exhibit(text));

const exhaustTarget = (text: string): ExhaustTarget =>
  exhaustTargets.find((name) => name === text) ?? refuse(`It is one of ${exhaustTargets.join(', ')}.`);

const json = ['--json', 'one JSON object per line instead of words'] as const;

interface Asked {
  readonly seconds?: number;
  readonly operations?: number;
  readonly seed?: number;
  readonly law?: readonly Law[];
  readonly mechanism?: Mechanism;
  readonly json?: boolean;
  readonly exhibit?: string;
  readonly hunt?: boolean;
  readonly synthetic?: boolean;
  readonly id?: string;
  readonly seeds: readonly number[];
  readonly steps: number;
}

/** Seconds of a campaign that is bounded by neither time nor operations. */
const SECONDS = 60;

/** How far a campaign goes, and how it speaks. */
const boundsOf = (asked: Asked) => ({
  seconds: asked.seconds ?? (asked.operations === undefined ? SECONDS : Infinity),
  operations: asked.operations ?? Infinity,
  seed: asked.seed ?? 1,
  json: asked.json === true,
});

const runFuzz = (asked: Asked): Promise<number> =>
  fuzz({
    ...boundsOf(asked),
    laws: asked.law ?? laws,
    ...(asked.mechanism === undefined ? {} : { mechanism: asked.mechanism }),
  });

const runReplay = (file: string, asked: Asked): Promise<number> =>
  replayFile({ file, ...(asked.exhibit === undefined ? {} : { exhibit: asked.exhibit }), json: asked.json === true });

async function runMuseum(asked: Asked): Promise<number> {
  const { seeds: range, steps } = asked;
  const how = { hunt: asked.hunt === true, seeds: range, steps, json: asked.json === true };
  const isAsked = ({ id }: { readonly id: string }): boolean => asked.id === undefined || id === asked.id;
  if (asked.synthetic === true) return synthetic({ mutants: mutants.filter(isAsked), ...how });
  return museum({ exhibits: (await catalogue()).filter(isAsked), ...how });
}

/** The program; `end` is told each command's exit code. */
function program(end: (code: number) => void): Command {
  const root = new Command('ringfence').description(
    'Memory isolation of a hypervisor, model and implementation in lockstep.',
  );
  root.exitOverride().showHelpAfterError(false);
  root
    .command('start')
    .description('the tour of about a minute: old bugs hunted from scratch, then the implementation as it stands')
    .option('--seconds <n>', 'how long', aboveZero, SECONDS)
    .option('--seed <seed>', 'a whole number or a git hash; another one each time unless given', seed)
    .option(...json)
    .action(async (asked: Asked) =>
      end(
        await start({
          seconds: asked.seconds ?? SECONDS,
          ...(asked.seed === undefined ? {} : { seed: asked.seed }),
          json: asked.json === true,
        }),
      ),
    );
  root
    .command('fuzz')
    .description('a campaign on the implementation as it stands')
    .option('--seconds <n>', 'stop after so many seconds', aboveZero)
    .option('--operations <n>', 'stop after so many completed operations', wholeAboveZero)
    .option('--seed <seed>', 'a whole number or a git hash', seed)
    .option('--law <id>', 'judge this law only; may be given several times', law)
    .option('--mechanism <name>', 'count failures in this mechanism only', mechanism)
    .option(...json)
    .action(async (asked: Asked) => end(await runFuzz(asked)));
  root
    .command('coverage')
    .description('a campaign that counts the replies it reaches, and the checks that were not vacuous')
    .option('--seconds <n>', 'stop after so many seconds', aboveZero)
    .option('--operations <n>', 'stop after so many completed operations', wholeAboveZero)
    .option('--seed <seed>', 'a whole number or a git hash', seed)
    .option(...json)
    .action(async (asked: Asked) => end(await coverage(boundsOf(asked))));
  root
    .command('replay')
    .argument('<file>', 'a stored trace')
    .description('one stored trace, step by step')
    .option('--exhibit <id>', 'on the copy with this bug', exhibit)
    .option(...json)
    .action(async (file: string, asked: Asked) => end(await runReplay(file, asked)));
  root
    .command('museum')
    .description('the exhibits and what hunting them came to')
    .option('--hunt', 'hunt from scratch what has no result yet')
    .option('--synthetic', 'the synthetic mutants instead')
    .option('--id <id>', 'this exhibit only, or this mutant', exhibitOrMutant)
    .option('--seeds <range>', 'a seed or a range', seeds, seeds('1-10'))
    .option('--steps <n>', 'completed operations per exhibit and seed', wholeAboveZero, 300_000)
    .option(...json)
    .action(async (asked: Asked) => end(await runMuseum(asked)));
  root
    .command('exhaust')
    .argument('<target>', exhaustTargets.join(' or '), exhaustTarget)
    .description(
      'every combination of the bits that decide about an access, in every context, on model and implementation',
    )
    .option(...json)
    .action(async (target: ExhaustTarget, asked: Asked) => end(await exhaust({ target, json: asked.json === true })));
  for (const command of root.commands) command.exitOverride().showHelpAfterError(false);
  return root;
}

/** Runs the command line; answers the exit code. */
export async function main(argv: readonly string[]): Promise<number> {
  let code: number = EXIT.ok;
  try {
    await program((ended) => (code = ended)).parseAsync([...argv], { from: 'user' });
    return code;
  } catch (error) {
    if (error instanceof CommanderError) return error.exitCode === 0 ? EXIT.ok : EXIT.usage;
    if (!(error instanceof EditRefused || error instanceof DamagedTrace)) throw error;
    process.stderr.write(`${error.message}.\n`);
    return EXIT.broken;
  }
}
