// One generated run on one implementation: what hunting, campaigns and benches are made of. The harness itself can break
// too (a bug of ours, not of the implementation): that is an error, never a failure, and keeps the trace that led to it.
// A first reader may skip `Tally`.

import { errnos, type Reply } from '#abi/reply.ts';
import type { Step, Trace } from '#abi/trace.ts';
import { fold } from '#lib/hash.ts';
import { drive, headerFor, type Driven, type Seeded, type Source } from '#properties/harness/generate.ts';
import type { Failure } from '#properties/harness/law.ts';
import { Lockstep } from '#properties/harness/lockstep.ts';
import type { Settings } from '#properties/harness/settings.ts';
import type { Subject } from '#properties/harness/subject.ts';
import { Through } from './through.ts';

/** What a run came to. */
export interface Attempt {
  readonly trace: Trace;
  readonly failure: Failure | undefined;
  /** What broke in the harness itself. */
  readonly error: Error | undefined;
  /** Completed operations, and how many of them answered with an errno or had an element refused. */
  readonly operations: number;
  readonly refused: number;
  /** Whether the run was given up: too many orders of its operations in flight to follow. Nothing is said of what came after. */
  readonly abandoned: boolean;
  readonly semantic: ReadonlySet<number>;
  readonly marks: ReadonlySet<string>;
}

const errnoSet: ReadonlySet<string> = new Set(errnos);

const isRefused = (reply: Reply): boolean =>
  errnoSet.has(reply.status) || reply.elements.some(({ status }) => status !== 'okay');

/** Remembers the steps: if the harness breaks, nobody else has them. */
class Tally extends Through {
  readonly steps: Step[] = [];

  override apply(step: Step) {
    this.steps.push(step);
    return super.apply(step);
  }
}

/** How a run is fed: by a source, or by somebody who drives it himself. */
export type Feed = Source | { readonly header: Trace['header']; readonly drive: (run: Driven) => unknown };

/** Runs `feed` on `subject`. Never throws for what happens in the run. */
export function attempt(subject: Subject, feed: Feed, settings: Partial<Settings> = {}): Attempt {
  const header = 'drive' in feed ? feed.header : headerFor(feed);
  let run: Lockstep | undefined;
  let tally: Tally | undefined;
  let error: Error | undefined;
  let refused = 0;
  const onReturn: Settings['onReturn'] = (returned, after) => {
    if (tally === undefined) return;
    if (isRefused(returned.reply)) refused += 1;
    settings.onReturn?.(returned, after);
  };
  try {
    run = new Lockstep({ subject, header, settings: { ...settings, onReturn } });
    tally = new Tally(run);
    if ('drive' in feed) feed.drive(tally);
    else drive(tally, feed);
    run.close();
  } catch (thrown) {
    error = thrown instanceof Error ? thrown : new Error(String(thrown));
  }
  return {
    trace: { header, steps: tally?.steps ?? [] },
    failure: run?.failure,
    error,
    operations: run?.operations ?? 0,
    refused,
    abandoned: run?.abandoned ?? false,
    semantic: run?.semantic ?? new Set(),
    marks: run?.marks ?? new Set(),
  };
}

/** Completed operations of a generated run. */
const LENGTH = { min: 50, max: 100 } as const;

/** So many runs in a row are on the same machine, which boots once for all of them. */
const RUNS_PER_HEADER = 8;

/** The source of the n-th run of a campaign. */
export const sourceOf = (seed: number, run: number): Seeded => {
  const root = fold(0x7261_6365, seed);
  const at = fold(root, run);
  return {
    kind: 'seeds',
    header: fold(fold(root, Math.floor(run / RUNS_PER_HEADER)), 1),
    steps: fold(at, 2),
    length: LENGTH.min + (fold(at, 3) % (LENGTH.max - LENGTH.min + 1)),
  };
};

/** Replays a trace. */
export const replay = (subject: Subject, trace: Trace, settings: Partial<Settings> = {}): Attempt =>
  attempt(subject, { kind: 'trace', trace }, settings);
