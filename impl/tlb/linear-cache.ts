// Simulated hardware, and so a judge: what a processor remembers of guests' own tables, combined with the nested ones: pages,
// frame by frame, and entries that lead to tables. Each is tagged with the VPID or ASID under which it was loaded, with EPT also
// with the root of the nested tables (EP4TA), and with the PCID; a global page serves under every PCID.
// It keeps everything until it is told to forget, or until the ring is full and the oldest goes. Forgetting leaves holes.
// A first reader may read the operations at the end alone.
// Sources: Intel SDM vol. 3A, "Caching Translation Information", "Operations that Invalidate TLBs and Paging-Structure Caches";
// vol. 3C, "VPIDs and EPT" (combined mappings; INVVPID, INVEPT); AMD64 APM vol. 2, "TLB Control", "Process Context Identifiers".

import type { Machine } from '../machine.ts';

/** Bits of an entry. The three lowest are what the guest's tables gave. */
export const LINEAR = { write: 1, user: 2, execute: 4, page: 8, global: 16, dirty: 32 } as const;

/**
 * A processor that runs a vCPU: where, the vCPU's key, the root of its nested tables. pCPU -1: a vCPU that was put off its processor within a
 * call. It goes on where it comes next, which has forgotten everything of such guests by then.
 */
export interface Running {
  readonly pcpu: number;
  readonly key: number;
  readonly root: number;
}

/** An entry as it is loaded. */
export interface LinearEntry {
  readonly level: number;
  readonly page: number;
  readonly gfn: number;
  readonly mfn: number;
  readonly rights: number;
  readonly bits: number;
}

/** With EPT entries belong to one root of nested tables. */
const tagOf = (m: Machine, root: number): number => (m.format === 'ept' ? root : 0);

/** The slot of a pCPU's entry that is `age` loads old (1: the newest). */
export function linearSlot(m: Machine, pcpu: number, age: number): number {
  const size = m.geometry.capacity.cacheEntries;
  return pcpu * size + ((m.f.linearNext.get(pcpu) - age + size) % size);
}

/** Whether the entry in `slot` is of the guest that runs: its VPID or ASID, its nested tables. */
const isOfGuest = (m: Machine, slot: number, of: Running): boolean =>
  m.f.linearAsid.get(slot) === m.f.pcpuAsid.get(of.pcpu) && m.f.linearTag.get(slot) === tagOf(m, of.root);

/** Whether the PCID of the vCPU lets the entry serve. */
const isOfPcid = (m: Machine, slot: number, pcid: number): boolean =>
  (m.f.linearBits.get(slot) & LINEAR.global) !== 0 || m.f.linearPcid.get(slot) === pcid;

/** The gfns that the entry, or the page that it is a piece of, covers. */
function covers(m: Machine, slot: number, page: number): boolean {
  const span = m.walker.span[m.f.linearLevel.get(slot)] as number;
  const first = m.f.linearPage.getWide(slot);
  return Math.floor(first / span) === Math.floor(page / span);
}

/** The age of the newest entry older than `age` that may answer for `page`; 0: there is none. */
export function olderLinear(m: Machine, of: Running, at: { readonly page: number; readonly age: number }): number {
  const { f } = m;
  if (of.pcpu < 0) return 0;
  const pcid = f.vcpuPcid.get(of.key);
  for (let age = at.age + 1; age <= m.geometry.capacity.cacheEntries; age += 1) {
    const slot = linearSlot(m, of.pcpu, age);
    if (f.linearLevel.get(slot) === 0 || !isOfGuest(m, slot, of) || !isOfPcid(m, slot, pcid)) continue;
    const isPage = (f.linearBits.get(slot) & LINEAR.page) !== 0;
    if (isPage ? f.linearPage.getWide(slot) === at.page : covers(m, slot, at.page)) return age;
  }
  return 0;
}

/** Remembers an entry. One that is known already keeps its place, and becomes dirty if it is. */
export function insertLinear(m: Machine, of: Running, entry: LinearEntry): void {
  const { f } = m;
  if (of.pcpu < 0) return;
  const size = m.geometry.capacity.cacheEntries;
  for (let slot = of.pcpu * size; slot < (of.pcpu + 1) * size; slot += 1)
    if (isSame(m, slot, of, entry)) {
      f.linearBits.set(slot, f.linearBits.get(slot) | entry.bits);
      return;
    }
  const next = f.linearNext.get(of.pcpu);
  const slot = of.pcpu * size + next;
  f.linearNext.set(of.pcpu, (next + 1) % size);
  f.linearLevel.set(slot, entry.level);
  f.linearAsid.set(slot, f.pcpuAsid.get(of.pcpu));
  f.linearTag.set(slot, tagOf(m, of.root));
  f.linearPcid.set(slot, f.vcpuPcid.get(of.key));
  f.linearPage.setWide(slot, entry.page);
  f.linearGfn.setWide(slot, entry.gfn);
  f.linearMfn.set(slot, entry.mfn);
  f.linearRights.set(slot, entry.rights);
  f.linearBits.set(slot, entry.bits);
  f.linearLife.set(slot, entry.mfn < m.geometry.frameCount ? f.frameIncarnation.get(entry.mfn) : 0);
  f.linearVcpu.set(slot, of.key + 1);
}

function isSame(m: Machine, slot: number, of: Running, entry: LinearEntry): boolean {
  const { f } = m;
  return (
    f.linearLevel.get(slot) === entry.level &&
    f.linearMfn.get(slot) === entry.mfn &&
    isOfGuest(m, slot, of) &&
    f.linearPcid.get(slot) === f.vcpuPcid.get(of.key) &&
    f.linearPage.getWide(slot) === entry.page &&
    f.linearGfn.getWide(slot) === entry.gfn &&
    f.linearRights.get(slot) === entry.rights &&
    ((f.linearBits.get(slot) ^ entry.bits) & ~LINEAR.dirty) === 0
  );
}

/** Forgets the entries of a pCPU that `isForgotten` names. */
function forget(m: Machine, pcpu: number, isForgotten: (slot: number) => boolean): void {
  const size = m.geometry.capacity.cacheEntries;
  for (let slot = pcpu * size; slot < (pcpu + 1) * size; slot += 1)
    if (m.f.linearLevel.get(slot) !== 0 && isForgotten(slot)) m.f.linearLevel.set(slot, 0);
}

/** What an instruction of the guest can make the processor forget is loaded under the guest's own VPID or ASID. */
const forgetOwn = (m: Machine, pcpu: number, isForgotten: (slot: number) => boolean): void =>
  forget(m, pcpu, (slot) => m.f.linearAsid.get(slot) === m.f.pcpuAsid.get(pcpu) && isForgotten(slot));

const isGlobal = (m: Machine, slot: number): boolean => (m.f.linearBits.get(slot) & LINEAR.global) !== 0;

/** INVLPG: the page, in all its pieces, and every entry above pages of the present PCID. */
export function invlpg(m: Machine, of: Running, page: number): void {
  const pcid = m.f.vcpuPcid.get(of.key);
  forgetOwn(m, of.pcpu, (slot) =>
    (m.f.linearBits.get(slot) & LINEAR.page) !== 0
      ? isOfPcid(m, slot, pcid) && covers(m, slot, page)
      : m.f.linearPcid.get(slot) === pcid,
  );
}

/** A page fault at `page`: whatever would be used for it. */
export function forgetFaulted(m: Machine, of: Running, page: number): void {
  if (of.pcpu < 0) return;
  const pcid = m.f.vcpuPcid.get(of.key);
  forgetOwn(m, of.pcpu, (slot) => isOfPcid(m, slot, pcid) && covers(m, slot, page));
}

/** INVPCID, type 0. */
export function invalidateAddress(
  m: Machine,
  pcpu: number,
  of: { readonly pcid: number; readonly page: number },
): void {
  forgetOwn(m, pcpu, (slot) => !isGlobal(m, slot) && m.f.linearPcid.get(slot) === of.pcid && covers(m, slot, of.page));
}

/** INVPCID, type 1; MOV to CR3. */
export function invalidatePcid(m: Machine, pcpu: number, pcid: number): void {
  forgetOwn(m, pcpu, (slot) => !isGlobal(m, slot) && m.f.linearPcid.get(slot) === pcid);
}

/** INVPCID, types 2 and 3. */
export function invalidateContexts(m: Machine, pcpu: number, keepsGlobals: boolean): void {
  forgetOwn(m, pcpu, (slot) => !keepsGlobals || !isGlobal(m, slot));
}

/** INVEPT of one root: what was combined with its tables, under whatever VPID. */
export function forgetRoot(m: Machine, pcpu: number, root: number): void {
  forget(m, pcpu, (slot) => m.f.linearTag.get(slot) === tagOf(m, root));
}

/** INVVPID of one VPID; VMRUN that flushes an ASID. */
export function forgetAsid(m: Machine, pcpu: number, asid: number): void {
  forget(m, pcpu, (slot) => m.f.linearAsid.get(slot) === asid);
}

/** What is of no VPID or ASID: of guests that run on their own tables alone. */
export const NATIVE_ID = 0;

/** MOV to CR4 that turns global pages off and on: all that was loaded under the host's number. */
export function forgetNative(m: Machine, pcpu: number): void {
  forgetAsid(m, pcpu, NATIVE_ID);
}

/** INVVPID of all VPIDs; VMRUN that flushes everything. */
export function forgetAllLinear(m: Machine, pcpu: number): void {
  forget(m, pcpu, () => true);
}

/** Fate: the pCPU forgets the entry at `index` of its ring. */
export function evictLinear(m: Machine, pcpu: number, index: number): void {
  const victim = pcpu * m.geometry.capacity.cacheEntries + (index % m.geometry.capacity.cacheEntries);
  forget(m, pcpu, (slot) => slot === victim);
}
