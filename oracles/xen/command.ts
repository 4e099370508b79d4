// `npm run oracle -- xen`: random sequences on the real Xen, and what is told of them.
// A first reader may skip this file.

import { appendFileSync, existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { encodeTrace } from '#abi/decode.ts';
import { lineAfter, valuesIn } from '#lib/lines.ts';
import { Prng } from '#lib/prng.ts';
import { interrupt } from '../interrupt.ts';
import { type Voice, voiceOf } from '../voice.ts';
import { build } from './build.ts';
import {
  type Counts,
  describeDisagreement,
  type Disagreement,
  emptyTally,
  type Listener,
  run,
  type Tally,
} from './campaign.ts';
import { DIRECTED, packCorpus, type Recorded } from './corpus.ts';
import { playDirected, unneeded } from './directed.ts';
import { qemuVersion } from './machine.ts';
import { rules } from './rules.ts';
import { World } from './world.ts';

/** What the command line asks for. */
export interface AskedXen {
  readonly sequences: number;
  readonly seconds?: number;
  readonly seed: number;
  readonly xen?: string;
  readonly record?: string;
  readonly results?: string;
  readonly directed?: string;
  readonly json?: boolean;
}

const EXIT = { ok: 0, found: 1 } as const;

const sorted = (counts: Counts): readonly (readonly [string, number])[] =>
  Object.entries(counts).toSorted(([, a], [, b]) => b - a);

const rateOf = ({ operations, milliseconds }: Tally): number =>
  milliseconds === 0 ? 0 : Math.round((operations / milliseconds) * 1000);

function tellProgress(voice: Voice, tally: Tally, sequences: number): void {
  const { sequences: done, operations, different, milliseconds } = tally;
  const left = done === 0 ? 0 : Math.round((milliseconds / 1000 / done) * (sequences - done));
  const rate = rateOf(tally);
  voice.progress(
    `${done} of ${sequences} sequences; ${operations} operations, ${rate}/s; ${different} disagreements; ${left} s left`,
    { done, sequences, operations, rate, different, left },
  );
}

function tellDisagreement(voice: Voice, found: Disagreement): void {
  voice.say(...describeDisagreement(found));
  const { seed, isRepeatable, shown } = found;
  voice.record({ kind: 'disagreement', seed, isRepeatable, ...shown.difference, trace: encodeTrace(shown.trace) });
}

function tellEnd(voice: Voice, tally: Tally): void {
  voice.done();
  const { sequences, operations, different, skipped, outcomes } = tally;
  voice.say(
    `${sequences} sequences, ${operations} operations, ${rateOf(tally)}/s; ${different} disagreements`,
    ...sorted(outcomes).map(([outcome, n]) => `  ${n} ${outcome}`),
    ...sorted(skipped).map(([reason, n]) => `  ${n} not asked: ${reason}`),
  );
  voice.record({ kind: 'done', sequences, operations, different, rate: rateOf(tally), outcomes, skipped });
}

/** The file that was named for results holds something else. */
export class NotResults extends Error {}

/** What one command works with. */
interface Session {
  readonly asked: AskedXen;
  readonly voice: Voice;
  readonly world: World;
  readonly results: Pick<Listener, 'isKnown' | 'played'>;
  readonly stop: () => boolean;
}

function write(
  folder: string,
  name: string,
  of: { readonly world: World; readonly records: readonly Recorded[] },
): string {
  mkdirSync(folder, { recursive: true });
  const file = join(folder, name);
  writeFileSync(file, packCorpus({ xen: of.world.version, qemu: qemuVersion(), records: of.records }));
  return file;
}

/** Plays the sequence of each rule. */
async function directedPass({ voice, world }: Session, folder: string): Promise<number> {
  const records: Recorded[] = [];
  for (const { id } of rules) {
    const found = await playDirected(world, id);
    voice.say(`${id}: ${found === undefined ? 'is not needed' : `needed after ${found.observed.length} steps`}`);
    if (found !== undefined) records.push(found);
  }
  voice.say(`  ${records.length} recorded in ${write(folder, DIRECTED, { world, records })}`);
  return records.length === rules.length ? EXIT.ok : EXIT.found;
}

/** Rules that the hypervisor at hand needs no more. */
async function rulesPass({ voice, world }: Session): Promise<number> {
  const names = await unneeded(world);
  for (const rule of names) {
    voice.say(`${rule}: version ${world.version} does not need this rule`);
    voice.record({ kind: 'unneeded', rule, version: world.version });
  }
  return names.length;
}

const isResult = (value: unknown): value is { readonly seed: number } =>
  typeof value === 'object' && value !== null && 'seed' in value && typeof value.seed === 'number';

/**
 * A file with a line for each sequence that was played: those are not played again, and new ones are added. Throws `NotResults`
 * if it is another kind of file; lines that were cut off are passed over.
 */
function resultsIn(file: string | undefined): Pick<Listener, 'isKnown' | 'played'> {
  if (file === undefined) return { isKnown: () => false, played: () => undefined };
  const text = (): string => (existsSync(file) ? readFileSync(file, 'utf8') : '');
  const results = valuesIn(text()).filter(isResult);
  if (results.length === 0 && text() !== '')
    throw new NotResults(
      `${file} has no results of sequences in it; name a new file, or one that --results has written`,
    );
  const known = new Set(results.map(({ seed }) => seed));
  return {
    isKnown: (seed) => known.has(seed),
    played: (seed, operations, field) =>
      appendFileSync(file, lineAfter(text(), { seed, operations, ...(field === undefined ? {} : { field }) })),
  };
}

async function randomPass({ asked, voice, world, results, stop }: Session): Promise<number> {
  const records: Recorded[] = [];
  const tally = await run(world, {
    sequences: asked.sequences,
    prng: new Prng(asked.seed),
    tally: emptyTally(),
    listener: {
      progress: (now) => tellProgress(voice, now, asked.sequences),
      disagreement: (found) => tellDisagreement(voice, found),
      agreed: asked.record === undefined ? undefined : (record) => void records.push(record),
      stop,
      ...results,
    },
  });
  tellEnd(voice, tally);
  if (asked.record !== undefined)
    voice.say(
      `  ${records.length} recorded in ${write(asked.record, `sequences-${asked.seed}.gz`, { world, records })}`,
    );
  return tally.different;
}

/** Carries out the command; answers the exit code. Throws `Missing` if something has to be installed first. */
export async function askXen(asked: AskedXen): Promise<number> {
  const results = resultsIn(asked.results);
  const built = build(asked.xen);
  const voice = voiceOf(asked.json === true);
  const isInterrupted = interrupt();
  const until = performance.now() + 1000 * (asked.seconds ?? Infinity);
  const stop = (): boolean => isInterrupted() || performance.now() > until;
  const world = await World.start(built);
  try {
    const session: Session = { asked, voice, world, results, stop };
    if (asked.directed !== undefined) return await directedPass(session, asked.directed);
    const found = (await rulesPass(session)) + (await randomPass(session));
    return found === 0 ? EXIT.ok : EXIT.found;
  } finally {
    world.close();
  }
}
