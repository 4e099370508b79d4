// A whole trace in one go, for everybody who does not drive a run step by step.
// Nothing of the run is left but what is answered.

import type { Trace } from '#abi/trace.ts';
import type { Failure } from './law.ts';
import { Lockstep } from './lockstep.ts';
import type { Settings } from './settings.ts';
import type { Subject } from './subject.ts';

/** What a run came to. */
export interface Run {
  readonly failure: Failure | undefined;
  readonly operations: number;
  readonly marks: ReadonlySet<string>;
  readonly semantic: ReadonlySet<number>;
}

/** Runs a whole trace, paused operations to their end. */
export function runTrace(subject: Subject, trace: Trace, settings: Partial<Settings> = {}): Run {
  const run = new Lockstep({ subject, header: trace.header, settings });
  for (const step of trace.steps) if (run.failure === undefined) run.apply(step);
  run.finish();
  run.close();
  const { failure, operations, marks, semantic } = run;
  return { failure, operations, marks, semantic };
}
