// What is done to a frame as a whole: holding it for its owner, keeping others out while an entry of it is changed.
// A first reader may skip it. Sources: Xen arch/x86/mm.c (get_page, page_lock, page_unlock, share_xen_page_with_guest).

import type { Principal } from '#abi/acts.ts';
import type { DomId } from '#abi/address.ts';
import { frameRoles, guestVisibleRoles } from '#abi/roles.ts';
import { pow2 } from '#lib/bits.ts';
import { invariant, present } from '#lib/invariant.ts';
import type { Machine } from '../machine.ts';
import { getReference } from '../memory/frames.ts';
import type { Step } from '../port.ts';

/** Codes of roles that belong to a guest as far as the guest is concerned; what the hypervisor keeps for it does not. */
const owned: readonly number[] = guestVisibleRoles.map((role) => frameRoles.indexOf(role));

/** Whether there is memory in a frame. */
export const isMemory = (m: Machine, mfn: number): boolean => mfn < m.geometry.frameCount;

/** Whether a frame is `owner`'s to name. */
export const isOwned = (m: Machine, mfn: number, owner: number): boolean =>
  isMemory(m, mfn) && m.f.frameOwner.get(mfn) === owner + 1 && owned.includes(m.f.frameRole.get(mfn));

/** Holds a frame of `owner`; false: it is no such frame, or is being freed, or its count is nearly full. */
export function* getPage(m: Machine, mfn: number, owner: number): Step<boolean> {
  yield* m.port.point('reference', 'frame');
  return isOwned(m, mfn, owner) && getReference(m, mfn);
}

/** The most that a count of uses by type can be. */
export const countMax = (m: Machine): number => pow2(m.geometry.width.typeCount) - 1;

/** The slot of the operation that runs now. */
export const ownSlot = (m: Machine): number => present(m.port.current, 'hypervisor code runs within an execution').slot;

/** Keeps others from changing entries of a frame, and its type from ending; false: it has none that is valid, or its count is full. */
export function* lockPage(m: Machine, mfn: number): Step<boolean> {
  const { pageLock, frameValidated, frameTypeCount } = m.f;
  yield* m.port.point('lock', 'pageLock');
  while (pageLock.get(mfn) !== 0) {
    invariant(pageLock.get(mfn) !== ownSlot(m), 'a page lock is not awaited by its own holder');
    yield* m.port.wait(pageLock.get(mfn));
  }
  const count = frameTypeCount.get(mfn);
  if (frameValidated.get(mfn) === 0 || count === 0 || count === countMax(m)) return false;
  pageLock.set(mfn, ownSlot(m));
  return true;
}

export const unlockPage = (m: Machine, mfn: number): Step<void> => m.port.unlock('pageLock', m.f.pageLock, mfn);

/** In whose name tables are read and written. */
export const tableOf = (owner: number): Principal => ({ domain: owner as DomId, purpose: 'table' });
