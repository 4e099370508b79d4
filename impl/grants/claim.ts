// How a grant comes into use, for a mapping or for a copy: judge the active and the shared entry, set the status bits, then
// find and hold the frame and count the pins. All of it under the active lock of that one grant.
// What is pinned already is not looked up again: neither the granter's entry nor its P2M. A copy that is the first to write
// does look again, and must find the same frame.
// Sources: Xen common/grant_table.c (map_grant_ref, acquire_grant_for_copy, get_paged_frame); XSA-224, XSA-230, XSA-236.

import type { GrantStatus } from '#abi/grants.ts';
import { lookup } from '../hap/table.ts';
import { refsOf } from '../layout.ts';
import type { Machine } from '../machine.ts';
import { getReference, putReference } from '../memory/frames.ts';
import { isRamType } from '../memory/p2m.ts';
import { demand, isOnDemand } from '../memory/pod-demand.ts';
import { exists, isAlive, isParavirtual } from '../memory/target.ts';
import type { Step } from '../port.ts';
import { isOwned } from '../pv/frames.ts';
import { activeAt, addPins, hasWriters, isFull, isPinned, isReadOnly, lowerStatus, usesOf } from './active.ts';
import { loadGfn, refCount, setStatus, type Grant } from './entry.ts';

/** A use that is asked for: of whose grant, by whom, with which map flags. `done`: the element, for the log. */
export interface Wanted extends Grant {
  readonly by: number;
  readonly flags: number;
  readonly purpose: 'map' | 'copy';
  readonly done: number;
}

/** The frame that is now in use, or why not (then `mfn` is 0). */
export interface Taken {
  readonly status: GrantStatus;
  readonly mfn: number;
}

const refusal = (status: GrantStatus): Taken => ({ status, mfn: 0 });

/** Takes a grant into use. */
export function* acquire(m: Machine, want: Wanted): Step<Taken> {
  if (!exists(m, want.granter)) return refusal('badDomain');
  if (want.ref >= refsOf(m.geometry)) return refusal('badGntref');
  const at = activeAt(m, want);
  yield* m.port.lock('activeLock', m.f.activeLock, at);
  const status = yield* mark(m, want);
  const taken = status === 'okay' ? yield* take(m, want) : refusal(status);
  yield* m.port.unlock('activeLock', m.f.activeLock, at);
  return taken;
}

/** Whether the shared entry must be asked: nobody uses it yet, or nobody writes yet and this use wants to. */
const needsStatus = (m: Machine, at: number, want: Wanted): boolean =>
  !isPinned(m, at) || (!isReadOnly(want.flags) && !hasWriters(m, at));

/** Checks the reference and sets the status bits. */
function* mark(m: Machine, want: Wanted): Step<GrantStatus> {
  const at = activeAt(m, want);
  yield* m.port.point('load', 'active');
  if (!exists(m, want.granter)) return 'badDomain';
  if (want.ref >= refCount(m, want.granter)) return 'badGntref';
  const pinned = isPinned(m, at);
  if (pinned && m.f.activeDomain.get(at) !== want.by + 1) return 'generalError';
  if (pinned && isFull(m, at, want.flags)) return 'generalError';
  if (!needsStatus(m, at, want)) return 'okay';
  const injected = m.port.fails('compareExchange');
  const use = { by: want.by, readOnly: isReadOnly(want.flags), purpose: want.purpose, isPinned: pinned };
  const marked = injected ? 'unstable' : yield* setStatus(m, want, use);
  if (marked === 'unstable') m.port.refuse('compareExchange', want.done);
  return marked === 'okay' ? 'okay' : 'generalError';
}

/** Whether `gfn` of `dom`, which is to be used, is on demand and has been populated just now: then it must be looked up anew. */
export function* isPopulated(m: Machine, dom: number, gfn: number): Step<boolean> {
  return isOnDemand(m, dom, gfn) && (yield* demand(m, dom, gfn));
}

/** The frame of its own, RAM or a hypervisor page, that `gfn` of domain `dom` names (a paravirtual guest's: itself); 0: none. */
export function pagedFrame(m: Machine, dom: number, gfn: number): number {
  if (isParavirtual(m, dom)) return isOwned(m, gfn, dom) ? gfn : 0;
  const found = lookup(m, dom, gfn);
  if (found === undefined || !isRamType(found.type)) return 0;
  return m.f.frameOwner.get(found.mfn) === dom + 1 ? found.mfn : 0;
}

/** Holds and pins the frame; if that cannot be, the status bits are lowered again. */
function* take(m: Machine, want: Wanted): Step<Taken> {
  const at = activeAt(m, want);
  const pinned = isPinned(m, at);
  const isAnew = !pinned || (want.purpose === 'copy' && needsStatus(m, at, want));
  const resolved = isAnew ? yield* resolve(m, want) : yield* recall(m, want);
  if (resolved.status === 'okay') {
    // No point in between: the frame is held in the same act in which it was found.
    const held = hold(m, resolved.mfn, usesOf(want.flags));
    if (held === usesOf(want.flags)) {
      addPins(m, at, { flags: want.flags, mfn: resolved.mfn, by: want.by });
      return resolved;
    }
    yield* lowerStatus(m, want, want.flags);
    for (let left = held; left > 0; left -= 1) yield* putReference(m, resolved.mfn);
    return refusal(unheld(want, { pinned, held }));
  }
  yield* lowerStatus(m, want, want.flags);
  return resolved;
}

/** The gfn that the shared entry names, populated if it is on demand; what that took the granter could use to name another. */
function* loadPopulated(m: Machine, want: Wanted): Step<number> {
  const refused: number[] = [];
  for (;;) {
    const gfn = yield* loadGfn(m, want);
    if (refused.includes(gfn) || !isOnDemand(m, want.granter, gfn)) return gfn;
    if (!(yield* demand(m, want.granter, gfn))) refused.push(gfn);
  }
}

/** The frame that the shared entry names now. */
function* resolve(m: Machine, want: Wanted): Step<Taken> {
  const at = activeAt(m, want);
  const gfn = yield* loadPopulated(m, want);
  const mfn = pagedFrame(m, want.granter, gfn);
  if (mfn === 0) return refusal('badPage');
  if (isPinned(m, at) && (m.f.activeMfn.get(at) !== mfn || !isSameLife(m, at))) return refusal('generalError');
  return { status: 'okay', mfn };
}

/** Whether the frame in use lives the life in which it was granted: the entries of a paravirtual mapper may have let go of it. */
export const isSameLife = (m: Machine, at: number): boolean =>
  m.f.frameIncarnation.get(m.f.activeMfn.get(at)) === m.f.activeIncarnation.get(at);

/** The frame that is pinned already. */
function* recall(m: Machine, want: Wanted): Step<Taken> {
  yield* m.port.point('reference', 'frame');
  const mfn = m.f.activeMfn.get(activeAt(m, want));
  const isGranters = m.f.frameOwner.get(mfn) === want.granter + 1 && isSameLife(m, activeAt(m, want));
  if (want.purpose === 'map') return isGranters ? { status: 'okay', mfn } : refusal('generalError');
  return isGranters && isAlive(m, want.granter) ? { status: 'okay', mfn } : refusal('badDomain');
}

/** Takes up to `count` references; answers how many could be had. */
function hold(m: Machine, mfn: number, count: number): number {
  for (let held = 0; held < count; held += 1) if (!getReference(m, mfn)) return held;
  return count;
}

/** Why no reference could be had: the first one of a frame just looked up is part of the look-up. */
function unheld(want: Wanted, { pinned, held }: { readonly pinned: boolean; readonly held: number }): GrantStatus {
  if (!pinned && held === 0) return 'badPage';
  return want.purpose === 'map' ? 'generalError' : 'badDomain';
}
