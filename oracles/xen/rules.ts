// Where Xen is known to differ from the model: one table of named rules.
// A first reader needs the reasons only.

import type { Agent } from '#abi/agents.ts';
import type { Op } from '#abi/operation.ts';
import type { State } from '#model/state.ts';

/** What a rule is asked about: an operation about to be done, and how the model stands. */
export interface Situation {
  readonly state: State;
  readonly agent: Agent;
  readonly op: Op<'concrete'>;
}

/** One known difference. */
export interface Rule {
  readonly id: string;
  readonly reason: string;
  /** Whether the step is left out. */
  readonly refuses: (situation: Situation) => boolean;
}

export const rules: readonly Rule[] = [];

/** The first rule by which a step is left out. */
export const ruleAgainst = (state: State, agent: Agent, op: Op<'concrete'>): Rule | undefined =>
  rules.find((rule) => rule.refuses({ state, agent, op }));
