// What uses the frames of paravirtual guests, recounted from the machine: entries of validated tables and of partial ones, pins, roots of vCPUs.
// A first reader may skip it. Source: Xen arch/x86/mm.c (get_page_from_l1e to get_page_from_l4e).

import { tableEntries } from '#abi/geometry.ts';
import { frameTypes, levelOfType, tableType } from '#abi/pv.ts';
import type { Machine } from '#impl/machine.ts';
import { isDirect } from '../harness/direct-reach.ts';
import { frameBelow, isHypervisorSlot, isPresent } from '../harness/entry.ts';

/** Uses of one frame: general references, type references by the type that they want, and linear ones. */
export interface Uses {
  refs: number;
  readonly types: Map<string, number>;
  /** Entries of it that lead to other tables of its own level, and such entries that lead to it. */
  linear: number;
  linearUses: number;
}

const isWritable = (lo: number): boolean => Math.floor(lo / 2) % 2 === 1;

class Recount {
  readonly uses = new Map<number, Uses>();
  readonly #m: Machine;

  constructor(m: Machine) {
    this.#m = m;
  }

  note(mfn: number, type: string | undefined): void {
    const uses = this.#of(mfn);
    uses.refs += 1;
    if (type !== undefined) uses.types.set(type, (uses.types.get(type) ?? 0) + 1);
  }

  #of(mfn: number): Uses {
    const known = this.uses.get(mfn);
    if (known !== undefined) return known;
    const uses = { refs: 0, types: new Map<string, number>(), linear: 0, linearUses: 0 };
    this.uses.set(mfn, uses);
    return uses;
  }

  /** Notes an entry that leads to a table of its own level, for reading; false: it does not. */
  #linear({ mfn, level, target }: { mfn: number; level: number; target: number }, lo: number): boolean {
    const type = tableType(level);
    if (!this.#m.pvLinear || level === 1 || isWritable(lo)) return false;
    if (frameTypes[this.#m.f.frameType.get(target)] !== type) return false;
    if (target === mfn) return true;
    this.note(target, type);
    this.#of(mfn).linear += 1;
    this.#of(target).linearUses += 1;
    return true;
  }

  /** Whether an entry of a lowest table to write counts for the frame's type: not of frames of translated guests. */
  #isTyped(table: number, mfn: number): boolean {
    const { frameOwner } = this.#m.f;
    return frameOwner.get(mfn) === frameOwner.get(table) || isDirect(this.#m, frameOwner.get(mfn) - 1);
  }

  /**
   * Every present entry of a table up to one, which may hold a frame alone. Frames of devices are not counted, nor is what stands in the
   * hypervisor's slots of a root that has not been looked through.
   */
  table(mfn: number, level: number, { entries, holds }: { readonly entries: number; readonly holds: boolean }): void {
    const { f, geometry } = this.#m;
    const last = Math.min(tableEntries(geometry), entries + (holds ? 1 : 0));
    const isPassedOver = level === geometry.levels && entries < tableEntries(geometry);
    for (let index = 0; index < last; index += 1) {
      if (isPassedOver && isHypervisorSlot(geometry, index)) continue;
      const at = 2 * (mfn * geometry.wordsPerFrame + index);
      const lo = f.memory.get(at);
      if (!isPresent(lo)) continue;
      const target = frameBelow({ lo, hi: f.memory.get(at + 1) });
      if (target >= geometry.frameCount) continue;
      if (index < entries && this.#linear({ mfn, level, target }, lo)) continue;
      const isUsed = index < entries && (level > 1 || (isWritable(lo) && this.#isTyped(mfn, target)));
      this.note(target, isUsed ? (level > 1 ? frameTypes[level] : 'writable') : undefined);
    }
  }
}

/** Uses by frame. */
export function usesByTables(m: Machine): ReadonlyMap<number, Uses> {
  const { f, geometry } = m;
  const recount = new Recount(m);
  for (let mfn = 1; mfn < geometry.frameCount; mfn += 1) {
    const type = frameTypes[f.frameType.get(mfn)] ?? 'none';
    if (f.framePinned.get(mfn) === 1) recount.note(mfn, type);
    if (levelOfType(type) === 0) continue;
    if (f.frameValidated.get(mfn) === 1) recount.table(mfn, levelOfType(type), { entries: Infinity, holds: false });
    if (f.framePartial.get(mfn) === 0) continue;
    // What is partial is used by itself.
    recount.note(mfn, type);
    const code = f.framePartial.get(mfn) - 1;
    const partial = { entries: Math.floor(code / 2), holds: code % 2 === 1 };
    recount.table(mfn, levelOfType(type), partial);
  }
  const root = frameTypes[geometry.levels + 1];
  for (let key = 0; key < f.vcpuOn.length; key += 1) {
    if (!isDirect(m, Math.floor(key / geometry.capacity.vcpusPerDomain))) continue;
    for (const mfn of [f.vcpuRoot.getWide(key), f.vcpuUserRoot.get(key)]) if (mfn !== 0) recount.note(mfn, root);
    const old = f.vcpuOldTable.get(key);
    if (old !== 0) recount.note(old, undefined);
    const { gdtFrames, ldtFrames } = geometry.capacity;
    for (let at = key * gdtFrames; at < (key + 1) * gdtFrames; at += 1)
      if (f.vcpuGdt.get(at) !== 0) recount.note(f.vcpuGdt.get(at), 'descriptors');
    for (let at = key * ldtFrames; at < (key + 1) * ldtFrames; at += 1)
      if (f.vcpuLdt.get(at) !== 0) recount.note(f.vcpuLdt.get(at), 'descriptors');
  }
  return recount.uses;
}
