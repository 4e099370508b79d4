// The shared entry of a grant: the word that the granter writes into its grant frame, and the two status bits that the
// hypervisor keeps there. The granter may write the word at any moment, so flags and domain are judged and marked in one
// compare-exchange, and the frame number is a later load of its own.
// A first reader may skip `placeOf`. Sources: Xen public/grant_table.h (grant_entry_v1), common/grant_table.c
// (_set_status_v1, reduce_status_for_pin).

import type { Principal } from '#abi/acts.ts';
import type { DomId } from '#abi/address.ts';
import { grantsPerFrame } from '#abi/geometry.ts';
import { grantFlags } from '#abi/grants.ts';
import { and, field, hasAll, or, without } from '#lib/bits.ts';
import type { Machine } from '../machine.ts';
import type { At, Step } from '../port.ts';

/** A grant by its granter and reference, which must lie within the granter's table. */
export interface Grant {
  readonly granter: number;
  readonly ref: number;
}

/** Who wants to use a grant and what for. */
export interface Use {
  readonly by: number;
  readonly readOnly: boolean;
  readonly purpose: 'map' | 'copy';
  /** Whether it is in use already: then kind and domain of the entry are not looked at again. */
  readonly isPinned: boolean;
}

/** What comes of setting status bits. unstable: the granter kept changing the word. */
export type Marked = 'okay' | 'refused' | 'unstable';

/** Xen gives up after so many lost rounds. */
const ROUNDS = 5;

const ACCESS_MASK = { map: grantFlags.kindMask + grantFlags.subPage, copy: grantFlags.kindMask } as const;

const inNameOf = (granter: number): Principal => ({ domain: granter as DomId, purpose: 'grantEntry' });

/** How many references the table of `granter` has room for. */
export const refCount = (m: Machine, granter: number): number =>
  m.f.grantFrameCount.get(granter) * grantsPerFrame(m.geometry);

/** The word of a grant. */
function placeOf(m: Machine, { granter, ref }: Grant): At {
  const perFrame = grantsPerFrame(m.geometry);
  const slot = granter * m.geometry.capacity.grantFrames + Math.floor(ref / perFrame);
  return { mfn: m.f.grantFrame.get(slot), index: ref % perFrame };
}

/** Whether an entry whose low half is `low` gives what is wanted. */
function gives(low: number, use: Use): boolean {
  const isAccess = and(low, ACCESS_MASK[use.purpose]) === grantFlags.permitAccess;
  const isFor = isAccess && field(low, 16, 16) === use.by;
  return (use.isPinned || isFor) && (use.readOnly || !hasAll(low, grantFlags.readOnly));
}

/** Sets the status bits of a use. Unless it is okay, nothing was written. The active lock is held. */
export function* setStatus(m: Machine, grant: Grant, use: Use): Step<Marked> {
  const who = inNameOf(grant.granter);
  const { mfn, index } = placeOf(m, grant);
  const bits = use.readOnly ? grantFlags.reading : grantFlags.reading + grantFlags.writing;
  let low = yield* m.port.load(who, 'grantEntry', { mfn, index });
  for (let round = 0; round < ROUNDS; round += 1) {
    if (!gives(low, use)) return 'refused';
    const expected = low;
    low = yield* m.port.compareExchange(who, 'grantEntry', { mfn, index, expected, value: or(expected, bits) });
    if (low === expected) return 'okay';
  }
  return 'unstable';
}

/** The gfn that the entry names now. Nothing else happens between the load and what the caller does next. */
export function* loadGfn(m: Machine, grant: Grant): Step<number> {
  yield* m.port.load(inNameOf(grant.granter), 'grantEntry', placeOf(m, grant));
  return m.port.hi;
}

/** Clears status bits in one act, whatever else the word holds by now. The active lock is held. */
export function* clearStatus(m: Machine, grant: Grant, bits: number): Step<void> {
  if (bits === 0) return;
  const at = placeOf(m, grant);
  yield* m.port.point('store', 'grantEntry');
  const who = inNameOf(grant.granter);
  const low = m.port.peek(who, at);
  m.port.poke(who, { mfn: at.mfn, index: at.index, lo: without(low, bits), hi: m.port.hi });
}
