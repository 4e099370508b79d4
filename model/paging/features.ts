// What an access touches: the gfn it starts in, and whether it straddles words or frames.
// A first reader may skip this file: it only tells kinds of situations apart.

import type { Gfn } from '#abi/address.ts';
import { callerOf, type Agent } from '#abi/agents.ts';
import type { PagingOp } from '#abi/paging.ts';
import { gfnClass } from '../classes.ts';
import type { State } from '../state.ts';
import { pieces } from '../words.ts';

export function features(state: State, agent: Agent, op: PagingOp<'concrete'>): readonly number[] {
  const domain = callerOf(agent);
  if (domain === undefined) return [];
  const straddles = (op.offset % 8) + op.size > 8 ? 1 : 0;
  const parts = pieces(state, op, op.size);
  return [parts.length * 2 + straddles, ...parts.flatMap((piece) => gfnClass(state, domain, piece.gfn as Gfn))];
}
