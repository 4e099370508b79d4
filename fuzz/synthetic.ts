// `npm run museum -- --synthetic`: the synthetic mutants as a table. With --hunt they are hunted from scratch from every seed asked for;
// the first evidence is made short, the result is appended to museum/results.jsonl, and shorter evidence takes the place of what is
// kept. What is in the results already (same code, seed and budget) is not done again.
// A first reader may skip the table.

import pc from 'picocolors';
import { hunt, isCaught } from '#museum/hunt.ts';
import { loadSubject } from '#museum/loader.ts';
import { appendResult, codeDigest, newest, readResults, type Result } from '#museum/results.ts';
import { failsOn } from '#museum/shorten.ts';
import { type Evidence, evidenceOf, keepEvidence, loadUnit, type Mutant } from '#museum/synthetic.ts';
import { huntByCases, smallest } from '#museum/synthetic-hunt.ts';
import { isSmallerCase } from '#properties/harness/case-shrink.ts';
import { clean } from '#properties/harness/subject.ts';
import { shortened } from './finding.ts';
import { EXIT } from './fuzz.ts';
import { Interrupt } from './interrupt.ts';
import { voiceOf, type Voice } from './live.ts';
import { counted, grouped, table } from './report.ts';

export interface SyntheticOptions {
  readonly mutants: readonly Mutant[];
  readonly hunt: boolean;
  readonly seeds: readonly number[];
  /** Completed operations, or cases, per mutant and seed. */
  readonly steps: number;
  readonly json: boolean;
}

interface Scene {
  readonly voice: Voice;
  readonly interrupt: Interrupt;
}

/** What a hunt of one mutant from one seed came to. */
interface End {
  readonly steps: number;
  readonly runs: number;
  readonly law?: string;
  /** Steps or words of what was found. */
  readonly found?: number;
  readonly evidence?: Evidence;
}

/** Traces executed, and seconds, at most while one is made short. */
const SHORTEN = { executions: 1000, seconds: 30 } as const;

const sizeOf = (evidence: Evidence): number =>
  evidence.kind === 'case' ? evidence.case.image.length : evidence.trace.steps.length;

const isSmaller = (a: Evidence, b: Evidence): boolean =>
  a.kind === 'case' && b.kind === 'case' ? isSmallerCase(a.case, b.case) : sizeOf(a) < sizeOf(b);

/** Whether there is a result made with the code as it stands. */
function isDone(mutant: Mutant, seed: number, budget: number): boolean {
  const code = codeDigest(mutant);
  return readResults().some(
    (one) => one.id === mutant.id && one.seed === seed && one.code === code && (one.solved || one.budget >= budget),
  );
}

function conclude(mutant: Mutant, end: End, of: { seed: number; budget: number; voice: Voice }): void {
  const { seed, budget, voice } = of;
  const { steps, runs, law, found, evidence } = end;
  const length = evidence === undefined ? undefined : sizeOf(evidence);
  const caught = law === undefined || found === undefined || length === undefined ? {} : { law, found, length };
  const result: Result = { id: mutant.id, seed, budget, code: codeDigest(mutant), solved: law !== undefined, steps, runs, ...caught }; // prettier-ignore
  appendResult(result);
  voice.record({ kind: 'result', ...result });
  const kept = evidenceOf(mutant.id);
  if (evidence !== undefined && (kept === undefined || isSmaller(evidence, kept))) keepEvidence(mutant.id, evidence);
  const what = counted(steps, mutant.by === 'cases' ? 'case' : 'operation');
  const outcome = law === undefined ? pc.red(`not found within ${what}`) : `${law} after ${what}`;
  voice.say(`${mutant.id} seed ${seed}: ${outcome}`);
}

/** Hunts mutants of walks, all at once. */
async function byCases(mutants: readonly Mutant[], of: { seed: number; budget: number }, scene: Scene): Promise<void> {
  const { voice, interrupt } = scene;
  const { seed, budget } = of;
  const prey = await Promise.all(mutants.map(async (mutant) => ({ mutant, unitOf: await loadUnit(mutant) })));
  const work = huntByCases(prey, { seed, cases: budget });
  for (;;) {
    const { done, value } = work.next();
    for (const { mutant, unitOf, cases, case: one, law } of value.found) {
      // One case made small is enough to keep; the others tell how long it took to find them.
      const kept = evidenceOf(mutant.id) ?? ({ kind: 'case', case: smallest(one, unitOf) } satisfies Evidence);
      const end: End = { steps: cases, runs: cases, law, found: one.image.length, evidence: kept };
      conclude(mutant, end, { ...of, voice });
    }
    if (done === true) {
      for (const { mutant } of value.left) conclude(mutant, { steps: budget, runs: budget }, { ...of, voice });
      return;
    }
    const data = { seed, steps: value.cases, left: value.left.length };
    voice.progress(
      `  seed ${seed}: ${counted(value.cases, 'case')}, ${counted(value.left.length, 'mutant')} left`,
      data,
    );
    if (await interrupt.breath()) return;
  }
}

/** Hunts a mutant of flushes. */
async function byRuns(mutant: Mutant, of: { seed: number; budget: number }, scene: Scene): Promise<void> {
  const { voice, interrupt } = scene;
  const subject = await loadSubject(mutant);
  const work = hunt({ exhibit: mutant, subject, seed: of.seed, steps: of.budget });
  for (;;) {
    const { done, value } = work.next();
    const { steps, runs } = value;
    if (done !== true) {
      const data = { id: mutant.id, seed: of.seed, steps };
      voice.progress(`  ${mutant.id} seed ${of.seed}: ${counted(steps, 'operation')}`, data);
      if (await interrupt.breath()) return;
      continue;
    }
    if (!isCaught(value)) return conclude(mutant, { steps, runs }, { ...of, voice });
    const { failure, attempt } = value;
    const raw = attempt.trace;
    const short = await shortened({ trace: raw, failure, fails: failsOn(subject), ...SHORTEN }, scene);
    const trace = failsOn(clean)(short.trace) === undefined ? short.trace : raw;
    const evidence: Evidence = { kind: 'trace', trace };
    return conclude(mutant, { steps, runs, law: failure.law, found: raw.steps.length, evidence }, { ...of, voice });
  }
}

async function huntAll({ mutants, seeds, steps: budget }: SyntheticOptions, scene: Scene): Promise<void> {
  for (const seed of seeds) {
    const open = mutants.filter((mutant) => !isDone(mutant, seed, budget));
    const walks = open.filter(({ by }) => by === 'cases');
    if (walks.length > 0 && !scene.interrupt.requested) await byCases(walks, { seed, budget }, scene);
    for (const mutant of open.filter(({ by }) => by === 'runs'))
      if (!scene.interrupt.requested) await byRuns(mutant, { seed, budget }, scene);
  }
}

function showTable({ mutants, seeds }: SyntheticOptions, voice: Voice): void {
  const all = readResults();
  const rows = mutants.map((mutant) => {
    const results = newest(all, mutant.id);
    const kept = evidenceOf(mutant.id);
    voice.record({ kind: 'synthetic', ...mutant, edits: mutant.edits.length, results: [...results.values()] });
    const perSeed = seeds.map((seed) => {
      const result = results.get(seed);
      return result === undefined ? '.' : `${result.solved ? '' : '>'}${grouped(result.steps)}`;
    });
    const size = kept === undefined ? '-' : counted(sizeOf(kept), kept.kind === 'case' ? 'word' : 'step');
    const isSolved = seeds.every((seed) => results.get(seed)?.solved === true);
    return { isSolved, cells: [mutant.id, mutant.breaks, size, `${perSeed.join(' ')} ${mutant.by === 'cases' ? 'cases' : 'operations'}`] }; // prettier-ignore
  });
  const [head = '', rule = '', ...lines] = table([
    ['synthetic mutant', 'breaks', 'evidence', `to find it, seeds ${seeds[0] ?? 1} to ${seeds.at(-1) ?? 1}`],
    ...rows.map(({ cells }) => cells),
  ]);
  voice.say(head, rule, ...lines.map((line, i) => (rows[i]?.isSolved === true ? line : pc.red(line))));
}

/** Shows the synthetic mutants, after hunting if asked to; answers the exit code. */
export async function synthetic(options: SyntheticOptions): Promise<number> {
  const voice = voiceOf(options.json);
  if (options.hunt) {
    const scene: Scene = { voice, interrupt: new Interrupt() };
    await huntAll(options, scene);
    voice.done();
    voice.say('');
    if (scene.interrupt.requested)
      voice.say('Stopped; what was found so far is saved, and the same command goes on from here.', '');
  }
  showTable(options, voice);
  return EXIT.ok;
}
