// The work that benches repeat: generated traces of the implementation as it stands, with what each side was asked and
// answered, so that either side can be run alone on the same operations. A first reader may skip it.

import type { Mfn } from '#abi/address.ts';
import { isAct, type Header, type Trace } from '#abi/trace.ts';
import type { Call } from '#impl/execution.ts';
import { Machine } from '#impl/machine.ts';
import { begin, runAlone } from '#model/step.ts';
import { attempt, replay, sourceOf } from '#museum/attempt.ts';
import { bootCalls, type FrameOf } from '#properties/harness/boot.ts';
import type { StepResult } from '#properties/harness/lockstep.ts';
import { clean } from '#properties/harness/subject.ts';
import type { Returned } from '#properties/harness/view.ts';

/** One run: its trace, the calls it made, and what each operation came to. */
export interface Recording {
  readonly trace: Trace;
  readonly calls: readonly Call[];
  readonly returned: readonly Returned[];
  readonly operations: number;
}

function record(trace: Trace): Recording {
  const calls: Call[] = [];
  const returned: Returned[] = [];
  const feed = {
    header: trace.header,
    drive: (run: { apply: (step: Trace['steps'][number]) => unknown; finish: () => void }) => {
      for (const step of trace.steps) {
        const { op } = run.apply(step) as StepResult;
        if (!isAct(step) || op === undefined) continue;
        const { agent, failures, preempt } = step;
        calls.push({
          agent,
          op,
          ...(failures === undefined ? {} : { failures }),
          ...(preempt === undefined ? {} : { preempt }),
        });
      }
      run.finish();
    },
  };
  const { operations } = attempt(clean, feed, { onReturn: (one) => returned.push(one) });
  return { trace, calls, returned, operations };
}

/** The first `runs` runs of a campaign's seed. A failure is an error here: benches want the implementation to hold. */
export const recordings = (seed: number, runs: number): readonly Recording[] =>
  Array.from({ length: runs }, (_, i) => {
    const { trace, failure, error } = attempt(clean, sourceOf(seed, i + 1));
    if (error !== undefined) throw error;
    if (failure !== undefined)
      throw new Error(`run ${i + 1} of seed ${seed} breaks ${failure.law}: ${failure.sentence}`);
    return record(trace);
  });

/** All recordings again, judged by all laws. Answers the completed operations. */
export const replayAll = (all: readonly Recording[]): number =>
  all.reduce((sum, { trace }) => sum + replay(clean, trace).operations, 0);

/** The same without a law: only the comparison of both sides remains. */
export const replayLawless = (all: readonly Recording[]): number =>
  all.reduce((sum, { trace }) => sum + replay(clean, trace, { laws: [], fineEvery: 1_000_000 }).operations, 0);

function bare(header: Header, calls: readonly Call[]): number {
  const machine = new Machine(header);
  const run = (call: Call): void => {
    const execution = machine.start(call);
    execution.run();
    machine.finish(execution);
  };
  const { f } = machine;
  const frameOf: FrameOf = (frame) => {
    if ('special' in frame) {
      const grantFrame = f.grantFrame.get(frame.domain * machine.geometry.capacity.grantFrames + frame.index);
      return grantFrame === 0 ? undefined : (grantFrame as Mfn);
    }
    if (!('gfn' in frame) || !('raw' in frame.gfn)) return undefined;
    const { domain } = frame;
    const gfn = frame.gfn.raw;
    for (let mfn = 1; mfn < machine.geometry.frameCount; mfn += 1)
      if (f.frameOwner.get(mfn) === domain + 1 && f.m2p.getWide(mfn) === gfn + 1) return mfn as Mfn;
    return undefined;
  };
  for (const call of bootCalls(machine.geometry, header, frameOf)) run(call);
  calls.forEach(run);
  return calls.length;
}

/** The implementation alone: the same calls, each to its end before the next; no model, no laws. */
export const runBare = (all: readonly Recording[]): number =>
  all.reduce((sum, { trace, calls }) => sum + bare(trace.header, calls), 0);

/** The model alone: the same operations from the same states, with the recorded choices. */
export function runModel(all: readonly Recording[]): number {
  let operations = 0;
  for (const { returned } of all)
    for (const { before, agent, op, log, failures } of returned) {
      runAlone(before, begin(agent, op, failures), log);
      operations += 1;
    }
  return operations;
}
