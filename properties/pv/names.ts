// How traces name the frames of paravirtual guests, and which frames such a guest has: as what they are typed.
// A first reader may skip it.

import type { DomId, Mfn, Word } from '#abi/address.ts';
import type { FrameOperand, GfnOperand, Literal } from '#abi/operand.ts';
import { field } from '#lib/bits.ts';
import { frameOf, type Domain, type State } from '#model/state.ts';
import { operandOf } from '../harness/decisions.ts';
import { frameBelow } from '../harness/entry.ts';
import { frameIn } from '../harness/named-frames.ts';

/** Living paravirtual guests, ascending. */
export const directGuests = (state: State): readonly Domain[] =>
  state.domains.values().filter(({ kind, state: life }) => kind === 'pv' && life === 'running');

const known = new WeakMap<State, Map<DomId, readonly Mfn[]>>();

/** RAM of a paravirtual guest, ascending. */
export function framesOf(state: State, id: DomId): readonly Mfn[] {
  let byDomain = known.get(state);
  if (byDomain === undefined) known.set(state, (byDomain = new Map()));
  const old = byDomain.get(id);
  if (old !== undefined) return old;
  const frames: Mfn[] = [];
  state.frames.forEach(({ owner, role }, mfn) => {
    if (owner === id && role === 'ram') frames.push(mfn as Mfn);
  });
  byDomain.set(id, frames);
  return frames;
}

/** Where its owner sees a frame, if a trace can find it there. */
function placeOf(state: State, mfn: Mfn): { readonly domain: DomId; readonly gfn: GfnOperand } | undefined {
  const { owner, pseudo, mappings } = frameOf(state, mfn);
  const gfn = pseudo ?? mappings.find(({ domain }) => domain === owner)?.gfn;
  if (owner === undefined || gfn === undefined) return undefined;
  const place = { domain: owner, gfn: operandOf(state.geometry, gfn) };
  return frameIn(state, place) === mfn ? place : undefined;
}

/** A frame by where it is, or else by its number. */
export const frameNamed = (state: State, mfn: Mfn): FrameOperand => placeOf(state, mfn) ?? { raw: mfn };

/** The same as a number in an entry or an argument. */
export function numberNamed(state: State, mfn: Mfn): GfnOperand {
  const place = placeOf(state, mfn);
  return place !== undefined && 'path' in place.gfn ? { at: place.gfn.path, of: place.domain } : { raw: mfn };
}

/** An entry as it stands, as a literal that names its frame. Of Xen's mark of kernel pages it knows nothing. */
export const entryNamed = (state: State, word: Word): Literal => ({
  as: 'tableEntry',
  flags: field(word.lo, 0, 12) + field(word.hi, 28, 4) * 0x1000,
  gfn: numberNamed(state, frameBelow(word) as Mfn),
});
