// What a grant operation touches: the granter, the shared and the active entry of each element, the gfn it is mapped at or
// copied to, the handle. A first reader may skip this file: it only tells kinds of situations apart.

import type { DomId, Gfn, GrantRef } from '#abi/address.ts';
import { callerOf, type Agent } from '#abi/agents.ts';
import type { GrantsOp } from '#abi/grants.ts';
import { field } from '#lib/bits.ts';
import { unreachable } from '#lib/invariant.ts';
import { countClass, domainClass, gfnClass, named, relation } from '../classes.ts';
import type { State } from '../state.ts';
import { readEntry } from './entry.ts';
import { mappedAt } from './maptrack.ts';
import { pinMax } from './pins.ts';

type CopyElement = Extract<GrantsOp<'concrete'>, { kind: 'grants.copy' }>['elements'][number];

/** Batches longer than this are classed by their beginning. */
const LOOKED_AT = 3;

/** A grant: kind and status bits of the entry, whether it names the caller, its pins, and what its gfn means. */
function grantClass(state: State, granter: DomId, by: { ref: GrantRef; caller: DomId }): readonly number[] {
  const domain = state.domains.get(granter);
  const entry = domain && readEntry(state, domain, by.ref);
  if (domain === undefined || entry === undefined) return [domainClass(state, granter)];
  const active = domain.grants.active.get(by.ref);
  const max = pinMax(state);
  const { hstr = 0, hstw = 0, devr = 0, devw = 0 } = active ?? {};
  const pins = countClass(hstr, max) * 16 + countClass(hstw, max) * 4 + countClass(devr + devw, max);
  const isFor = (entry.domain === by.caller ? 1 : 0) + (active !== undefined && active.domain !== by.caller ? 2 : 0);
  const flags = field(entry.flags, 0, 5) + field(entry.flags, 8, 1) * 32;
  return [domainClass(state, granter), flags * 4 + isFor, pins, ...gfnClass(state, granter, entry.gfn)];
}

/** One side of a copy. */
function sideClass(
  state: State,
  caller: DomId,
  side: { by: 'gfn' | 'ref'; domain: DomId; ref: GrantRef; gfn: Gfn },
): readonly number[] {
  const kind = (side.by === 'gfn' ? 0 : 2) + (side.domain === caller ? 1 : 0);
  if (side.by === 'gfn') return [kind, ...gfnClass(state, caller, side.gfn)];
  return [kind, ...grantClass(state, side.domain, { ref: side.ref, caller })];
}

/** A handle: its flags, whether it was mapped where the caller says, and the grant behind it. */
function handleClass(state: State, caller: DomId, of: { handle: number; gfn: Gfn }): readonly number[] {
  const mapper = state.domains.get(caller);
  const mapped = mapper && mappedAt(state, mapper, of.handle as Parameters<typeof mappedAt>[2]);
  if (mapped === undefined) return [0];
  const binding = 1 + mapped.flags * 2 + (mapped.gfn === of.gfn ? 1 : 0);
  return [binding, ...grantClass(state, mapped.domain, { ref: mapped.ref, caller })];
}

/** Both sides of one copy. */
function copyClass(state: State, agent: Agent, of: { caller: DomId; element: CopyElement }): readonly number[] {
  const { caller, element: e } = of;
  const source = { by: e.sourceBy, domain: named(agent, e.sourceDomain), ref: e.sourceRef, gfn: e.sourceGfn };
  const dest = { by: e.destBy, domain: named(agent, e.destDomain), ref: e.destRef, gfn: e.destGfn };
  return [...sideClass(state, caller, source), ...sideClass(state, caller, dest)];
}

export function features(state: State, agent: Agent, op: GrantsOp<'concrete'>): readonly number[] {
  const caller = callerOf(agent);
  if (caller === undefined) return [];
  switch (op.kind) {
    case 'grants.map':
      return op.elements.slice(0, LOOKED_AT).flatMap(({ flags, domain, ref, gfn }) => {
        const grant = grantClass(state, domain, { ref, caller });
        return [field(flags, 0, 5), ...grant, ...gfnClass(state, caller, gfn)];
      });
    case 'grants.unmap':
      return op.elements.slice(0, LOOKED_AT).flatMap(({ handle, gfn }) => handleClass(state, caller, { handle, gfn }));
    case 'grants.replace':
      return op.elements.slice(0, LOOKED_AT).flatMap(({ handle, gfn, newGfn }) => {
        return [newGfn > 0 ? 1 : 0, ...handleClass(state, caller, { handle, gfn })];
      });
    case 'grants.copy':
      return op.elements.slice(0, LOOKED_AT).flatMap((element) => copyClass(state, agent, { caller, element }));
    case 'grants.setupTable':
    case 'grants.query': {
      const id = named(agent, op.target);
      const { frames, limit } = state.domains.get(id)?.grants ?? { frames: [], limit: 1 };
      return [domainClass(state, id), relation(agent, op.target), countClass(frames.length, limit)];
    }
    default:
      return unreachable(op);
  }
}
