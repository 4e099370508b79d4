// `npm run oracle -- cpu`: which emulators are asked what, and what is told of it.
// A first reader may skip this file.

import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { encodeCase } from '#abi/decode.ts';
import { Prng } from '#lib/prng.ts';
import { interrupt } from '../interrupt.ts';
import { type Voice, voiceOf } from '../voice.ts';
import { Bochs } from './bochs.ts';
import { need } from './build.ts';
import { type Counts, describeDisagreement, type Disagreement, type Listener, run, type Tally } from './campaign.ts';
import { packCorpus, type Recorded } from './corpus.ts';
import { type Course, courses, describeCourse } from './courses.ts';
import { type Directed, findDirected, printDirected, unneeded } from './directed.ts';
import type { Emulator } from './emulator.ts';
import { interpret } from './interpret.ts';
import { Qemu } from './qemu.ts';
import { type OracleName, rules } from './rules.ts';
import type { Judged } from './shrink.ts';

export const engineNames = ['native', 'svm', 'vmx'] as const;

/** What the command line asks for. */
export interface Asked {
  readonly engine?: (typeof engineNames)[number];
  readonly oracle?: OracleName;
  readonly cases: number;
  readonly seed: number;
  readonly record?: string;
  readonly directed?: string;
  readonly json?: boolean;
}

const EXIT = { ok: 0, found: 1 } as const;

/** Emulators, started when first asked. Both are looked for at once, so that what is missing is known before anything runs. */
class Emulators {
  readonly #running = new Map<OracleName, Emulator>();

  constructor(names: ReadonlySet<OracleName>) {
    need(
      ...(['gcc', 'ld', 'objcopy'] as const),
      ...(names.has('qemu') ? (['qemu-system-x86_64'] as const) : []),
      ...(names.has('bochs') ? (['bochs-bin', 'script'] as const) : []),
    );
  }

  get(name: OracleName): Emulator {
    const known = this.#running.get(name);
    if (known !== undefined) return known;
    const made = name === 'qemu' ? new Qemu() : new Bochs();
    this.#running.set(name, made);
    return made;
  }

  close(): void {
    for (const emulator of this.#running.values()) emulator.close();
  }
}

const total = (counts: Counts): number => Object.values(counts).reduce((sum, n) => sum + n, 0);

const rateOf = ({ asked, milliseconds }: Tally): number => (milliseconds === 0 ? 0 : (asked / milliseconds) * 1000);

const sorted = (counts: Counts): readonly (readonly [string, number])[] =>
  Object.entries(counts).toSorted(([, a], [, b]) => b - a);

function summary(tally: Tally, version: string): string[] {
  const { course, asked, equal, different, rules: used, skipped } = tally;
  return [
    `${describeCourse(course)} (${version}): ${asked} cases, ${Math.round(rateOf(tally))} cases/s; ${equal} equal, ${different} different`,
    ...sorted(used).map(([id, n]) => `  ${n} by rule ${id}`),
    ...sorted(skipped).map(([reason, n]) => `  ${n} not asked: ${reason}`),
  ];
}

/** How far the whole campaign is. */
class Progress {
  readonly #start = performance.now();
  readonly #cases: number;
  #before = 0;
  #different = 0;

  constructor(cases: number) {
    this.#cases = cases;
  }

  tell(voice: Voice, tally: Tally): void {
    const done = this.#before + tally.asked;
    const seconds = (performance.now() - this.#start) / 1000;
    const left = done === 0 ? 0 : Math.round((seconds / done) * (this.#cases - done));
    const different = this.#different + tally.different;
    const rate = Math.round(rateOf(tally));
    voice.progress(
      `${done} of ${this.#cases} cases; ${describeCourse(tally.course)}: ${rate} cases/s; ${different} disagreements; ${left} s left`,
      { done, cases: this.#cases, oracle: tally.course.oracle, vehicle: tally.course.vehicle, rate, different, left },
    );
  }

  add(tally: Tally): void {
    this.#before += tally.asked;
    this.#different += tally.different;
  }
}

/** Keeps what was asked and answered. Cases whose access was not tried, or whose machine died, tell nothing. */
class Recorder {
  readonly #records: Recorded[] = [];

  add(judged: readonly Judged[]): void {
    for (const { planned, raw } of judged) {
      if (raw === undefined || interpret(planned.case, raw).kind === 'unreached') continue;
      this.#records.push({ case: planned.case, direct: planned.manner.direct, raw });
    }
  }

  write(folder: string, course: Course, version: string): string {
    const { oracle, vehicle } = course;
    mkdirSync(folder, { recursive: true });
    const path = join(folder, `${oracle}-${vehicle}.gz`);
    writeFileSync(path, packCorpus({ oracle, version, vehicle, records: this.#records }));
    return path;
  }
}

/** Everything that one command works with. */
interface Session {
  readonly asked: Asked;
  readonly voice: Voice;
  readonly emulators: Emulators;
  readonly chosen: readonly Course[];
  readonly stop: () => boolean;
}

function tellDisagreement(voice: Voice, found: Disagreement): void {
  voice.say(...describeDisagreement(found));
  const { course, judged, isRepeatable } = found;
  const why = judged.verdict.kind === 'different' ? judged.verdict.why : judged.verdict.kind;
  const { oracle, vehicle } = course;
  voice.record({ kind: 'disagreement', oracle, vehicle, why, isRepeatable, case: encodeCase(judged.planned.case) });
}

async function runCourse(session: Session, course: Course, of: { cases: number; progress: Progress }): Promise<Tally> {
  const { asked, voice, emulators, stop } = session;
  const emulator = emulators.get(course.oracle);
  const recorder = asked.record === undefined ? undefined : new Recorder();
  const listener: Listener = {
    progress: (tally) => of.progress.tell(voice, tally),
    disagreement: (found) => tellDisagreement(voice, found),
    answered: (judged) => recorder?.add(judged),
    stop,
  };
  // Each course has numbers of its own, so that leaving one out does not change the others.
  const prng = new Prng(asked.seed * courses.length + courses.indexOf(course));
  const tally = await run(emulator, course, { cases: of.cases, prng, listener });
  of.progress.add(tally);
  voice.say(...summary(tally, emulator.version));
  voice.record({ kind: 'course', ...tally, version: emulator.version, rate: Math.round(rateOf(tally)) });
  if (asked.record !== undefined && recorder !== undefined)
    voice.say(`  recorded in ${recorder.write(asked.record, course, emulator.version)}`);
  return tally;
}

/** Rules that the emulators at hand need no more. */
async function directedPass({ chosen, emulators, voice }: Session): Promise<number> {
  let count = 0;
  for (const oracle of new Set(chosen.map((course) => course.oracle))) {
    const emulator = emulators.get(oracle);
    for (const { rule } of await unneeded(emulator, oracle)) {
      count += 1;
      voice.say(`${rule}: version ${emulator.version} does not need this rule, or not in the recorded way`);
      voice.record({ kind: 'unneeded', rule, version: emulator.version });
    }
  }
  return count;
}

async function randomPass(session: Session): Promise<number> {
  const { asked, chosen, voice, stop } = session;
  const shares = chosen.reduce((sum, { share }) => sum + share, 0);
  const progress = new Progress(asked.cases);
  const tallies: Tally[] = [];
  for (const course of chosen) {
    if (stop()) break;
    const cases = Math.round((asked.cases * course.share) / shares);
    tallies.push(await runCourse(session, course, { cases, progress }));
  }
  voice.done();
  const cases = tallies.reduce((sum, tally) => sum + tally.asked, 0);
  const different = tallies.reduce((sum, tally) => sum + tally.different, 0);
  const byRule = tallies.reduce((sum, tally) => sum + total(tally.rules), 0);
  voice.say(
    `${cases} cases, ${different} disagreements; rules were used ${byRule} times${stop() ? '; interrupted' : ''}`,
  );
  voice.record({ kind: 'done', cases, different, byRule, interrupted: stop() });
  return different;
}

async function recordDirected({ asked, chosen, emulators, voice, stop }: Session, file: string): Promise<number> {
  const found: Directed[] = [];
  let missing = 0;
  for (const rule of rules) {
    if (stop() || !chosen.some(({ oracle }) => oracle === rule.oracle)) continue;
    const directed = await findDirected(emulators.get(rule.oracle), rule, { prng: new Prng(asked.seed), stop });
    if (directed === undefined) missing += 1;
    else found.push(directed);
    voice.say(`${rule.id}: ${directed === undefined ? 'no case found' : `${directed.case.image.length} words`}`);
  }
  writeFileSync(file, printDirected(found));
  return missing === 0 ? EXIT.ok : EXIT.found;
}

/** Carries out the command; answers the exit code. Throws `Missing` if something has to be installed first. */
export async function askCpu(asked: Asked): Promise<number> {
  const chosen = courses.filter(
    ({ engine, oracle }) => engine === (asked.engine ?? engine) && oracle === (asked.oracle ?? oracle),
  );
  const voice = voiceOf(asked.json === true);
  if (chosen.length === 0) {
    voice.say('That emulator has no such engine.');
    return EXIT.found;
  }
  const emulators = new Emulators(new Set(chosen.map(({ oracle }) => oracle)));
  const session: Session = { asked, voice, emulators, chosen, stop: interrupt() };
  try {
    if (asked.directed !== undefined) return await recordDirected(session, asked.directed);
    const unneededRules = await directedPass(session);
    const different = await randomPass(session);
    return unneededRules + different === 0 ? EXIT.ok : EXIT.found;
  } finally {
    emulators.close();
  }
}
