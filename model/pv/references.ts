// References on frames of a paravirtual guest, its pins, and the lock of a page whose words are being changed.
// A reference is had only on what the guest can see: frames of the hypervisor's own that go with it are nobody's to name.
// A first reader may skip nothing. Sources: Xen arch/x86/mm.c (get_page, put_page, page_lock, page_unlock, MMUEXT_PIN_*,
// MMUEXT_UNPIN_TABLE), common/memory.c (guest_remove_page).

import type { DomId, Mfn } from '#abi/address.ts';
import { pow2 } from '#lib/bits.ts';
import { wait } from '../cut.ts';
import { visibleAs } from '../entitlement.ts';
import { dropAllocated, getReference, putReference } from '../frames.ts';
import { isStill } from '../life.ts';
import { frameOf, withFrame, type Frame, type State } from '../state.ts';
import type { Effect, Performers } from './effect.ts';

/** Whether a frame is one of the owner's that it can see. */
export function isSeen(state: State, mfn: Mfn, owner: DomId): boolean {
  const frame = frameOf(state, mfn);
  return mfn < state.geometry.frameCount && frame.owner === owner && visibleAs[frame.role] !== undefined;
}

/** One reference more, if the frame is one of the owner's. */
const get = (state: State, mfn: Mfn, owner: DomId): State | undefined =>
  isSeen(state, mfn, owner) ? getReference(state, mfn) : undefined;

/** What a type count can be at most. */
export const countMax = ({ geometry }: State): number => pow2(geometry.width.typeCount) - 1;

/** How far the count of linear uses goes up. */
export const linearMax = ({ geometry }: State): number => pow2(geometry.width.linear - 1) - 1;

/** A lock counts as one more that uses the frame as what it is. */
export const usesOf = ({ typeCount, locked }: Frame): number => typeCount + (locked ? 1 : 0);

type ReferenceActs = 'getPage' | 'putPage' | 'dropAllocated' | 'lock' | 'unlock' | 'pin' | 'unpin';

export const references: Performers<ReferenceActs> = {
  getPage: (state, { mfn, owner, life }) => {
    const held = life === undefined || isStill(state, owner, life) ? get(state, mfn, owner) : undefined;
    return held === undefined ? { state, failed: 'EINVAL' } : { state: held };
  },

  putPage: (state, { mfn }) => ({ state: putReference(state, mfn) }),

  // The hypervisor's own pages stay, whoever lets go of them.
  dropAllocated: (state, { mfn }) => ({
    state: frameOf(state, mfn).role === 'ram' ? dropAllocated(state, mfn) : state,
  }),

  lock: (state, { mfn, then, otherwise }): Effect => {
    const frame = frameOf(state, mfn);
    if (frame.locked) return wait();
    const isLockable = frame.validated && frame.typeCount > 0 && frame.typeCount < countMax(state);
    return isLockable ? { state: withFrame(state, mfn, { locked: true }), first: then } : { state, first: otherwise };
  },

  unlock: (state, { mfn }) => ({ state: withFrame(state, mfn, { locked: false }) }),

  // A pin on what somebody else's domain leaves behind would never be taken away.
  pin: (state, { mfn, caller }): Effect => {
    const { pinned, owner } = frameOf(state, mfn);
    if (pinned) return { state, failed: 'EINVAL' };
    const isLeaving = owner !== undefined && owner !== caller && state.domains.get(owner)?.state !== 'running';
    if (isLeaving)
      return {
        state,
        first: [
          { do: 'putType', mfn },
          { do: 'putPage', mfn },
        ],
      };
    return { state: withFrame(state, mfn, { pinned: true }) };
  },

  unpin: (state, { mfn }) =>
    frameOf(state, mfn).pinned ? { state: withFrame(state, mfn, { pinned: false }) } : { state, failed: 'EINVAL' },
};
