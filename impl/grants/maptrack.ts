// The maptrack: a mapper's handles and what each stands for. A free list runs through the entries: a new frame's handles
// join it lowest first, a freed handle goes to its end. An entry is in use once its flags are set, which happens last.
// Xen keeps a list per vCPU and steals between them; here there is one.
// Source: Xen common/grant_table.c (get_maptrack_handle, put_maptrack_handle).

import type { DomId, GrantHandle } from '#abi/address.ts';
import { handlesOf } from '../layout.ts';
import type { Machine } from '../machine.ts';
import { allocate } from '../memory/heap.ts';
import { exists } from '../memory/target.ts';
import type { Step } from '../port.ts';
import type { Grant } from './entry.ts';

/** What a handle stands for. `flags` are those map flags that still stand; 0: nothing. */
export interface Mapped extends Grant {
  /** In which life of its id the granter gave it. */
  readonly life: number;
  readonly flags: number;
  readonly gfn: number;
}

/** Whether there is the granter of a mapping still: a paravirtual mapper may have let go of what kept it. */
export const isStill = (m: Machine, { granter, life }: Mapped): boolean =>
  exists(m, granter) && m.f.domLife.get(granter) === life;

/** Where the maptrack entry of a handle stands. */
const trackAt = (m: Machine, mapper: number, handle: number): number => mapper * handlesOf(m.geometry) + handle;

/** How many handles `mapper` has, free or not. */
export const handleCount = (m: Machine, mapper: number): number =>
  m.f.maptrackFrameCount.get(mapper) * m.geometry.capacity.handlesPerMaptrackFrame;

/** The mapping behind a handle; undefined: beyond the maptrack, unused, or not yet mapped. */
export function mappedAt(m: Machine, mapper: number, handle: number): Mapped | undefined {
  if (!(handle >= 0 && handle < handleCount(m, mapper))) return undefined;
  const at = trackAt(m, mapper, handle);
  const flags = m.f.trackFlags.get(at);
  if (flags === 0) return undefined;
  return {
    granter: m.f.trackDomain.get(at),
    ref: m.f.trackRef.get(at),
    life: m.f.trackLife.get(at),
    flags,
    gfn: m.f.trackGfn.getWide(at),
  };
}

/** Lets a handle that was taken stand for a mapping. */
export function bindHandle(m: Machine, of: { readonly mapper: number; readonly handle: number }, to: Mapped): void {
  const at = trackAt(m, of.mapper, of.handle);
  m.f.trackDomain.set(at, to.granter);
  m.f.trackRef.set(at, to.ref);
  m.f.trackLife.set(at, to.life);
  m.f.trackGfn.setWide(at, to.gfn);
  m.f.trackFlags.set(at, to.flags);
}

/** Puts a handle at the end of the free list. */
function append(m: Machine, mapper: number, handle: number): void {
  const tail = m.f.maptrackTail.get(mapper);
  m.f.trackNext.set(trackAt(m, mapper, handle), 0);
  if (tail === 0) m.f.maptrackHead.set(mapper, handle + 1);
  else m.f.trackNext.set(trackAt(m, mapper, tail - 1), handle + 1);
  m.f.maptrackTail.set(mapper, handle + 1);
}

/** One more frame of handles; false: the heap refused it. */
function* grow(m: Machine, mapper: number): Step<boolean> {
  const mfn = yield* allocate(m, { order: 0, owner: mapper as DomId, role: 'xen' });
  if (mfn === 0) return false;
  const first = handleCount(m, mapper);
  const slot = mapper * m.geometry.capacity.maptrackFrames + m.f.maptrackFrameCount.get(mapper);
  m.f.maptrackFrame.set(slot, mfn);
  m.f.maptrackFrameCount.add(mapper, 1);
  for (let handle = first; handle < handleCount(m, mapper); handle += 1) append(m, mapper, handle);
  return true;
}

/** Takes an unused handle; -1: there is none. `done`: the element, for the log. */
export function* takeHandle(m: Machine, mapper: number, done: number): Step<number> {
  yield* m.port.lock('maptrackLock', m.f.maptrackLock, mapper);
  const handle = (yield* makeRoom(m, mapper, done)) ? m.f.maptrackHead.get(mapper) - 1 : -1;
  if (handle >= 0) {
    const next = m.f.trackNext.get(trackAt(m, mapper, handle));
    m.f.maptrackHead.set(mapper, next);
    if (next === 0) m.f.maptrackTail.set(mapper, 0);
    m.port.choose({ kind: 'handle', handle: handle as GrantHandle });
  }
  yield* m.port.unlock('maptrackLock', m.f.maptrackLock, mapper);
  return handle;
}

/** Sees to it that there is a free handle; false: refused. */
function* makeRoom(m: Machine, mapper: number, done: number): Step<boolean> {
  const injected = m.port.fails('maptrack');
  if (!injected && m.f.maptrackHead.get(mapper) !== 0) return true;
  const isFull = m.f.maptrackFrameCount.get(mapper) >= m.geometry.capacity.maptrackFrames;
  if (!injected && !isFull) return yield* grow(m, mapper);
  m.port.refuse('maptrack', done);
  return false;
}

/** Gives a handle back: it stands for nothing any more. */
export function* giveHandle(m: Machine, mapper: number, handle: number): Step<void> {
  const at = trackAt(m, mapper, handle);
  yield* m.port.lock('maptrackLock', m.f.maptrackLock, mapper);
  m.f.trackFlags.set(at, 0);
  m.f.trackDomain.set(at, 0);
  m.f.trackRef.set(at, 0);
  m.f.trackLife.set(at, 0);
  m.f.trackGfn.setWide(at, 0);
  append(m, mapper, handle);
  yield* m.port.unlock('maptrackLock', m.f.maptrackLock, mapper);
}
