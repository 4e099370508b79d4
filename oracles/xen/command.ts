// `npm run oracle -- xen`: random sequences on the real Xen, and what is told of them.
// A first reader may skip this file.

import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { encodeTrace } from '#abi/decode.ts';
import { Prng } from '#lib/prng.ts';
import { interrupt } from '../interrupt.ts';
import { type Voice, voiceOf } from '../voice.ts';
import { build } from './build.ts';
import { type Counts, describeDisagreement, type Disagreement, emptyTally, run, type Tally } from './campaign.ts';
import { packCorpus, type Recorded } from './corpus.ts';
import { qemuVersion } from './machine.ts';
import { World } from './world.ts';

/** What the command line asks for. */
export interface AskedXen {
  readonly sequences: number;
  readonly seed: number;
  readonly xen?: string;
  readonly record?: string;
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

/** Carries out the command; answers the exit code. Throws `Missing` if something has to be installed first. */
export async function askXen(asked: AskedXen): Promise<number> {
  const built = build(asked.xen);
  const voice = voiceOf(asked.json === true);
  const stop = interrupt();
  const records: Recorded[] = [];
  const world = await World.start(built);
  try {
    const tally = emptyTally();
    await run(world, {
      sequences: asked.sequences,
      prng: new Prng(asked.seed),
      tally,
      listener: {
        progress: (now) => tellProgress(voice, now, asked.sequences),
        disagreement: (found) => tellDisagreement(voice, found),
        agreed: asked.record === undefined ? undefined : (record) => void records.push(record),
        stop,
      },
    });
    tellEnd(voice, tally);
    if (asked.record !== undefined) {
      mkdirSync(asked.record, { recursive: true });
      const file = join(asked.record, 'sequences.gz');
      writeFileSync(file, packCorpus({ xen: world.version, qemu: qemuVersion(), records }));
      voice.say(`  ${records.length} recorded in ${file}`);
    }
    return tally.different === 0 ? EXIT.ok : EXIT.found;
  } finally {
    world.close();
  }
}
