// What a law sees when it judges: the machine, what the model makes of it, and what just happened.
// Laws look; they change nothing but the marks they leave.

import type { Logged } from '#abi/choices.ts';
import type { Failure } from '#abi/failures.ts';
import type { Invariant } from '#abi/invariants.ts';
import type { Mechanism, Op } from '#abi/operation.ts';
import type { Expected, Reply } from '#abi/reply.ts';
import type { Agent } from '#abi/agents.ts';
import type { Execution } from '#impl/execution.ts';
import type { Machine } from '#impl/machine.ts';
import type { State } from '#model/state.ts';
import type { Problem } from './law.ts';
import type { Reach } from './reach.ts';
import type { Touched } from './touched.ts';

/** An operation that has just returned. */
export interface Returned {
  readonly agent: Agent;
  readonly op: Op<'concrete'>;
  readonly reply: Reply;
  /** What the model allowed; undefined if no candidate could finish. */
  readonly expected: Expected | undefined;
  readonly log: readonly Logged[];
  /** What the step orders to fail. */
  readonly failures: readonly Failure[];
  /** The most acts between two preemption checks. */
  readonly worst: number;
  /** Whether no other operation was in flight while this one was. */
  readonly alone: boolean;
  /** The model's state before the operation started (one candidate). */
  readonly before: State;
}

/** What an access saw when it was made last, and not what it saw before it was made again. */
export const lastAttempt = (log: Returned['log']): Returned['log'] =>
  log.slice(log.findLastIndex(({ choice }) => choice.kind === 'retried') + 1);

/** A check of an invariant (absent: that of the law that judges) in a mechanism was not vacuous. */
export type Looks = (mechanism: Mechanism, invariant?: Invariant) => void;

/** The moment of judgement. */
export interface View {
  readonly machine: Machine;
  /** States of the model that explain what has been seen; exactly one when quiescent. Never empty. Computed when asked. */
  readonly candidates: () => readonly State[];
  /** Asks for all candidates instead of the likely ones; false: those are all. */
  readonly widen: () => boolean;
  /** The first frame whose ways no candidate explains, if the last reply is explained. Computed once per judgement. */
  readonly unexplained: () => Problem | undefined;
  /** Frames whose explanation must be looked at: at a return all touched ones, at an act those touched since the last. */
  readonly suspects: ReadonlySet<number>;
  /** Whether the candidates explain the last reply: if not, laws that lean on the model have nothing to say. */
  readonly explained: () => boolean;
  /** What the hardware would let everybody reach. */
  readonly reach: Reach;
  /** What may have changed since the last judgement. */
  readonly touched: Touched;
  /** Tells the run that an interesting state was reached. */
  readonly mark: (mark: string) => void;
  /** How often an operation should have asked at least whether to stop, by the tables that it went through. */
  readonly due: (execution: Execution) => number;
  /** Told of every check in which there was something to object to; undefined: nobody counts. */
  readonly looks: Looks | undefined;
  /** Whether no operation is in flight. */
  readonly quiescent: boolean;
  /** Whether everything is to be compared, not only what was touched. */
  readonly audit: boolean;
  readonly returned: Returned | undefined;
  /** Problems that driving the two sides has brought up; the law of their invariant reports them. */
  readonly problems: readonly Problem[];
}
