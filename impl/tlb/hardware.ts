// Simulated hardware, and so a judge: what a processor remembers of nested tables. Each pCPU has a ring of paging-structure
// entries, pointers to tables and leaves alike, as they were when they were loaded, each with a tag: with EPT the root it was
// reached from, with NPT the ASID under which the guest ran, whatever the root was. Only entries with the present tag answer.
// It keeps everything until it is told to forget, or until the ring is full and the oldest goes.
// A ring is used without gaps: its entries lie just before `cacheNext`, the newest last.
// A first reader may skip `forget`. Sources: Intel SDM vol. 3C, "Caching Translation Information", "EPT and Cached
// Information", INVEPT (single-context); AMD64 APM vol. 2, "TLB Control".

import { invariant } from '#lib/invariant.ts';
import { isLeafEntry } from '../hap/hardware.ts';
import type { Machine } from '../machine.ts';
import { evictLinear, forgetAllLinear, forgetAsid, forgetRoot } from './linear-cache.ts';

/** What is looked for: on which pCPU, in the tables under which root, for which guest frame. */
export interface Place {
  readonly pcpu: number;
  readonly root: number;
  readonly gfn: number;
}

/** The tag of entries that serve there now; never 0. */
export const tagOf = (m: Machine, { pcpu, root }: Omit<Place, 'gfn'>): number =>
  m.format === 'npt' ? m.f.pcpuAsid.get(pcpu) : root;

/**
 * VMRUN: the processor goes on with its guest under `asid`. Before that it forgets nothing, all that it has under that
 * ASID, or all that it has. ASID 0 is the host's, and no guest can be run under it.
 */
export function run(
  m: Machine,
  pcpu: number,
  guest: { readonly asid: number; readonly forget: 'nothing' | 'asid' | 'all' },
): void {
  invariant(guest.asid !== 0, 'no guest runs under the ASID of the host');
  if (guest.forget === 'asid') invalidate(m, pcpu, guest.asid);
  if (guest.forget === 'all') {
    forget(m, pcpu, () => true);
    forgetAllLinear(m, pcpu);
    m.f.pcpuRounds.add(pcpu, 1);
  }
  m.f.pcpuAsid.set(pcpu, guest.asid);
}

/** VM entry under `vpid`; 0: without one, and then the processor forgets what it has combined without one. */
export function vmEntry(m: Machine, pcpu: number, vpid: number): void {
  if (vpid === 0) forgetAsid(m, pcpu, 0);
  m.f.pcpuAsid.set(pcpu, vpid);
}

/** INVVPID of all contexts: what was combined with guests' tables goes, what is of the nested tables alone stays. */
export function invvpidAll(m: Machine, pcpu: number): void {
  forgetAllLinear(m, pcpu);
  m.f.pcpuRounds.add(pcpu, 1);
}

/** The slot of a pCPU's entry that is `age` loads old (1: the newest). */
export function slotOf(m: Machine, pcpu: number, age: number): number {
  const size = m.geometry.capacity.cacheEntries;
  return pcpu * size + ((m.f.cacheNext.get(pcpu) - age + size) % size);
}

/** The age of the newest entry older than `age` that covers the place; 0: there is none. */
export function olderAnswer(m: Machine, place: Place, age: number): number {
  const { cacheTag, cacheGfn, cacheLevel } = m.f;
  const { span } = m.walker;
  const wanted = tagOf(m, place);
  for (let at = age + 1; at <= m.geometry.capacity.cacheEntries; at += 1) {
    const slot = slotOf(m, place.pcpu, at);
    const tag = cacheTag.get(slot);
    if (tag === 0) return 0;
    if (tag !== wanted) continue;
    const offset = place.gfn - cacheGfn.getWide(slot);
    if (offset >= 0 && offset < (span[cacheLevel.get(slot)] as number)) return at;
  }
  return 0;
}

/** Remembers the entry that the last walk loaded at `level`. An entry that is known already keeps its place. */
export function insert(m: Machine, place: Place, level: number): void {
  const { f, walker } = m;
  const { pcpu, gfn } = place;
  const low = walker.low[level] as number;
  const high = walker.high[level] as number;
  const rights = walker.folded[level] as number;
  const first = gfn - (gfn % (walker.span[level] as number));
  const tag = tagOf(m, place);
  const known = findSame(m, pcpu, { tag, level, first, low, high, rights });
  if (known >= 0) {
    f.cacheLo.set(known, low | f.cacheLo.get(known));
    return;
  }
  const size = m.geometry.capacity.cacheEntries;
  const next = f.cacheNext.get(pcpu);
  const slot = pcpu * size + next;
  f.cacheTag.set(slot, tag);
  f.cacheLevel.set(slot, level);
  f.cacheGfn.setWide(slot, first);
  f.cacheLo.set(slot, low);
  f.cacheHi.set(slot, high);
  f.cacheRights.set(slot, rights);
  f.cacheLife.set(slot, lifeOf(m, level, { low, high }));
  f.cacheVcpu.set(slot, f.pcpuVcpu.get(pcpu));
  f.cacheNext.set(pcpu, (next + 1) % size);
}

interface Loaded {
  readonly tag: number;
  readonly level: number;
  readonly first: number;
  readonly low: number;
  readonly high: number;
  readonly rights: number;
}

/** The slot of a pCPU that holds the same entry, but perhaps for the dirty flag; -1: none does. */
function findSame(m: Machine, pcpu: number, entry: Loaded): number {
  const { f, walker } = m;
  for (let age = 1; age <= m.geometry.capacity.cacheEntries; age += 1) {
    const slot = slotOf(m, pcpu, age);
    const tag = f.cacheTag.get(slot);
    if (tag === 0) return -1;
    if (tag !== entry.tag || f.cacheLevel.get(slot) !== entry.level) continue;
    if (!walker.isSameButDirty(f.cacheLo.get(slot), entry.low) || f.cacheHi.get(slot) !== entry.high >>> 0) continue;
    if (f.cacheGfn.getWide(slot) === entry.first && f.cacheRights.get(slot) === entry.rights) return slot;
  }
  return -1;
}

/** Ghost: which life of the table or of the (first) frame an entry was loaded for. */
function lifeOf(m: Machine, level: number, entry: { readonly low: number; readonly high: number }): number {
  const mfn = m.walker.frameOf(level, entry.low, entry.high);
  if (mfn >= m.geometry.frameCount) return 0;
  return isLeafEntry(level, entry.low) ? m.f.frameIncarnation.get(mfn) : m.f.tableLife.get(mfn);
}

/** The pCPU forgets all that it remembers under a tag. With EPT this is INVEPT of the root. */
export function invalidate(m: Machine, pcpu: number, tag: number): void {
  if (m.format === 'ept') forgetRoot(m, pcpu, tag);
  else forgetAsid(m, pcpu, tag);
  forget(m, pcpu, (slot) => m.f.cacheTag.get(slot) === tag);
}

/** Fate: the pCPU forgets the entry at `index` of each of its rings. */
export function evict(m: Machine, pcpu: number, index: number): void {
  const size = m.geometry.capacity.cacheEntries;
  const victim = pcpu * size + (index % size);
  if (m.f.cacheTag.get(victim) !== 0) forget(m, pcpu, (slot) => slot === victim);
  evictLinear(m, pcpu, index);
}

/** Forgets some entries; those that stay move together, in their order. */
function forget(m: Machine, pcpu: number, isForgotten: (slot: number) => boolean): void {
  const { f } = m;
  const size = m.geometry.capacity.cacheEntries;
  const next = f.cacheNext.get(pcpu);
  // From the oldest on: the first slot to be filled is the first that can hold an entry.
  let oldest = 1;
  while (oldest <= size && f.cacheTag.get(slotOf(m, pcpu, oldest)) !== 0) oldest += 1;
  const count = oldest - 1;
  let kept = 0;
  for (let i = 0; i < count; i += 1) {
    const from = pcpu * size + ((next - count + i + size) % size);
    if (isForgotten(from)) continue;
    const to = pcpu * size + ((next - count + kept + size) % size);
    if (to !== from) move(m, from, to);
    kept += 1;
  }
  for (let i = kept; i < count; i += 1) clear(m, pcpu * size + ((next - count + i + size) % size));
  f.cacheNext.set(pcpu, (next - count + kept + size) % size);
}

function move(m: Machine, from: number, to: number): void {
  const { f } = m;
  f.cacheTag.set(to, f.cacheTag.get(from));
  f.cacheLevel.set(to, f.cacheLevel.get(from));
  f.cacheGfn.setWide(to, f.cacheGfn.getWide(from));
  f.cacheLo.set(to, f.cacheLo.get(from));
  f.cacheHi.set(to, f.cacheHi.get(from));
  f.cacheRights.set(to, f.cacheRights.get(from));
  f.cacheLife.set(to, f.cacheLife.get(from));
  f.cacheVcpu.set(to, f.cacheVcpu.get(from));
}

function clear(m: Machine, slot: number): void {
  const { f } = m;
  f.cacheTag.set(slot, 0);
  f.cacheLevel.set(slot, 0);
  f.cacheGfn.setWide(slot, 0);
  f.cacheLo.set(slot, 0);
  f.cacheHi.set(slot, 0);
  f.cacheRights.set(slot, 0);
  f.cacheLife.set(slot, 0);
  f.cacheVcpu.set(slot, 0);
}
