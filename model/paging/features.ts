// What an access touches: the gfn it starts in, and whether it straddles words or frames.
// A first reader may skip this file: it only tells kinds of situations apart.

import type { Gfn } from '#abi/address.ts';
import { callerOf, type Agent } from '#abi/agents.ts';
import { controls, privileges, type PagingOp } from '#abi/paging.ts';
import { gfnClass } from '../classes.ts';
import type { State } from '../state.ts';
import { answering } from '../tlb/loaded.ts';
import { pieces } from '../words.ts';
import { contextOf, isOn } from './context.ts';

export function features(state: State, agent: Agent, op: PagingOp<'concrete'>): readonly number[] {
  const domain = callerOf(agent);
  if (domain === undefined || agent.kind !== 'vcpu') return [];
  const context = contextOf(state, agent);
  if (op.kind === 'paging.setControl') return [context.controls, controls.indexOf(op.control)];
  if (op.kind === 'paging.setRoot') return [context.controls, ...gfnClass(state, domain, op.gfn)];
  const straddles = (op.offset % 8) + op.size > 8 ? 1 : 0;
  const parts = pieces(state, op, op.size);
  if (isOn(context, 'paging')) {
    const ways = answering(state.geometry, context, parts[0]?.gfn ?? 0);
    return [parts.length * 2 + straddles, context.controls, Math.min(ways.length, 4), privileges.indexOf(op.as)];
  }
  return [parts.length * 2 + straddles, ...parts.flatMap((piece) => gfnClass(state, domain, piece.gfn as Gfn))];
}
