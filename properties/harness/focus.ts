// What operations in flight are about, so that others can be made to touch the same things.
// A first reader may skip this file.

import { DOMID_SELF, type Mfn } from '#abi/address.ts';
import type { Agent } from '#abi/agents.ts';
import { operandsOf } from '#abi/fields.ts';
import type { Op } from '#abi/operation.ts';
import { frameOf, type State } from '#model/state.ts';
import { wordAt } from '#model/words.ts';
import { frameBelow, isPresent } from './entry.ts';
import { domainsNamed } from './marks.ts';

/** What operations in flight are about: others that touch the same things make the interesting interleavings. */
export interface Focus {
  /** Whose memory or grants. */
  readonly domains: ReadonlySet<number>;
  readonly gfns: ReadonlySet<number>;
  readonly refs: ReadonlySet<number>;
  readonly handles: ReadonlySet<number>;
  /** Machine frames that are named, and those that they lead to as tables. */
  readonly frames: ReadonlySet<number>;
}

export const NO_FOCUS: Focus = {
  domains: new Set(),
  gfns: new Set(),
  refs: new Set(),
  handles: new Set(),
  frames: new Set(),
};

/** Of an extent of a higher order, so many gfns are in focus. */
const EXTENT_FOCUS = 4;

/** The domains that an operation works on: its target, or all that it names. */
const concerned = (agent: Agent, op: Op<'concrete'>): Iterable<number> =>
  'target' in op && op.target !== DOMID_SELF ? [op.target] : domainsNamed(agent, op);

/** The focus of operations in flight. */
export function focusOn(flights: readonly { agent: Agent; op: Op<'concrete'> }[], state: State): Focus {
  if (flights.length === 0) return NO_FOCUS;
  const domains = new Set(flights.flatMap(({ agent, op }) => [...concerned(agent, op)]));
  const focus = {
    domains,
    gfns: new Set<number>(),
    refs: new Set<number>(),
    handles: new Set<number>(),
    frames: new Set<number>(),
  };
  for (const { op } of flights) {
    const size = 'order' in op ? Math.min(EXTENT_FOCUS, 2 ** op.order) : 1;
    const note = (gfn: number): void => {
      for (let i = 0; i < size; i += 1) focus.gfns.add(gfn + i);
    };
    for (const one of operandsOf(op)) {
      if (one.type === 'gfn') note(one.value);
      if (one.type === 'frame') focus.frames.add(one.value);
      if (one.type === 'word' && isPresent(one.value.lo)) focus.frames.add(frameBelow(one.value));
      if (one.type === 'ref') focus.refs.add(one.value);
      if (one.type === 'handle') focus.handles.add(one.value);
      if (one.type === 'buffer' && one.value.in === 'guest') note(one.value.gfn);
      if (one.type !== 'extents') continue;
      if (one.value.by === 'value') one.value.gfns.forEach(note);
      else if (one.value.buffer.in === 'guest') note(one.value.buffer.gfn);
    }
  }
  for (const ref of focus.refs) for (const gfn of gfnsBehind(state, ref)) focus.gfns.add(gfn);
  for (const below of [...focus.frames].flatMap((mfn) => framesBelow(state, mfn))) focus.frames.add(below);
  return focus;
}

/** Where frames lie, in anybody's address space, that are in use through a grant of this number. */
function gfnsBehind(state: State, ref: number): readonly number[] {
  return state.domains.values().flatMap(({ grants }) => {
    const active = grants.active.get(ref);
    return active === undefined ? [] : frameOf(state, active.mfn).mappings.map(({ gfn }) => gfn);
  });
}

/** So many words of a table are looked at. */
const LOOKED_AT = 8;

/** Where the entries of a frame lead that is one of a paravirtual guest's. */
function framesBelow(state: State, mfn: number): readonly number[] {
  const { owner } = frameOf(state, mfn as Mfn);
  if (owner === undefined || state.domains.get(owner)?.kind !== 'pv') return [];
  const count = Math.min(LOOKED_AT, state.geometry.wordsPerFrame);
  const words = Array.from({ length: count }, (_, index) => wordAt(state, mfn as Mfn, index));
  return words.filter(({ lo }) => isPresent(lo)).map(frameBelow);
}
