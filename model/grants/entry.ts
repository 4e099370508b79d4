// The shared entry: what the granter has written into its grant frame, and the two status bits the hypervisor keeps
// there. The granter may change the entry at any moment, so it is read only where Xen reads it: flags and domain in one
// compare-exchange, the frame in a later plain read.
// A first reader may skip the bit fields. Sources: Xen public/grant_table.h (grant_entry_v1), common/grant_table.c
// (_set_status_v1, reduce_status_for_pin).
//
//   63        32 31      16 15           0
//  |  frame     |  domid   |  flags      |

import type { DomId, Gfn, GrantRef, Mfn } from '#abi/address.ts';
import { grantsPerFrame } from '#abi/geometry.ts';
import { grantFlags } from '#abi/grants.ts';
import { and, field, hasAll, or, withField, without } from '#lib/bits.ts';
import type { Domain, State } from '../state.ts';
import { withWord, wordAt } from '../words.ts';

/** An entry as it stands in memory. */
export interface Shared {
  readonly flags: number;
  readonly domain: number;
  readonly gfn: Gfn;
}

/** How many references a domain's table has room for. */
export const refCount = (state: State, granter: Domain): number =>
  granter.grants.frames.length * grantsPerFrame(state.geometry);

/** The word of `ref`; undefined: beyond the table. */
function placeOf(state: State, granter: Domain, ref: GrantRef): { mfn: Mfn; index: number } | undefined {
  const perFrame = grantsPerFrame(state.geometry);
  const mfn = granter.grants.frames[Math.floor(ref / perFrame)];
  return mfn === undefined ? undefined : { mfn, index: ref % perFrame };
}

/** The entry of `ref`; undefined: beyond the table. */
export function readEntry(state: State, granter: Domain, ref: GrantRef): Shared | undefined {
  const place = placeOf(state, granter, ref);
  if (place === undefined) return undefined;
  const word = wordAt(state, place.mfn, place.index);
  return { flags: field(word.lo, 0, 16), domain: field(word.lo, 16, 16), gfn: word.hi as Gfn };
}

/** `state` with other flags in an entry. The word counts as the granter's: the hypervisor adds nothing of its own. */
function withFlags(state: State, granter: Domain, change: { ref: GrantRef; flags: number }): State {
  const place = placeOf(state, granter, change.ref);
  if (place === undefined) return state;
  const { lo, hi } = wordAt(state, place.mfn, place.index);
  const changed = withField(lo, 0, 16, change.flags);
  return changed === lo ? state : withWord(state, place, { lo: changed, hi, author: granter.id });
}

/** Who wants to use an entry and what for. */
export interface Use {
  readonly by: DomId;
  readonly readOnly: boolean;
  readonly purpose: 'map' | 'copy';
  /** Whether the grant is in use already: then kind and domain are not looked at again. */
  readonly isPinned: boolean;
}

/** Whether the entry, as it stands, gives what is wanted. */
function gives(entry: Shared, use: Use): boolean {
  const mask = use.purpose === 'map' ? grantFlags.kindMask + grantFlags.subPage : grantFlags.kindMask;
  const isFor = entry.domain === use.by && and(entry.flags, mask) === grantFlags.permitAccess;
  return (use.isPinned || isFor) && (use.readOnly || !hasAll(entry.flags, grantFlags.readOnly));
}

/** Sets the status bits by compare-exchange; undefined: the entry does not give it, and nothing was written. */
export function setStatus(state: State, granter: Domain, use: Use & { ref: GrantRef }): State | undefined {
  const entry = readEntry(state, granter, use.ref);
  if (entry === undefined || !gives(entry, use)) return undefined;
  const bits = use.readOnly ? grantFlags.reading : grantFlags.reading + grantFlags.writing;
  return withFlags(state, granter, { ref: use.ref, flags: or(entry.flags, bits) });
}

/** Clears the status bits that no pin stands behind any more: writing only when a writer leaves. */
export function reduceStatus(
  state: State,
  granter: Domain,
  left: { readonly ref: GrantRef; readonly readOnly: boolean },
): State {
  const active = granter.grants.active.get(left.ref);
  const entry = readEntry(state, granter, left.ref);
  if (entry === undefined) return state;
  const hasWriters = active !== undefined && active.hstw + active.devw > 0;
  const reading = active === undefined ? grantFlags.reading : 0;
  const writing = left.readOnly || hasWriters ? 0 : grantFlags.writing;
  return withFlags(state, granter, { ref: left.ref, flags: without(entry.flags, reading + writing) });
}
