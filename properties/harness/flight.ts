// An operation in flight, as the run that drives both sides sees it: who called what, how far it has come, and what the model
// was when it started. A first reader may skip this file.

import type { Agent } from '#abi/agents.ts';
import type { Label } from '#abi/operand.ts';
import type { Op } from '#abi/operation.ts';
import type { ObjectKind, PointClass } from '#abi/points.ts';
import type { Execution } from '#impl/execution.ts';
import type { State } from '#model/state.ts';

/** An operation that has started and has not returned. */
export interface Flight {
  readonly label: Label;
  readonly agent: Agent;
  readonly op: Op<'concrete'>;
  readonly execution: Execution;
  /** The model's state when it started (one candidate). */
  readonly before: State;
  /** Whether no other was in flight while it was. */
  alone: boolean;
  isResumed: boolean;
  /** The act before which it stands. */
  at: { readonly class: PointClass; readonly object: ObjectKind };
}

/** Whether the vCPU that `agent` is has an operation in flight. Others can have any number. */
export const isBusy = (flights: Iterable<Flight>, agent: Agent): boolean => {
  if (agent.kind !== 'vcpu') return false;
  for (const { agent: other } of flights)
    if (other.kind === 'vcpu' && other.domain === agent.domain && other.vcpu === agent.vcpu) return true;
  return false;
};
