// What is done to a frame as a whole: holding it for its owner, keeping others out while an entry of it is changed.
// A first reader may skip it. Sources: Xen arch/x86/mm.c (get_page, page_lock, page_unlock, share_xen_page_with_guest).

import type { Principal } from '#abi/acts.ts';
import type { DomId } from '#abi/address.ts';
import { frameRoles, guestVisibleRoles } from '#abi/roles.ts';
import { pow2 } from '#lib/bits.ts';
import { invariant, present } from '#lib/invariant.ts';
import type { Execution } from '../execution.ts';
import type { Machine } from '../machine.ts';
import { getReference } from '../memory/frames.ts';
import type { Step } from '../port.ts';
import { WRITABLE } from './entry.ts';

/** Codes of roles that belong to a guest as far as the guest is concerned; what the hypervisor keeps for it does not. */
const owned: readonly number[] = guestVisibleRoles.map((role) => frameRoles.indexOf(role));

/** Whether there is memory in a frame. */
export const isMemory = (m: Machine, mfn: number): boolean => mfn < m.geometry.frameCount;

/** Whether a frame is `owner`'s to name. */
export const isOwned = (m: Machine, mfn: number, owner: number): boolean =>
  isMemory(m, mfn) && m.f.frameOwner.get(mfn) === owner + 1 && owned.includes(m.f.frameRole.get(mfn));

/** Holds a frame of `owner` (in that life of it, if it may have gone by now); false: it is no such frame, or is being freed, or its count is nearly full. */
export function* getPage(m: Machine, mfn: number, owner: number, life?: number): Step<boolean> {
  yield* m.port.point('reference', 'frame');
  const isStill = life === undefined || m.f.domLife.get(owner) === life;
  return isStill && isOwned(m, mfn, owner) && getReference(m, mfn);
}

/** What the hypervisor shares with a paravirtual guest can be nothing but writable as long as the guest is there. */
export function beginWritable(m: Machine, mfn: number): void {
  m.f.frameType.set(mfn, WRITABLE);
  m.f.frameTypeCount.set(mfn, 1);
  m.f.frameValidated.set(mfn, 1);
}

/** The most that a count of uses by type can be. */
export const countMax = (m: Machine): number => pow2(m.geometry.width.typeCount) - 1;

/** The operation that runs now. */
export const running = (m: Machine): Execution => present(m.port.current, 'hypervisor code runs within an execution');

/** Its slot. */
export const ownSlot = (m: Machine): number => running(m).slot;

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

/** How far a partial table is: so many of its entries are held, and of the next one perhaps its frame alone. */
export interface Progress {
  readonly entries: number;
  readonly holds: boolean;
}

/** Says how far a table is that is partial from here on. */
export const setPartial = (m: Machine, mfn: number, { entries, holds }: Progress): void =>
  m.f.framePartial.set(mfn, 1 + 2 * entries + (holds ? 1 : 0));

/** How far a partial table was, which is in hand from here on; undefined: it is none. */
export function takePartial(m: Machine, mfn: number): Progress | undefined {
  const code = m.f.framePartial.get(mfn) - 1;
  if (code < 0) return undefined;
  m.f.framePartial.set(mfn, 0);
  m.f.frameValidator.set(mfn, ownSlot(m));
  return { entries: Math.floor(code / 2), holds: code % 2 === 1 };
}

/** In whose name tables are read and written. */
export const tableOf = (owner: number): Principal => ({ domain: owner as DomId, purpose: 'table' });
