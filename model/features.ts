// What a semantic state is made of: the classes of the objects that an operation touches, by mechanism.
// A first reader may skip this file.

import type { Agent } from '#abi/agents.ts';
import { mechanismOf, type Mechanism, type Op } from '#abi/operation.ts';
import { features as grants } from './grants/features.ts';
import { features as hap } from './hap/features.ts';
import { features as memory } from './memory/features.ts';
import { features as paging } from './paging/features.ts';
import { features as pv } from './pv/features.ts';
import { features as tlb } from './tlb/features.ts';
import type { State } from './state.ts';

type Classes = (state: State, agent: Agent, op: never) => readonly number[];

const byMechanism: Readonly<Record<Mechanism, Classes>> = {
  memory,
  paging,
  pv,
  hap: (_state, _agent, op) => hap(op),
  tlb,
  grants,
};

/** The classes of what `op` touches in `state`, in a fixed order per kind and length. */
export const features = (state: State, agent: Agent, op: Op<'concrete'>): readonly number[] =>
  byMechanism[mechanismOf(op.kind)](state, agent, op as never);
