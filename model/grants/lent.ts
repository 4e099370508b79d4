// What paravirtual guests have of others' frames: by the pins of a grant, which stay until they are let go of as they should; and, of
// a guest that is torn down and has no pins any more, by the entries that its tables still have. Isolation asks.
// A first reader may skip `kept`.

import type { DomId, Mfn } from '#abi/address.ts';
import { isTrusted } from '#abi/pv.ts';
import { RIGHT } from '#abi/rights.ts';
import { or } from '#lib/bits.ts';
import { isGiven } from '../entitlement.ts';
import { isWritable, mfnIn, nextPresent } from '../pv/entries.ts';
import { frameOf, isParavirtual, type Active, type Domain, type Frame, type State } from '../state.ts';
import { wordAt } from '../words.ts';

/** A domain, and what it may do with a frame of another's. */
export interface Lent {
  readonly domain: DomId;
  readonly rights: number;
}

const { read, write, execute } = RIGHT;

/** Nobody writes what processors trust. */
const rightsIf = ({ type }: Frame, writes: boolean): number =>
  read + execute + (writes && !isTrusted(type) ? write : 0);

/** Whether a grant in use gives the frame, in its present life, to a paravirtual guest. */
const isLent = (state: State, granter: Domain, frame: Frame, active: Active): boolean =>
  isParavirtual(state, active.domain) &&
  active.hstr + active.hstw > 0 &&
  active.ground.meant?.incarnation === frame.incarnation &&
  isGiven(granter.id, active);

/** Entries of lowest tables of a dying guest. */
function kept(state: State, { id }: Domain, mfn: Mfn): Lent | undefined {
  const frame = frameOf(state, mfn);
  let rights = 0;
  state.frames.forEach(({ owner, type, validated }, table) => {
    if (owner !== id || type !== 'l1' || !validated) return;
    const at = { mfn: table as Mfn, level: 1 };
    for (let index = nextPresent(state, { ...at, index: 0 }); index !== undefined;) {
      const word = wordAt(state, at.mfn, index);
      if (mfnIn(word) === mfn) rights = or(rights, rightsIf(frame, isWritable(word)));
      index = nextPresent(state, { ...at, index: index + 1 });
    }
  });
  return rights === 0 ? undefined : { domain: id, rights };
}

/** To whom a frame is lent. */
export function lentTo(state: State, mfn: Mfn): readonly Lent[] {
  const frame = frameOf(state, mfn);
  const granter = frame.owner === undefined ? undefined : state.domains.get(frame.owner);
  if (granter === undefined || frame.refs === 0) return [];
  const found: Lent[] = [];
  granter.grants.active.forEach((active) => {
    if (active.mfn === mfn && isLent(state, granter, frame, active))
      found.push({ domain: active.domain, rights: rightsIf(frame, active.hstw > 0) });
  });
  state.domains.forEach((domain) => {
    if (domain.kind !== 'pv' || domain.state !== 'dying' || domain.id === granter.id) return;
    const one = kept(state, domain, mfn);
    if (one !== undefined) found.push(one);
  });
  return found;
}
