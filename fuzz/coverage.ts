// `npm run coverage`: a campaign that counts what it reaches: each reply of each operation, and how often each invariant was
// checked in each mechanism with something there to object to. Replies and cells that are empty stand in red: there the
// generators, or the laws, are blind. Exit code: 0 nothing broke, 1 a law broke, 3 the harness itself broke.

import pc from 'picocolors';
import { mechanisms } from '#abi/operation.ts';
import { laws } from '#properties/index.ts';
import { Coverage, type ReplyCount } from '#properties/harness/coverage.ts';
import { CampaignRun } from './campaign.ts';
import { EXIT, generate, settle, tellSummary, type Scene } from './fuzz.ts';
import { Deadline, Interrupt } from './interrupt.ts';
import { voiceOf, type Voice } from './live.ts';
import { counted, grouped, table } from './report.ts';
import { Store } from './store.ts';

/** How far a coverage campaign goes. */
export interface CoverageOptions {
  readonly seconds: number;
  readonly operations: number;
  readonly seed: number;
  readonly json: boolean;
}

const inWords = ({ status, isElement, isDeclared, count }: ReplyCount): string => {
  const said = `${isElement ? 'element ' : ''}${status} ${grouped(count)}`;
  return isDeclared && count > 0 ? said : pc.red(isDeclared ? said : `${said} (undeclared)`);
};

/** The replies of each operation, in a line each. */
function tellReplies(replies: readonly ReplyCount[], voice: Voice): void {
  const kinds = [...new Set(replies.map(({ kind }) => kind))];
  const lines = kinds.map((kind) => {
    const all = replies.filter((row) => row.kind === kind);
    return `  ${pc.bold(kind)}: ${all.map(inWords).join(', ')}`;
  });
  const empty = replies.filter(({ count, isDeclared }) => count === 0 || !isDeclared).length;
  voice.say('', `Replies: ${replies.length - empty} of ${replies.length} reached.`, ...lines);
  for (const row of replies) voice.record({ row: 'reply', ...row });
}

/** Checks that were not vacuous, an invariant a row. Cells are coloured once columns are as wide as they must be. */
function tellChecks(coverage: Coverage, voice: Voice): void {
  const rows = coverage.table();
  const cells = rows.map(({ invariant, counts }) => [invariant, ...mechanisms.map((one) => grouped(counts[one]))]);
  const [head = '', rule = '', ...lines] = table([['checks', ...mechanisms], ...cells]);
  const coloured = lines.map((line) => line.replaceAll(/(?<= )0(?= |$)/g, pc.red('0')));
  voice.say('', head, rule, ...coloured);
  for (const { invariant, counts } of rows) voice.record({ row: 'checks', invariant, ...counts });
}

/** Runs the campaign and tells what it reached; answers the exit code. */
export async function coverage(options: CoverageOptions): Promise<number> {
  const { seed } = options;
  const counts = new Coverage();
  const scene: Scene = {
    campaign: new CampaignRun({ seed, laws, settings: counts.settings }),
    deadline: new Deadline(options.seconds),
    interrupt: new Interrupt(),
    voice: voiceOf(options.json),
    store: new Store(process.cwd()),
  };
  const { campaign, deadline, voice } = scene;
  voice.say(`Coverage of ${counted(laws.length, 'law')} and all operations, seed ${seed}.`);
  const finding = await generate(scene, () => deadline.isPast || campaign.tally.operations >= options.operations);
  const code = finding === undefined ? EXIT.ok : await settle(scene, finding);
  voice.done();
  tellReplies(counts.replies(), voice);
  tellChecks(counts, voice);
  tellSummary(scene, seed, code);
  return code;
}
