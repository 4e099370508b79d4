// Frames of descriptors that vCPUs have in use: each held and typed, those of a GDT together, those of an LDT one by one.
// A first reader may skip it. Source: Xen arch/x86/pv/descriptor-tables.c (pv_destroy_gdt, pv_destroy_ldt).

import type { Machine } from '../machine.ts';
import { putReference } from '../memory/frames.ts';
import type { Step } from '../port.ts';
import { DESCRIPTORS } from './entry.ts';
import { getPage } from './frames.ts';
import { putType } from './release.ts';
import { getType } from './types.ts';

/** Holds a frame as descriptors; false: it is none of the guest's, or cannot be. */
export function* take(m: Machine, mfn: number, owner: number): Step<boolean> {
  if (!(yield* getPage(m, mfn, owner))) return false;
  if ((yield* getType(m, mfn, DESCRIPTORS)) === undefined) return true;
  yield* putReference(m, mfn);
  return false;
}

/** Lets go of a frame of descriptors. */
export function* put(m: Machine, mfn: number): Step<void> {
  yield* putType(m, mfn);
  yield* putReference(m, mfn);
}

/** The vCPU at `key` has these frames; those that it had. */
export function exchangeGdt(m: Machine, key: number, frames: readonly number[]): readonly number[] {
  const { gdtFrames } = m.geometry.capacity;
  const old: number[] = [];
  for (let at = 0; at < gdtFrames; at += 1) {
    const mfn = m.f.vcpuGdt.get(key * gdtFrames + at);
    if (mfn !== 0) old.push(mfn);
    m.f.vcpuGdt.set(key * gdtFrames + at, frames[at] ?? 0);
  }
  return old;
}

/** The place of a frame of the LDT of the vCPU at `key`. */
export const ldtSlot = (m: Machine, key: number, at: number): number => key * m.geometry.capacity.ldtFrames + at;

/** None is from here on; those that were. */
export function clearLdt(m: Machine, key: number): readonly number[] {
  const old: number[] = [];
  for (let at = 0; at < m.geometry.capacity.ldtFrames; at += 1) {
    const mfn = m.f.vcpuLdt.get(ldtSlot(m, key, at));
    if (mfn !== 0) old.push(mfn);
    m.f.vcpuLdt.set(ldtSlot(m, key, at), 0);
  }
  return old;
}

/** Lets go of what the vCPU at `key` uses of its LDT. */
export function* dropLdt(m: Machine, key: number): Step<void> {
  if (!isInUse(m, key)) return;
  yield* m.port.point('store', 'domain');
  for (const mfn of clearLdt(m, key)) yield* put(m, mfn);
}

function isInUse(m: Machine, key: number): boolean {
  for (let at = 0; at < m.geometry.capacity.ldtFrames; at += 1)
    if (m.f.vcpuLdt.get(ldtSlot(m, key, at)) !== 0) return true;
  return false;
}

/** Lets go of the descriptors of the first vCPU of a dying domain that has any, the LDT's before the GDT's; false: there are none. */
export function* dropDescriptors(m: Machine, dom: number): Step<boolean> {
  const { vcpusPerDomain } = m.geometry.capacity;
  for (let key = dom * vcpusPerDomain; key < (dom + 1) * vcpusPerDomain; key += 1) {
    const old = [...clearLdt(m, key), ...exchangeGdt(m, key, [])];
    m.f.vcpuGdtEntries.set(key, 0);
    if (old.length === 0) continue;
    for (const mfn of old) yield* put(m, mfn);
    return true;
  }
  return false;
}
