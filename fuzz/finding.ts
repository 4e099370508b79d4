// What happens to a failure once it is found: shortened in slices, stored, and told. Ctrl-C while shortening keeps the
// best trace so far. A first reader may skip it.

import type { Trace } from '#abi/trace.ts';
import { shorten, type Fails, type Short } from '#museum/shorten.ts';
import type { Failure } from '#properties/harness/law.ts';
import { Deadline, type Interrupt } from './interrupt.ts';
import type { Voice } from './live.ts';
import { counted, failureInWords, replayCommand, traceInWords } from './report.ts';

/** A failing trace that is to be made short. */
export interface Raw {
  readonly trace: Trace;
  readonly failure: Failure;
  readonly fails: Fails;
  readonly executions: number;
  /** Seconds at most. */
  readonly seconds: number;
}

/** Shortens a failure until nothing smaller fails alike, a bound is reached, or Ctrl-C. */
export async function shortened(
  raw: Raw,
  of: { readonly voice: Voice; readonly interrupt: Interrupt },
): Promise<Short> {
  const limit = new Deadline(raw.seconds);
  const work = shorten({ ...raw, isOver: () => limit.isPast });
  let best: Short = { trace: raw.trace, failure: raw.failure, executions: 0, isExhausted: false };
  for (;;) {
    const { done, value } = work.next();
    best = value;
    if (done === true || (await of.interrupt.breath())) return best;
    of.voice.progress(
      `  shortening: ${counted(best.trace.steps.length, 'step')} after ${counted(best.executions, 'run')}`,
      {
        phase: 'shortening',
        steps: best.trace.steps.length,
        executions: best.executions,
      },
    );
  }
}

/** A failure of the implementation as it stands, for the terminal. */
export function tellFailure(
  voice: Voice,
  of: { readonly trace: Trace; readonly failure: Failure; readonly file: string },
): void {
  const { trace, failure, file } = of;
  voice.say(
    '',
    ...failureInWords(failure),
    '',
    `Shortest trace (${counted(trace.steps.length, 'step')}), stored in ${file}:`,
    ...traceInWords(trace),
    '',
    `Replay it: ${replayCommand(file)}`,
  );
  voice.record({ kind: 'failure', ...failure, file, length: trace.steps.length, replay: replayCommand(file) });
}

/** The harness itself broke: our mistake, and no verdict on the implementation. */
export function tellError(voice: Voice, error: Error, file: string): void {
  voice.say(
    '',
    `The harness itself broke, which says nothing about the implementation: ${error.message}`,
    `The run that led to it is stored in ${file}; please report it together with this stack:`,
    error.stack ?? '',
    `Replay it: ${replayCommand(file)}`,
  );
  voice.record({ kind: 'error', message: error.message, stack: error.stack, file, replay: replayCommand(file) });
}
