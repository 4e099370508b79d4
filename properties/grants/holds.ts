// What the uses of grants hold of frames, recounted from the machine's active entries: each pin a reference, and to write a paravirtual
// guest's frame a use of its type. What a paravirtual mapper has in its tables is held by the entries there, not by the pins.
// A first reader may skip it. Source: Xen common/grant_table.c (map_grant_ref, unmap_common_complete).

import { refsOf } from '#impl/layout.ts';
import type { Machine } from '#impl/machine.ts';
import { isDirect } from '../harness/direct-reach.ts';

/** General references to a frame, and uses of it as writable. */
export interface Holds {
  readonly refs: number;
  readonly types: number;
}

/** Whether all of the pins of the active entry at `key` stand for entries in a paravirtual guest's tables. */
export const isByEntries = (m: Machine, key: number): boolean =>
  isDirect(m, m.f.activeDomain.get(key) - 1) && m.f.activeDeviceRead.get(key) + m.f.activeDeviceWrite.get(key) === 0;

/** Holds by frame. */
export function holdsOfPins(m: Machine): ReadonlyMap<number, Holds> {
  const { f, geometry } = m;
  const holds = new Map<number, Holds>();
  for (let key = 0; key < f.activeMfn.length; key += 1) {
    const isNative = isDirect(m, f.activeDomain.get(key) - 1);
    const reads = f.activeDeviceRead.get(key) + (isNative ? 0 : f.activeHostRead.get(key));
    const writes = f.activeDeviceWrite.get(key) + (isNative ? 0 : f.activeHostWrite.get(key));
    if (reads + writes === 0) continue;
    const mfn = f.activeMfn.get(key);
    const old = holds.get(mfn) ?? { refs: 0, types: 0 };
    const isTyped = isDirect(m, Math.floor(key / refsOf(geometry)));
    holds.set(mfn, { refs: old.refs + reads + writes, types: old.types + (isTyped ? writes : 0) });
  }
  return holds;
}
