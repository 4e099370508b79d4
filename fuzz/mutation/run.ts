// `npm run mutate -- paging|hap|tlb [--mutants N] [--seed S] [--only FILES] [--fresh] [--json]`: draws mutants, judges those of which nothing is
// known (`--only`: in files whose names hold one of these, with commas between), and writes docs/mutation.md. Ctrl-C keeps what was found; the next run goes on from there.
// Exit code: 0 everything drawn is judged, 2 wrong usage, 130 stopped.

import { parseArgs } from 'node:util';
import { seedOf } from '#lib/prng.ts';
import { Interrupt } from '../interrupt.ts';
import { voiceOf, type Voice } from '../live.ts';
import { seconds } from '../report.ts';
import { Court } from './court.ts';
import type { Verdict } from './judge.ts';
import { targets, type Mutant, type Target } from './mutants.ts';
import { judgedOf, writePage, type Draw, type Judged } from './page.ts';
import { appendResult, idOf, readResults, suiteDigest } from './results.ts';

interface Wanted extends Draw {
  readonly target: Target;
  readonly fresh: boolean;
  /** Parts of file names: others wait. */
  readonly only: readonly string[];
  readonly json: boolean;
}

const USAGE = `npm run mutate -- ${targets.join('|')} [--mutants N] [--seed S] [--only FILES] [--fresh] [--json]`;

function wanted(): Wanted | string {
  const options = {
    mutants: { type: 'string', default: '200' },
    seed: { type: 'string', default: '2026' },
    only: { type: 'string', default: '' },
    fresh: { type: 'boolean', default: false },
    json: { type: 'boolean', default: false },
  } as const;
  try {
    const { values, positionals } = parseArgs({ options, allowPositionals: true });
    const target = targets.find((name) => name === positionals[0]);
    const count = Number(values.mutants);
    if (target === undefined || positionals.length > 1) return `It wants one mechanism: ${USAGE}`;
    if (!Number.isSafeInteger(count) || count < 1) return `--mutants wants a whole number above 0: ${USAGE}`;
    if (!/^[\w.-]{1,64}$/u.test(values.seed)) return `--seed wants a whole number or a word: ${USAGE}`;
    const only = values.only.split(',');
    return { target, count, seed: seedOf(values.seed), only, fresh: values.fresh, json: values.json };
  } catch (error) {
    return `${error instanceof Error ? error.message : String(error)}\n${USAGE}`;
  }
}

const inWords = ({ status, by }: Verdict): string => (status === 'survived' ? 'SURVIVES' : `${status}: ${by ?? ''}`);

function tell(voice: Voice, mutant: Mutant, verdict: Verdict): void {
  const { file, line, before, after, mutator } = mutant;
  if (verdict.status === 'survived') voice.say(`survives: impl/${file}:${line} ${before} -> ${after}`);
  voice.record({ kind: 'mutant', file, line, mutator, before, after, ...verdict });
}

/** Judges what is left; whether all of it was. */
async function judge(left: readonly Mutant[], suite: string, of: { voice: Voice; interrupt: Interrupt }) {
  const court = new Court();
  const { voice, interrupt } = of;
  try {
    if (left.length > 0) await court.ready();
    const start = performance.now();
    let killed = 0;
    for (const [n, mutant] of left.entries()) {
      if (await interrupt.breath()) return false;
      const verdict = await court.verdictOn(mutant);
      appendResult({ key: idOf(mutant), suite, ...verdict });
      tell(voice, mutant, verdict);
      if (verdict.status !== 'survived') killed += 1;
      const rate = ((performance.now() - start) / 1000 / (n + 1)) * (left.length - n - 1);
      voice.progress(
        `  ${n + 1} of ${left.length} mutants, ${killed} killed, ${seconds(rate)} left: ${mutant.file}:${mutant.line} ${inWords(verdict)}`,
        { phase: 'judging', done: n + 1, of: left.length, killed, secondsLeft: Math.round(rate) },
      );
    }
    return true;
  } finally {
    court.close();
    voice.done();
  }
}

async function main(of: Wanted): Promise<number> {
  const interrupt = new Interrupt();
  const voice = voiceOf(of.json);
  const suite = suiteDigest();
  const before = await judgedOf(of.target, of, readResults());
  // Killed is killed as long as the file is the same; who survived may not survive another suite.
  const isKnown = ({ result }: Judged): boolean =>
    !of.fresh && result !== undefined && (result.status !== 'survived' || result.suite === suite);
  const isMeant = ({ file }: Mutant): boolean => of.only.some((part) => file.includes(part));
  // In an order of no meaning, so that a run that is stopped says something of all files.
  const left = before.judged
    .flatMap((one) => (isKnown(one) || !isMeant(one.mutant) ? [] : [one.mutant]))
    .toSorted((a, b) => (idOf(a) < idOf(b) ? -1 : 1));
  voice.say(
    `impl/${of.target}: ${before.judged.length} of ${before.total} mutants drawn by seed ${of.seed}, ${left.length} to judge`,
  );
  const isWhole = await judge(left, suite, { voice, interrupt });
  const results = readResults();
  await writePage(of, results);
  const { judged } = await judgedOf(of.target, of, results);
  const done = judged.flatMap(({ result }) => result ?? []);
  const killed = done.filter(({ status }) => status !== 'survived').length;
  const share = done.length === 0 ? 0 : (100 * killed) / done.length;
  voice.say(`${killed} of ${done.length} killed (${share.toFixed(1)} %); docs/mutation.md is written`);
  voice.record({ kind: 'summary', target: of.target, drawn: judged.length, judged: done.length, killed, share });
  return isWhole ? 0 : 130;
}

const asked = wanted();
if (typeof asked === 'string') {
  process.stderr.write(`${asked}\n`);
  process.exitCode = 2;
} else process.exitCode = await main(asked);
