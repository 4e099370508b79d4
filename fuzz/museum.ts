// `npm run museum`: the exhibits as a table. With --hunt each is hunted from scratch from every seed asked for, the first
// failure is made short and certified, the result is appended to museum/results.jsonl, and a shorter trace takes the place
// of the stored one. What is in the results already (same code, seed and budget) is not done again.
// A first reader may skip the table.

import pc from 'picocolors';
import type { Trace } from '#abi/trace.ts';
import type { Exhibit } from '#museum/exhibit.ts';
import { hunt, isCaught, type Caught, type HuntProgress } from '#museum/hunt.ts';
import { loadSubject } from '#museum/loader.ts';
import { appendResult, codeDigest, newest, readResults, type Result } from '#museum/results.ts';
import { failsOn, type Short } from '#museum/shorten.ts';
import { keepIfShorter, storedTrace, traceFile } from '#museum/traces.ts';
import { certify } from '#properties/harness/certify.ts';
import { clean, type Subject } from '#properties/harness/subject.ts';
import { shortened } from './finding.ts';
import { EXIT } from './fuzz.ts';
import { Interrupt } from './interrupt.ts';
import { voiceOf, type Voice } from './live.ts';
import { counted, grouped, replayCommand, table, traceInWords } from './report.ts';

export interface MuseumOptions {
  readonly exhibits: readonly Exhibit[];
  readonly hunt: boolean;
  readonly seeds: readonly number[];
  /** Completed operations per exhibit and seed. */
  readonly steps: number;
  readonly json: boolean;
}

/** Traces executed, and seconds, at most while a catch is made short. */
const SHORTEN = { executions: 10_000, seconds: 600 } as const;

interface Scene {
  readonly voice: Voice;
  readonly interrupt: Interrupt;
}

/** Steps to find it per seed: figures, `-` for not found, nothing for not tried. */
function perSeed(results: ReadonlyMap<number, Result>, seeds: readonly number[]): string {
  return seeds
    .map((seed) => {
      const result = results.get(seed);
      if (result === undefined) return '.';
      return result.solved ? grouped(result.steps) : `>${grouped(result.steps)}`;
    })
    .join(' ');
}

/** The newest result with the shortest trace. */
const shortest = (results: ReadonlyMap<number, Result>): Result | undefined =>
  [...results.values()]
    .filter(({ solved }) => solved)
    .toSorted((a, b) => (a.length ?? Infinity) - (b.length ?? Infinity))[0];

function showTable({ exhibits, seeds }: MuseumOptions, voice: Voice): void {
  const all = readResults();
  const rows = exhibits.map((exhibit) => {
    const results = newest(all, exhibit.id);
    const best = shortest(results);
    const stored = storedTrace(exhibit);
    // Older lines say it shorter.
    const certified = (best?.certified ?? '-').replace(/^minimal \(/u, 'minimal in its own vocabulary (');
    voice.record({
      kind: 'exhibit',
      ...exhibit,
      edits: exhibit.edits.length,
      length: stored?.steps.length ?? null,
      certified,
      results: [...results.values()],
    });
    const isSolved = seeds.some((seed) => results.get(seed)?.solved === true);
    const cells = [
      exhibit.id,
      exhibit.class,
      best?.law ?? '-',
      String(stored?.steps.length ?? '-'),
      certified,
      perSeed(results, seeds),
    ];
    return { cells, isSolved };
  });
  const [head = '', rule = '', ...lines] = table([
    [
      'exhibit',
      'class',
      'law',
      'steps',
      'certified',
      `operations to find it, seeds ${seeds[0] ?? 1} to ${seeds.at(-1) ?? 1}`,
    ],
    ...rows.map(({ cells }) => cells),
  ]);
  voice.say(head, rule, ...lines.map((line, i) => (rows[i]?.isSolved === true ? line : pc.red(line))));
}

/** One hunt to its end, or undefined if Ctrl-C came. */
async function huntOne(
  of: { exhibit: Exhibit; subject: Subject; seed: number; steps: number },
  scene: Scene,
): Promise<Caught | HuntProgress | undefined> {
  const work = hunt(of);
  for (;;) {
    const { done, value } = work.next();
    if (done === true) return value;
    scene.voice.progress(`  ${of.exhibit.id} seed ${of.seed}: ${counted(value.steps, 'operation')}`, {
      id: of.exhibit.id,
      seed: of.seed,
      steps: value.steps,
    });
    if (await scene.interrupt.breath()) return undefined;
  }
}

/** Whether no trace of fewer steps fails alike; a shorter one that the search finds takes the trace's place. */
function certified(subject: Subject, short: Short): { readonly short: Short; readonly words: string } {
  const found = certify(subject, short.trace, { failure: short.failure });
  if (found.certified) {
    const words = `minimal in its own vocabulary (${counted(found.letters, 'letter')}, ${counted(found.states, 'state')})`;
    return { short, words };
  }
  const failure = found.shorter && failsOn(subject)(found.shorter);
  if (found.shorter === undefined || failure === undefined) return { short, words: `not certified: ${found.bound}` };
  return certified(subject, { ...short, trace: found.shorter, failure });
}

/** Shortens, certifies and keeps what was caught. */
async function mount(
  exhibit: Exhibit,
  caught: Caught,
  of: { subject: Subject; scene: Scene },
): Promise<Pick<Result, 'law' | 'found' | 'length' | 'certified'>> {
  const { subject, scene } = of;
  const { trace, failure } = { trace: caught.attempt.trace, failure: caught.failure };
  const raw = await shortened({ trace, failure, fails: failsOn(subject), ...SHORTEN }, scene);
  scene.voice.progress(`  ${exhibit.id}: certifying ${counted(raw.trace.steps.length, 'step')}`, {
    id: exhibit.id,
    phase: 'certifying',
  });
  await scene.interrupt.breath();
  const { short, words } = scene.interrupt.requested
    ? { short: raw, words: 'not certified: interrupted' }
    : certified(subject, raw);
  const law = failsOn(clean)(short.trace)?.law;
  const isStale = (stored: Trace): boolean => !exhibit.killedBy.includes(failsOn(subject)(stored)?.law ?? '');
  if (law !== undefined)
    scene.voice.say(`${exhibit.id}: the clean implementation breaks ${law} on the same trace; it is not kept.`);
  else if (keepIfShorter(exhibit, short.trace, isStale)) {
    scene.voice.say(
      `${traceFile(exhibit)} is new (${counted(short.trace.steps.length, 'step')}):`,
      ...traceInWords(short.trace),
    );
    scene.voice.say(`  ${replayCommand(traceFile(exhibit), exhibit.id)}`);
  }
  return { law: failure.law, found: trace.steps.length, length: short.trace.steps.length, certified: words };
}

async function huntExhibit(exhibit: Exhibit, options: MuseumOptions, scene: Scene): Promise<void> {
  const subject = await loadSubject(exhibit);
  storedTrace(exhibit); // A damaged one is found out before the work is done.
  const code = codeDigest(exhibit);
  const { steps: budget } = options;
  const isDone = (seed: number): boolean =>
    readResults().some(
      (one) => one.id === exhibit.id && one.seed === seed && one.code === code && (one.solved || one.budget >= budget),
    );
  for (const seed of options.seeds.filter((one) => !isDone(one))) {
    if (scene.interrupt.requested) return;
    const end = await huntOne({ exhibit, subject, seed, steps: budget }, scene);
    if (end === undefined) return;
    const mounted = isCaught(end) ? await mount(exhibit, end, { subject, scene }) : {};
    const result: Result = {
      id: exhibit.id,
      seed,
      budget,
      code,
      solved: isCaught(end),
      steps: end.steps,
      runs: end.runs,
      ...mounted,
    };
    appendResult(result);
    scene.voice.record({ kind: 'result', ...result, strays: Object.fromEntries(end.strays) });
    const outcome = isCaught(end)
      ? `${end.failure.law} after ${counted(end.steps, 'operation')}, ${mounted.length ?? 0} steps, ${mounted.certified ?? ''}`
      : pc.red(`not found within ${counted(end.steps, 'operation')}`);
    scene.voice.say(
      `${exhibit.id} seed ${seed}: ${outcome}`,
      ...[...end.strays].map(([law, times]) => `  not counted: ${law} (${times})`),
    );
  }
}

/** Shows the museum, after hunting if asked to; answers the exit code. */
export async function museum(options: MuseumOptions): Promise<number> {
  const voice = voiceOf(options.json);
  if (options.hunt) {
    const scene: Scene = { voice, interrupt: new Interrupt() };
    for (const exhibit of options.exhibits) if (!scene.interrupt.requested) await huntExhibit(exhibit, options, scene);
    voice.done();
    voice.say('');
    if (scene.interrupt.requested)
      voice.say('Stopped; what was found so far is saved, and the same command goes on from here.', '');
  }
  showTable(options, voice);
  return EXIT.ok;
}
