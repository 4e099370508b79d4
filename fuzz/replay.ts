// `npm run replay -- FILE`: one stored trace, step by step in words with every reply, on the implementation as it stands or
// on an exhibit's copy, and what the laws say of it. Exit code: 0 every law holds, 1 a law broke, 2 the file is of no use,
// 3 the harness itself broke.

import pc from 'picocolors';
import { describeHeader, describeReply, describeStep } from '#abi/describe.ts';
import type { Trace } from '#abi/trace.ts';
import { attempt, type Attempt } from '#museum/attempt.ts';
import { exhibitOf } from '#museum/catalogue.ts';
import { loadSubject } from '#museum/loader.ts';
import { laws } from '#properties/index.ts';
import type { Failure } from '#properties/harness/law.ts';
import type { StepResult } from '#properties/harness/lockstep.ts';
import { clean, type Subject } from '#properties/harness/subject.ts';
import { EXIT } from './fuzz.ts';
import { voiceOf, type Voice } from './live.ts';
import { failureInWords } from './report.ts';
import { readTrace } from './store.ts';

export interface ReplayOptions {
  readonly file: string;
  readonly exhibit?: string;
  readonly json: boolean;
}

const outcomeInWords = (result: Partial<StepResult>): string => {
  if (result.kind === 'paused') return 'paused';
  if (result.kind === 'skipped') return 'skipped: its vCPU is busy, or nothing is to go on';
  if (result.reply !== undefined) return describeReply(result.reply);
  return 'a law breaks';
};

/** Runs a trace, telling each step and what came of it. */
function runAloud(subject: Subject, trace: Trace, voice: Voice): Attempt {
  return attempt(subject, {
    header: trace.header,
    drive: (run) => {
      for (const step of trace.steps) {
        if (run.failure !== undefined) return;
        const result = run.apply(step) as StepResult;
        voice.say(`  ${describeStep(step)}`, pc.dim(`     -> ${outcomeInWords(result)}`));
        voice.record({ kind: 'step', label: step.label, outcome: result.kind, reply: result.reply ?? null });
      }
      run.finish();
    },
  });
}

/** What laws about pairs say of a trace that no other law objects to. */
function pairFailure(trace: Trace, subject: Subject): Failure | undefined {
  for (const law of laws) {
    const problem = law.kind === 'pair' ? law.judge(trace, subject) : undefined;
    if (problem !== undefined) return { ...problem, law: law.id, statement: law.statement, step: trace.steps.length };
  }
  return undefined;
}

/** Replays a file; answers the exit code. */
export async function replayFile({ file, exhibit, json }: ReplayOptions): Promise<number> {
  const stored = readTrace(file);
  if (!stored.ok) {
    process.stderr.write(`${file} cannot be replayed: ${stored.error}.\n`);
    return EXIT.usage;
  }
  const voice = voiceOf(json);
  const subject = exhibit === undefined ? clean : await loadSubject(await exhibitOf(exhibit));
  const { trace } = stored;
  voice.say(`${file} on ${exhibit === undefined ? 'the implementation as it stands' : `the copy for ${exhibit}`}:`);
  voice.say(...describeHeader(trace.header).map((line) => pc.dim(`  ${line}`)), '');
  const { failure: found, error, operations } = runAloud(subject, trace, voice);
  if (error !== undefined) {
    voice.say('', `The harness itself broke: ${error.stack ?? error.message}`);
    voice.record({ kind: 'error', message: error.message, stack: error.stack });
    return EXIT.broken;
  }
  const failure = found ?? pairFailure(trace, subject);
  voice.say('', ...(failure === undefined ? [`Every law holds (${operations} operations).`] : failureInWords(failure)));
  voice.record({ kind: 'verdict', file, holds: failure === undefined, operations, failure: failure ?? null });
  return failure === undefined ? EXIT.ok : EXIT.failure;
}
