// Active entries: which grants are in use, by whom, which frame they mean, and how often, in four counters (host or device,
// reading or writing). The counters are narrow. One with its top bit set takes no more, so none ever wraps.
// Every use holds one pin and one reference on the frame per counter, and of a paravirtual guest's frame, to write it, one use of its
// type. Counting is done under the active lock.
// A first reader may skip the bit fields. Source: Xen common/grant_table.c (struct active_grant_entry, pin_incr,
// reduce_status_for_pin).

import { grantFlags, mapFlags } from '#abi/grants.ts';
import { hasAny, pow2 } from '#lib/bits.ts';
import type { Field } from '../arena.ts';
import { refsOf } from '../layout.ts';
import type { Machine } from '../machine.ts';
import { putReference } from '../memory/frames.ts';
import { isParavirtual } from '../memory/target.ts';
import type { Step } from '../port.ts';
import { WRITABLE } from '../pv/entry.ts';
import { putType } from '../pv/release.ts';
import { getType } from '../pv/types.ts';
import { clearStatus, type Grant } from './entry.ts';

/** A use of a grant that is to end: how it is counted follows from its map flags. */
export interface Grip extends Grant {
  readonly mfn: number;
  readonly flags: number;
}

/** Where the active entry of a grant stands. */
export const activeAt = (m: Machine, { granter, ref }: Grant): number => granter * refsOf(m.geometry) + ref;

export const isReadOnly = (flags: number): boolean => hasAny(flags, mapFlags.readOnly);

const isHost = (flags: number): boolean => hasAny(flags, mapFlags.host);
const isDevice = (flags: number): boolean => hasAny(flags, mapFlags.device);

/** How many pins, and so references, a use with these map flags has: 0..2. */
export const usesOf = (flags: number): number => (isHost(flags) ? 1 : 0) + (isDevice(flags) ? 1 : 0);

const hostPins = (m: Machine, flags: number): Field => (isReadOnly(flags) ? m.f.activeHostRead : m.f.activeHostWrite);
const devicePins = (m: Machine, flags: number): Field =>
  isReadOnly(flags) ? m.f.activeDeviceRead : m.f.activeDeviceWrite;

const readers = (m: Machine, at: number): number => m.f.activeHostRead.get(at) + m.f.activeDeviceRead.get(at);
const writers = (m: Machine, at: number): number => m.f.activeHostWrite.get(at) + m.f.activeDeviceWrite.get(at);

/** Whether somebody uses the grant. */
export const isPinned = (m: Machine, at: number): boolean => readers(m, at) + writers(m, at) > 0;

/** Whether somebody may write through the grant. */
export const hasWriters = (m: Machine, at: number): boolean => writers(m, at) > 0;

/** Whether a counter that a use needs has its top bit set. */
export function isFull(m: Machine, at: number, flags: number): boolean {
  const top = pow2(m.geometry.width.pin - 1);
  const hostFull = isHost(flags) && hostPins(m, flags).get(at) >= top;
  return hostFull || (isDevice(flags) && devicePins(m, flags).get(at) >= top);
}

function count(m: Machine, at: number, change: { readonly flags: number; readonly by: number }): void {
  if (isHost(change.flags)) hostPins(m, change.flags).add(at, change.by);
  if (isDevice(change.flags)) devicePins(m, change.flags).add(at, change.by);
}

/** One use more, of the frame `mfn` by domain `by`. */
export function addPins(m: Machine, at: number, use: { readonly flags: number; mfn: number; by: number }): void {
  if (!isPinned(m, at)) {
    m.f.activeDomain.set(at, use.by + 1);
    m.f.activeMfn.set(at, use.mfn);
    m.f.activeIncarnation.set(at, m.f.frameIncarnation.get(use.mfn));
  }
  count(m, at, { flags: use.flags, by: 1 });
}

/** Clears the status bits that no pin stands behind: reading with the last use, writing with the last writer. */
export function* lowerStatus(m: Machine, grant: Grant, flags: number): Step<void> {
  const at = activeAt(m, grant);
  const reading = isPinned(m, at) ? 0 : grantFlags.reading;
  const writing = isReadOnly(flags) || hasWriters(m, at) ? 0 : grantFlags.writing;
  yield* clearStatus(m, grant, reading + writing);
}

/** One use less, and the status bits that follow from it; the references stay. */
export function* dropPins(m: Machine, grip: Grip): Step<void> {
  const at = activeAt(m, grip);
  yield* m.port.lock('activeLock', m.f.activeLock, at);
  yield* m.port.point('store', 'active');
  count(m, at, { flags: grip.flags, by: -1 });
  if (!isPinned(m, at)) {
    m.f.activeDomain.set(at, 0);
    m.f.activeMfn.set(at, 0);
    m.f.activeIncarnation.set(at, 0);
  }
  yield* lowerStatus(m, grip, grip.flags);
  yield* m.port.unlock('activeLock', m.f.activeLock, at);
}

/** A use ends: pins and status first, then what it holds. */
export function* dropGrip(m: Machine, grip: Grip, isTyped = true): Step<void> {
  yield* dropPins(m, grip);
  yield* letGoOf(m, grip, isTyped);
}

/** What a use holds of its frame: its types, then its references, the last of which may free the frame and bury its owner. */
export function* letGoOf(m: Machine, { granter, mfn, flags }: Omit<Grip, 'ref'>, isTyped = true): Step<void> {
  if (isTyped) yield* putTypes(m, mfn, typesOf(m, granter, flags));
  for (let left = usesOf(flags); left > 0; left -= 1) yield* putReference(m, mfn);
}

/** How many uses as writable memory a use with these map flags has: only paravirtual guests' frames are used by type. */
const typesOf = (m: Machine, granter: number, flags: number): number =>
  isReadOnly(flags) || !isParavirtual(m, granter) ? 0 : usesOf(flags);

function* putTypes(m: Machine, mfn: number, count: number): Step<void> {
  for (let left = count; left > 0; left -= 1) yield* putType(m, mfn);
}

/** A frame that is held comes to be used as writable memory, as often as the use asks for; false: it cannot be. */
export function* getTypes(m: Machine, { granter, mfn, flags }: Omit<Grip, 'ref'>): Step<boolean> {
  const count = typesOf(m, granter, flags);
  for (let had = 0; had < count; had += 1) {
    if ((yield* getType(m, mfn, WRITABLE)) === undefined) continue;
    yield* putTypes(m, mfn, had);
    return false;
  }
  return true;
}
