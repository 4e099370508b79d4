// What a semantic state is made of: the classes of the objects that an operation touches, by mechanism.
// A first reader may skip this file.

import type { Agent } from '#abi/agents.ts';
import type { GrantsOp } from '#abi/grants.ts';
import type { MemoryOp } from '#abi/memory.ts';
import { mechanismOf, type Op } from '#abi/operation.ts';
import type { PagingOp } from '#abi/paging.ts';
import type { TlbOp } from '#abi/tlb.ts';
import { match } from 'ts-pattern';
import { features as grants } from './grants/features.ts';
import { features as hap } from './hap/features.ts';
import { features as memory } from './memory/features.ts';
import { features as paging } from './paging/features.ts';
import { features as tlb } from './tlb/features.ts';
import type { State } from './state.ts';

/** The classes of what `op` touches in `state`, in a fixed order per kind and length. */
export const features = (state: State, agent: Agent, op: Op<'concrete'>): readonly number[] =>
  match(mechanismOf(op.kind))
    .with('paging', () => paging(state, agent, op as PagingOp<'concrete'>))
    .with('memory', () => memory(state, agent, op as MemoryOp<'concrete'>))
    .with('grants', () => grants(state, agent, op as GrantsOp<'concrete'>))
    .with('tlb', () => tlb(state, agent, op as TlbOp<'concrete'>))
    .with('hap', () => hap(op as never))
    .exhaustive();
