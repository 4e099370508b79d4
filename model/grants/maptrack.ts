// The maptrack: a mapper's handles. A handle is taken (flags 0) before anything else happens to a mapping and counts
// from then on; it becomes usable when the mapping is written into it.
// Xen keeps a free list per vCPU; here any unused handle may be given, and the choice is logged.
// Source: Xen common/grant_table.c (get_maptrack_handle, put_maptrack_handle).

import type { DomId, GrantHandle, Mfn } from '#abi/address.ts';
import { allocate, ask, failure, refuse, type Cut } from '../cut.ts';
import { at } from '../progress.ts';
import { withGrants, type Domain, type Mapped, type State } from '../state.ts';

const handleCount = (state: State, mapper: Domain): number =>
  mapper.grants.maptrack.length * state.geometry.capacity.handlesPerMaptrackFrame;

/** The mapping behind a handle; undefined: beyond the maptrack, unused, or not yet mapped. */
export function mappedAt(state: State, mapper: Domain, handle: GrantHandle): Mapped | undefined {
  const isInside = handle >= 0 && handle < handleCount(state, mapper);
  const mapped = isInside ? mapper.grants.handles.get(handle) : undefined;
  return mapped === undefined || mapped.flags === 0 ? undefined : mapped;
}

/** `state` with a handle bound to a mapping; undefined: it is unused. */
export function withHandle(state: State, mapper: DomId, change: { handle: number; mapped: Mapped | undefined }): State {
  const { handle, mapped } = change;
  const handles = state.domains.get(mapper)?.grants.handles;
  if (handles === undefined) return state;
  return withGrants(state, mapper, {
    handles: mapped === undefined ? handles.delete(handle) : handles.set(handle, mapped),
  });
}

/** One more frame of handles, as logged; `mfn` is undefined if the heap was refused. */
function grow(cut: Cut, mapper: Domain): { readonly cut: Cut; readonly mfn: Mfn | undefined } {
  const { cut: given, mfn } = allocate(cut, { order: 0, owner: mapper.id, role: 'xen' });
  if (mfn === undefined) return { cut: given, mfn };
  const maptrack = [...mapper.grants.maptrack, mfn];
  return { cut: at(given, withGrants(given.state, mapper.id, { maptrack })), mfn };
}

/** An unused handle, as logged, bound to `mapped` with flags 0; `handle` is undefined if there is none. */
export function takeHandle(
  cut: Cut,
  mapper: Domain,
  want: { readonly done: number; readonly mapped: Mapped },
): { readonly cut: Cut; readonly handle: GrantHandle | undefined } {
  const refused = failure(cut, { class: 'maptrack', done: want.done, domain: mapper.id });
  if (refused !== undefined) return { cut: refused, handle: undefined };
  const isFull = mapper.grants.handles.size >= handleCount(cut.state, mapper);
  const mayGrow = mapper.grants.maptrack.length < cut.state.geometry.capacity.maptrackFrames;
  const grown = isFull && mayGrow ? grow(cut, mapper) : { cut, mfn: undefined };
  if (isFull && grown.mfn === undefined) return mayGrow ? { cut: grown.cut, handle: undefined } : noneLeft(cut);
  const { cut: after, choice } = ask(grown.cut, ['handle']);
  const now = after.state.domains.get(mapper.id);
  const isFree = now !== undefined && choice.handle < handleCount(after.state, now);
  if (!isFree || now.grants.handles.has(choice.handle))
    return refuse(`handle ${choice.handle} of domain ${mapper.id} is taken although it is not free`, 'FREE');
  const mapped = { ...want.mapped, flags: 0 };
  return {
    cut: at(after, withHandle(after.state, mapper.id, { handle: choice.handle, mapped })),
    handle: choice.handle,
  };
}

/** Every handle is in use: the log must say that the maptrack refused. */
function noneLeft(cut: Cut): never {
  ask(cut, ['failed']);
  return refuse('the maptrack is full, but another refusal was logged', 'refines');
}
