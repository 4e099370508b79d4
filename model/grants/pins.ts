// Pins: how often a grant is in use, in four counters (host or device, reading or writing). While any is above zero the
// active entry stands: it fixes who may use the grant and which frame it means, whatever the granter writes meanwhile.
// Each use holds one pin and one reference on the frame. A first reader may skip the arithmetic.
// Source: Xen common/grant_table.c (struct active_grant_entry, pin_incr, reduce_status_for_pin).

import type { DomId, GrantRef, Mfn } from '#abi/address.ts';
import { mapFlags } from '#abi/grants.ts';
import { hasAll, pow2 } from '#lib/bits.ts';
import { putReference } from '../frames.ts';
import { refuse } from '../cut.ts';
import { isGiven } from '../entitlement.ts';
import type { Grip } from '../progress.ts';
import { withGrants, type Active, type Ground, type Pins, type State } from '../state.ts';
import { reduceStatus } from './entry.ts';

const NO_PINS: Pins = { hstr: 0, hstw: 0, devr: 0, devw: 0 };

export const isReadOnly = (flags: number): boolean => hasAll(flags, mapFlags.readOnly);

/** The counters that a use with these map flags is counted in: none, one, or one for the host and one for the device. */
export function countersOf(flags: number): readonly (keyof Pins)[] {
  const reads = isReadOnly(flags);
  const host: readonly (keyof Pins)[] = hasAll(flags, mapFlags.host) ? [reads ? 'hstr' : 'hstw'] : [];
  return hasAll(flags, mapFlags.device) ? [...host, reads ? 'devr' : 'devw'] : host;
}

/** Where a counter stops: its top bit set. */
export const pinMax = (state: State): number => pow2(state.geometry.width.pin - 1);

/** Whether some counter that a use needs has no room. */
export const isFull = (state: State, active: Active, flags: number): boolean =>
  countersOf(flags).some((counter) => active[counter] >= pinMax(state));

/** Whether somebody may write through the grant. */
export const hasWriters = (pins: Pins): boolean => pins.hstw + pins.devw > 0;

const isUnused = (pins: Pins): boolean => pins.hstr + pins.hstw + pins.devr + pins.devw === 0;

function counted(pins: Pins, flags: number, by: 1 | -1): Pins {
  const sum = { hstr: pins.hstr, hstw: pins.hstw, devr: pins.devr, devw: pins.devw };
  for (const counter of countersOf(flags)) sum[counter] += by;
  return sum;
}

/** One use more: by `by`, of the frame `mfn`. Every use begins here, and none that was not given. */
export function addPins(state: State, use: Grip & { readonly by: DomId; readonly ground: Ground }): State {
  const grants = state.domains.get(use.granter)?.grants;
  if (grants === undefined) return state;
  const pins = counted(grants.active.get(use.ref) ?? NO_PINS, use.flags, 1);
  const active: Active = { ...pins, domain: use.by, mfn: use.mfn, ground: use.ground };
  if (!isGiven(use.granter, active))
    return refuse(`d${use.by} uses grant ${use.ref} of d${use.granter}, which never gave that`, 'OWN');
  return withGrants(state, use.granter, { active: grants.active.set(use.ref, active) });
}

/** One use less, and the status bits that follow from it; the reference stays. */
export function dropPins(state: State, use: Grip): State {
  const grants = state.domains.get(use.granter)?.grants;
  const old = grants?.active.get(use.ref);
  if (grants === undefined || old === undefined) return state;
  const pins = counted(old, use.flags, -1);
  const ground = hasWriters(pins) ? old.ground : { ...old.ground, writing: undefined };
  const active = isUnused(pins)
    ? grants.active.delete(use.ref)
    : grants.active.set(use.ref, { ...old, ...pins, ground });
  return lowerStatus(withGrants(state, use.granter, { active }), use);
}

/** Clears the status bits that no pin stands behind. */
export function lowerStatus(
  state: State,
  use: { readonly granter: DomId; readonly ref: GrantRef; readonly flags: number },
): State {
  const granter = state.domains.get(use.granter);
  return granter === undefined
    ? state
    : reduceStatus(state, granter, { ref: use.ref, readOnly: isReadOnly(use.flags) });
}

const putReferences = (state: State, mfn: Mfn, count: number): State =>
  count === 0 ? state : putReferences(putReference(state, mfn), mfn, count - 1);

/** A use ends: pins, status, then its references (the last of which may free the frame and bury its owner). */
export const dropGrip = (state: State, use: Grip): State =>
  putReferences(dropPins(state, use), use.mfn, countersOf(use.flags).length);
