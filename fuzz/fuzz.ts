// `npm run fuzz`: a campaign on the implementation as it stands. Stored failures are replayed first, with at most a tenth
// of the budget; then runs are generated until time or operations are used up, a law breaks, or Ctrl-C.
// Exit code: 0 nothing broke, 1 a law broke, 3 the harness itself broke.

import type { Mechanism } from '#abi/operation.ts';
import type { Law } from '#properties/harness/law.ts';
import { CampaignRun, type Finding } from './campaign.ts';
import { shortened, tellError, tellFailure } from './finding.ts';
import { Deadline, Interrupt } from './interrupt.ts';
import { voiceOf, type Voice } from './live.ts';
import { counted, grouped, percent, seconds } from './report.ts';
import { Store } from './store.ts';

/** Exit codes of all commands. */
export const EXIT = { ok: 0, failure: 1, usage: 2, broken: 3 } as const;

export interface FuzzOptions {
  readonly seconds: number;
  readonly operations: number;
  readonly seed: number;
  readonly laws: readonly Law[];
  readonly mechanism?: Mechanism;
  readonly json: boolean;
}

/** Traces executed, and seconds, at most while a failure is made short. */
const SHORTEN = { executions: 6000, seconds: 60 } as const;

/** What everything in a campaign works with. */
export interface Scene {
  readonly campaign: CampaignRun;
  readonly deadline: Deadline;
  readonly interrupt: Interrupt;
  readonly voice: Voice;
  readonly store: Store;
}

const ratePerSecond = ({ campaign, deadline }: Scene): number =>
  campaign.tally.operations / Math.max(deadline.elapsed, 0.001);

/** The live line. */
function showProgress(scene: Scene): void {
  const { campaign, deadline, voice } = scene;
  const { operations, refused } = campaign.tally;
  const states = campaign.corpus.semantic.size;
  const rate = ratePerSecond(scene);
  voice.progress(
    `  ${grouped(operations)} operations, ${grouped(rate)}/s, ${percent(refused, operations)} refused, ` +
      `${grouped(states)} semantic states${Number.isFinite(deadline.remaining) ? `, ${seconds(deadline.remaining)} left` : ''}`,
    { ...figuresOf(scene), remaining: Number.isFinite(deadline.remaining) ? deadline.remaining : null },
  );
}

/** What has been done, as data. */
export function figuresOf(scene: Scene): object {
  const { campaign, deadline } = scene;
  const { runs, operations, refused, abandoned, extensions, elsewhere } = campaign.tally;
  return {
    runs,
    operations,
    operationsPerSecond: Math.round(ratePerSecond(scene)),
    errnoShare: operations === 0 ? 0 : refused / operations,
    semanticStates: campaign.corpus.semantic.size,
    abandoned,
    extensions,
    elsewhere: Object.fromEntries(elsewhere),
    seconds: deadline.elapsed,
  };
}

/** Replays what failed before; the finding if something still does. */
async function replayStored(scene: Scene, isOver: () => boolean): Promise<(Finding & { file: string }) | undefined> {
  const { campaign, interrupt, store, voice } = scene;
  let held = 0;
  for (const stored of store.failures()) {
    if (isOver() || interrupt.requested) break;
    if (!stored.ok) {
      voice.say(`Passed over ${stored.file}: ${stored.error}.`);
      continue;
    }
    const finding = campaign.again(stored.trace);
    if (finding !== undefined) return { ...finding, file: stored.file };
    held += 1;
    await interrupt.breath();
  }
  if (held > 0)
    voice.say(`${counted(held, 'failure')} stored earlier: every law holds on ${held === 1 ? 'it' : 'them'} now.`);
  return undefined;
}

/** Generates until something is found or `isOver`. */
export async function generate(scene: Scene, isOver: () => boolean): Promise<Finding | undefined> {
  while (!isOver()) {
    const finding = scene.campaign.next();
    if (finding !== undefined) return finding;
    showProgress(scene);
    if (await scene.interrupt.breath()) return undefined;
  }
  return undefined;
}

/** Shortens, stores and tells what was found; answers the exit code. */
export async function settle(scene: Scene, finding: Finding & { readonly file?: string }): Promise<number> {
  const { campaign, store, voice } = scene;
  if (finding.kind === 'error') {
    tellError(voice, finding.error, finding.file ?? store.keepBroken(finding.trace));
    return EXIT.broken;
  }
  if (finding.file !== undefined) {
    tellFailure(voice, { ...finding, file: finding.file });
    return EXIT.failure;
  }
  const fails = campaign.failsLike(finding.failure);
  const { trace, failure } = await shortened({ ...finding, fails, ...SHORTEN }, scene);
  tellFailure(voice, { trace, failure, file: store.keep(trace, failure) });
  return EXIT.failure;
}

/** The closing lines. */
export function tellSummary(scene: Scene, seed: number, code: number): void {
  const { campaign, deadline, interrupt, voice } = scene;
  const { runs, operations, refused, abandoned, elsewhere } = campaign.tally;
  voice.done();
  const verdict = code === EXIT.ok ? 'every law held' : code === EXIT.failure ? 'a law broke' : 'the harness broke';
  voice.say(
    '',
    `${interrupt.requested ? 'Stopped' : 'Done'} after ${seconds(deadline.elapsed)}: ${counted(operations, 'operation')} in ` +
      `${counted(runs, 'run')} (${grouped(ratePerSecond(scene))}/s), ${percent(refused, operations)} refused with an errno, ` +
      `${grouped(campaign.corpus.semantic.size)} semantic states, seed ${seed}: ${verdict}.`,
    ...(abandoned === 0 ? [] : [`${counted(abandoned, 'run')} ended early: too many orders of operations in flight.`]),
    ...[...elsewhere].map(([law, times]) => `Outside what was asked for, ${law} broke ${counted(times, 'time')}.`),
  );
  voice.record({ kind: 'summary', seed, interrupted: interrupt.requested, code, ...figuresOf(scene) });
}

/** Runs the campaign; answers the exit code. */
export async function fuzz(options: FuzzOptions): Promise<number> {
  const { seed, laws, mechanism } = options;
  const scene: Scene = {
    campaign: new CampaignRun(mechanism === undefined ? { seed, laws } : { seed, laws, mechanism }),
    deadline: new Deadline(options.seconds),
    interrupt: new Interrupt(),
    voice: voiceOf(options.json),
    store: new Store(process.cwd()),
  };
  const { campaign, deadline } = scene;
  const isOver = (share: number): boolean =>
    deadline.elapsed >= share * options.seconds || campaign.tally.operations >= share * options.operations;
  const finding = (await replayStored(scene, () => isOver(0.1))) ?? (await generate(scene, () => isOver(1)));
  const code = finding === undefined ? EXIT.ok : await settle(scene, finding);
  tellSummary(scene, seed, code);
  return code;
}
