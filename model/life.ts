// A domain by the life that it lives: another one may have its id later on.
// A first reader may skip nothing.

import { INVALID_MFN, type DomId, type Mfn } from '#abi/address.ts';
import { frameOf, type State } from './state.ts';

/** One life of a frame; that of a domain is its structure's. */
export interface Life {
  readonly mfn: Mfn;
  readonly incarnation: number;
}

/** The life of the domain that has an id now; without one, a life that nobody lives. */
export function lifeOf(state: State, id: DomId): Life {
  const mfn = state.domains.get(id)?.structure ?? INVALID_MFN;
  return { mfn, incarnation: frameOf(state, mfn).incarnation };
}

/** Whether whoever has an id now lives the life that was found. */
export const isStill = (state: State, id: DomId, { mfn, incarnation }: Life): boolean =>
  state.domains.get(id)?.structure === mfn && frameOf(state, mfn).incarnation === incarnation;
