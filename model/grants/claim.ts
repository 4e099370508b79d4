// How a grant comes into use, for a mapping or for a copy: look up the entry, set its status bits (`mark`), then find and
// hold the frame and count the pin (`take`). The two halves are separate micro-steps, because the granter may rewrite the
// entry between the compare-exchange and the reading of its frame.
// Sources: Xen common/grant_table.c (map_grant_ref, acquire_grant_for_copy, get_paged_frame).

import type { DomId, Gfn, GrantRef, Mfn, Word } from '#abi/address.ts';
import type { GrantStatus } from '#abi/grants.ts';
import { failure, type Cut } from '../cut.ts';
import { getReference } from '../frames.ts';
import { wish } from '../memory/pod-demand.ts';
import { at, type Work } from '../progress.ts';
import { isSeen } from '../pv/references.ts';
import { entryOf, frameOf, isRamType, type Active, type Domain, type State } from '../state.ts';
import { readEntry, refCount, setStatus } from './entry.ts';
import { entryWord, groundAfter } from './ground.ts';
import { addPins, countersOf, hasWriters, isFull, isReadOnly, lowerStatus } from './pins.ts';

/** A use that is asked for: of whose grant, by whom, with which map flags. */
export interface Wanted {
  readonly granter: DomId;
  readonly ref: GrantRef;
  readonly by: DomId;
  readonly flags: number;
  readonly purpose: 'map' | 'copy';
}

/** Whether the active entry refuses: it is somebody else's, or a counter is full. */
const isBarred = (state: State, active: Active | undefined, want: Wanted): boolean =>
  active !== undefined && (active.domain !== want.by || isFull(state, active, want.flags));

/** Whether the shared entry must be asked: nobody uses it yet, or nobody writes yet and this use wants to. */
const needsStatus = (active: Active | undefined, want: Wanted): boolean =>
  active === undefined || (!isReadOnly(want.flags) && !hasWriters(active));

/** What came of setting status bits. `asked`: the entry as it stood then, if it had to be asked. */
export interface Marked {
  readonly cut: Cut;
  readonly status: GrantStatus;
  readonly asked?: Word;
}

/** Checks the reference and sets the status bits. `done`: the element, for failures. */
export function mark(cut: Cut, want: Wanted, done: number): Marked {
  const { state } = cut;
  const granter = state.domains.get(want.granter);
  if (granter === undefined) return { cut, status: 'badDomain' };
  if (want.ref >= refCount(state, granter)) return { cut, status: 'badGntref' };
  const active = granter.grants.active.get(want.ref);
  if (isBarred(state, active, want)) return { cut, status: 'generalError' };
  if (!needsStatus(active, want)) return { cut, status: 'okay' };
  const lost = failure(cut, { class: 'compareExchange', done });
  if (lost !== undefined) return { cut: lost, status: 'generalError' };
  const use = { by: want.by, readOnly: isReadOnly(want.flags), purpose: want.purpose, isPinned: active !== undefined };
  const marked = setStatus(state, granter, { ...use, ref: want.ref });
  if (marked === undefined) return { cut, status: 'generalError' };
  return { cut: at(cut, marked), status: 'okay', asked: entryWord(state, want) };
}

/** The frame that a gfn of the granter names (a paravirtual guest's: itself): RAM or a hypervisor page of its own; undefined: badPage. */
export function pagedFrame(state: State, domain: Domain, gfn: number): Mfn | undefined {
  if (domain.kind === 'pv') return isSeen(state, gfn as Mfn, domain.id) ? (gfn as Mfn) : undefined;
  const entry = entryOf(state, domain.id, gfn);
  const isOwn = entry !== undefined && isRamType(entry.type) && frameOf(state, entry.mfn).owner === domain.id;
  return isOwn ? entry.mfn : undefined;
}

/** What the shared entry names is populated if it is on demand: that takes the granter's memory. */
function wishForNamed(cut: Cut, work: Pick<Work, 'trail'>, granter: Domain, want: Wanted): void {
  const gfn = readEntry(cut.state, granter, want.ref)?.gfn;
  if (gfn !== undefined) wish(cut, work, { domain: granter.id, gfn: gfn as Gfn });
}

/** Whether the frame is looked up anew: nobody uses it yet, or a copy starts writing. */
const isAnew = (active: Active | undefined, want: Wanted): boolean =>
  active === undefined || (want.purpose === 'copy' && needsStatus(active, want));

/** Whether the frame of a grant in use lives the life in which it was granted: the entries of a paravirtual mapper may have let go of it. */
const isSameLife = (state: State, { mfn, ground }: Active): boolean =>
  frameOf(state, mfn).incarnation === ground.meant?.incarnation;

/** The frame that the use means: what is pinned already, or what the entry names now. A copy that starts writing asks anew. */
function resolve(state: State, granter: Domain, want: Wanted): Mfn | GrantStatus {
  const active = granter.grants.active.get(want.ref);
  if (active === undefined || isAnew(active, want)) {
    const mfn = pagedFrame(state, granter, readEntry(state, granter, want.ref)?.gfn ?? 0);
    if (mfn === undefined) return 'badPage';
    return active === undefined || (active.mfn === mfn && isSameLife(state, active)) ? mfn : 'generalError';
  }
  const isOwned = frameOf(state, active.mfn).owner === granter.id && isSameLife(state, active);
  if (want.purpose === 'map') return isOwned ? active.mfn : 'generalError';
  return isOwned && granter.state === 'running' ? active.mfn : 'badDomain';
}

/** `state` with `count` references on `mfn`; or how many it could have. */
function hold(state: State, mfn: Mfn, count: number): State | number {
  let now = state;
  for (let i = 0; i < count; i += 1) {
    const held = getReference(now, mfn);
    if (held === undefined) return i;
    now = held;
  }
  return now;
}

/** Why no reference could be had: the first one of a frame just looked up is part of the look-up. */
function unheld(active: Active | undefined, want: Wanted, held: number): GrantStatus {
  if (active === undefined && held === 0) return 'badPage';
  return want.purpose === 'map' ? 'generalError' : 'badDomain';
}

/** The frame is held and pinned, or why not: then the status bits are lowered again. `asked`: what marking has found. */
export function take(
  cut: Cut,
  work: Pick<Work, 'trail' | 'asked'>,
  want: Wanted,
): { readonly state: State; readonly mfn: Mfn | GrantStatus } {
  const { state } = cut;
  const { asked } = work;
  const granter = state.domains.get(want.granter);
  const active = granter?.grants.active.get(want.ref);
  if (granter === undefined) return { state, mfn: 'badDomain' };
  const isOpen = !isBarred(state, active, want);
  if (isOpen && isAnew(active, want)) wishForNamed(cut, work, granter, want);
  const mfn = isOpen ? resolve(state, granter, want) : 'generalError';
  if (typeof mfn === 'string') return { state: lowerStatus(state, want), mfn };
  const held = hold(state, mfn, countersOf(want.flags).length);
  if (typeof held === 'number') return { state: lowerStatus(state, want), mfn: unheld(active, want, held) };
  const ground = groundAfter(state, { ...want, asked, writes: !isReadOnly(want.flags) }, active?.ground);
  return { state: addPins(held, { ...want, mfn, ground }), mfn };
}
