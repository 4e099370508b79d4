// Simulated hardware, and so a judge: what the hypervisor's own slots of every root have for the hypervisor itself, as far as it is of use to
// anybody else: all of the machine's memory, frame after frame (its direct map). Guests have no entry there; the hypervisor's own accesses need none.
// A first reader may skip it. Source: Xen asm/config.h (DIRECTMAP_VIRT_START), asm/x86_64/page.h (maddr_to_virt).

import type { Principal } from '#abi/acts.ts';
import { framesPerLeaf } from '#abi/geometry.ts';
import type { Machine } from '../machine.ts';

/** The frame at a linear page in the hypervisor's slots, as tables translate it: an act like every other of the hypervisor's. */
export function ownWindow(
  m: Machine,
  who: Principal,
  at: { readonly page: number; readonly offset: number; readonly write: boolean },
): number {
  const first = m.geometry.rootSlots.from * framesPerLeaf(m.geometry, m.geometry.levels);
  const mfn = (at.page - first) % m.geometry.frameCount;
  m.port.watcher?.(who, at.write ? 'store' : 'load', { mfn, index: Math.floor(at.offset / 8) });
  return mfn;
}
