// `npm start`: what this project does, in about a minute. First bugs that real hypervisors had are brought back, one after
// another, and hunted from scratch by the general suite; then the implementation as it stands is fuzzed. Every start
// begins with another exhibit and other seeds. Exit code 0 unless the implementation as it stands breaks a law.
// A first reader may skip the wording.

import pc from 'picocolors';
import { catalogue } from '#museum/catalogue.ts';
import type { Exhibit } from '#museum/exhibit.ts';
import { hunt, isCaught, type Caught } from '#museum/hunt.ts';
import { loadSubject } from '#museum/loader.ts';
import { failsOn } from '#museum/shorten.ts';
import type { Subject } from '#properties/harness/subject.ts';
import { laws } from '#properties/index.ts';
import { CampaignRun } from './campaign.ts';
import { shortened } from './finding.ts';
import { EXIT, generate, settle, tellSummary, type Scene } from './fuzz.ts';
import { Deadline, Interrupt } from './interrupt.ts';
import { voiceOf, type Voice } from './live.ts';
import { counted, failureInWords, seconds, traceInWords } from './report.ts';
import { Store } from './store.ts';

export interface StartOptions {
  readonly seconds: number;
  /** Undefined: another one each time. */
  readonly seed?: number;
  readonly json: boolean;
}

/** Share of the time for the museum. */
const MUSEUM_SHARE = 2 / 3;

/** Seconds at most for one exhibit: its hunt, and its shortening (and traces executed). */
const HUNT_SECONDS = 18;
const SHORTEN = { executions: 3000, seconds: 8 } as const;

interface Tour {
  readonly voice: Voice;
  readonly interrupt: Interrupt;
  /** Of the museum part. */
  readonly deadline: Deadline;
  readonly seed: number;
}

/** What a visit to one exhibit came to. */
interface Visit {
  readonly id: string;
  readonly law?: string;
  readonly steps: number;
  readonly length?: number;
  readonly seconds: number;
}

async function huntFor(exhibit: Exhibit, subject: Subject, tour: Tour): Promise<{ caught?: Caught; steps: number }> {
  const limit = new Deadline(Math.min(HUNT_SECONDS, tour.deadline.remaining));
  const work = hunt({ exhibit, subject, seed: tour.seed, steps: Infinity });
  for (;;) {
    const { done, value } = work.next();
    if (done === true) return isCaught(value) ? { caught: value, steps: value.steps } : { steps: value.steps };
    tour.voice.progress(`  ${counted(value.steps, 'operation')}, ${seconds(limit.elapsed)}`, {
      id: exhibit.id,
      steps: value.steps,
    });
    if ((await tour.interrupt.breath()) || limit.isPast) return { steps: value.steps };
  }
}

async function visit(exhibit: Exhibit, tour: Tour): Promise<Visit> {
  const { voice, interrupt, seed } = tour;
  const clock = new Deadline(Infinity);
  voice.say('', `${pc.bold(exhibit.id.toUpperCase())} (${exhibit.year}, ${exhibit.class}): ${exhibit.title}`);
  const subject = await loadSubject(exhibit);
  const { caught, steps } = await huntFor(exhibit, subject, tour);
  const { id } = exhibit;
  if (caught === undefined) {
    voice.say(
      `  Not found within ${counted(steps, 'operation')} (seed ${seed}). npm run museum -- --hunt --id ${id} looks longer.`,
    );
    return { id, steps, seconds: clock.elapsed };
  }
  const found = `  Found after ${counted(steps, 'operation')} in ${seconds(clock.elapsed)} (seed ${seed}), in a trace of ${counted(caught.attempt.trace.steps.length, 'step')}`;
  const shortening = new Deadline(Infinity);
  const raw = {
    trace: caught.attempt.trace,
    failure: caught.failure,
    fails: failsOn(subject),
    ...SHORTEN,
  };
  const { trace, failure } = await shortened(raw, { voice, interrupt });
  voice.say(`${found}; shortened to ${trace.steps.length} in ${seconds(shortening.elapsed)}.`);
  voice.say(...failureInWords(failure).map((line) => `  ${line}`), ...traceInWords(trace));
  const visited: Visit = { id, law: failure.law, steps, length: trace.steps.length, seconds: clock.elapsed };
  voice.record({ kind: 'exhibit', seed, ...visited, trace });
  return visited;
}

/** Visits exhibits in turn, beginning with the `turn`-th, while time is left. */
async function tourMuseum(tour: Tour, turn: number): Promise<readonly Visit[]> {
  const exhibits = await catalogue();
  const visits: Visit[] = [];
  for (let i = 0; i < exhibits.length && !tour.deadline.isPast && !tour.interrupt.requested; i += 1) {
    const exhibit = exhibits[(turn + i) % exhibits.length];
    if (exhibit !== undefined) visits.push(await visit(exhibit, tour));
  }
  return visits;
}

function tellVisits(voice: Voice, visits: readonly Visit[]): void {
  const solved = visits.filter(({ law }) => law !== undefined);
  const list = solved
    .map(({ id, length, steps }) => `${id} (${length ?? 0} steps, after ${counted(steps, 'operation')})`)
    .join(', ');
  voice.say('', `Bugs brought back: ${visits.length}, found: ${solved.length}${list === '' ? '' : `: ${list}`}.`);
}

/** The whole tour; answers the exit code. */
export async function start(options: StartOptions): Promise<number> {
  const whole = new Deadline(options.seconds);
  const store = new Store(process.cwd());
  const turn = store.nextTurn();
  const seed = options.seed ?? turn + 1;
  const voice = voiceOf(options.json);
  const interrupt = new Interrupt();
  voice.say(
    pc.bold('Ringfence'),
    'Bugs that real hypervisors had are put back into copies of the implementation and hunted from scratch by the general suite.',
  );
  const deadline = new Deadline(MUSEUM_SHARE * options.seconds);
  const visits = await tourMuseum({ voice, interrupt, deadline, seed }, turn);
  tellVisits(voice, visits);
  if (interrupt.requested) return EXIT.ok;
  voice.say('', 'Now the implementation as it stands, in lockstep with its model, all laws judging:');
  const campaign = new CampaignRun({ seed, laws });
  const scene: Scene = { campaign, deadline: new Deadline(whole.remaining), interrupt, voice, store };
  const finding = await generate(scene, () => scene.deadline.isPast);
  const code = finding === undefined ? EXIT.ok : await settle(scene, finding);
  tellSummary(scene, seed, code);
  return code;
}
