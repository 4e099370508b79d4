// Simulated hardware, and so a judge: how a processor translates a linear frame. It answers from what it remembers: a page, or an
// entry from which the walk goes on in present memory; else it walks from the root. Every table of the guest lies at a gfn and is
// looked up in the nested tables, as if it were written: nested tables keep accessed and dirty flags here (Intel), and
// count a walk of the guest as a user's write (AMD). Flags are set and entries remembered when a translation is complete.
// A paravirtual guest has no nested tables: the gfns of its tables are machine frames, and which of its two roots serves is by the mode.
// `via` passes over so many remembered answers; when none is left, the nested look-ups of the walk from the root take the rest.
// A first reader may begin at `translateLinear`.
// Sources: Intel SDM vol. 3A, "4-Level Paging and 5-Level Paging", "Determination of Access Rights", "Page-Fault Exceptions",
// "Accessed and Dirty Flags"; vol. 3C, "EPT Violations"; AMD64 APM vol. 2, "Nested Paging", "Long-Mode Page Translation".

import type { Gfn, Mfn } from '#abi/address.ts';
import { controls, type Control, type Privilege } from '#abi/paging.ts';
import { RIGHT } from '#abi/rights.ts';
import type { Machine } from '../machine.ts';
import { isParavirtual } from '../memory/target.ts';
import {
  forgetFaulted,
  insertLinear,
  LINEAR,
  linearSlot,
  olderLinear,
  type LinearEntry,
  type Running,
} from '../tlb/linear-cache.ts';
import { lookUp, type Query } from './hardware.ts';

/** What a linear frame is wanted for; undefined: nothing, the processor walks ahead. */
export type Wanted = 'read' | 'write' | 'fetch' | undefined;

/**
 * `page`: the linear frame, as tables translate it. `access`: rights of the nested tables that its frame must have. `told`: who it is by
 * the error code of a fault.
 */
export interface LinearQuery extends Running {
  readonly page: number;
  readonly wanted: Wanted;
  readonly by: Privilege;
  readonly told: Privilege;
  readonly access: number;
  readonly via: number;
}

export type LinearOutcome =
  | { readonly kind: 'found'; readonly mfn: number }
  | { readonly kind: 'pageFault'; readonly code: number }
  | { readonly kind: 'violation'; readonly gfn: number; readonly isTable: boolean };

const bitOf = (control: Control): number => 1 << controls.indexOf(control);
const WP = bitOf('writeProtect');
const NXE = bitOf('executeDisable');
const PGE = bitOf('globalPages');
const SMEP = bitOf('smep');
const SMAP = bitOf('smap');

const PRESENT = 1;
const SIZE = 1 << 7;
const GLOBAL = 1 << 8;
const ACCESSED = 1 << 5;
const DIRTY = 1 << 6;
const NX_HIGH = 1 << 31;
const FRAME_HIGH = 0xf_ffff;
export const TABLE_ACCESS = RIGHT.read | RIGHT.write;
const ALL = LINEAR.write | LINEAR.user | LINEAR.execute;

const FAULT = { present: 1, write: 2, user: 4, reserved: 8, fetch: 16 } as const;

/** The table at hand: where it is, the level of its entries, what the entries above give. */
interface Position {
  readonly mfn: number;
  readonly level: number;
  readonly bits: number;
}

/** An entry that was used: where its low half lies in memory, and what is remembered of it. */
interface Used extends LinearEntry {
  readonly at: number;
}

/** Whether what the guest's tables give lets the access be made. */
function permits(m: Machine, query: LinearQuery, bits: number): boolean {
  const register = m.f.vcpuControls.get(query.key);
  const isUserPage = (bits & LINEAR.user) !== 0;
  if (query.by === 'user') {
    if (!isUserPage) return false;
  } else if (isUserPage) {
    if (query.wanted === 'fetch') {
      if ((register & SMEP) !== 0) return false;
    } else if ((register & SMAP) !== 0 && query.by !== 'supervisorAc') return false;
  }
  if (query.wanted === 'fetch') return (bits & LINEAR.execute) !== 0;
  if (query.wanted === 'read' || (bits & LINEAR.write) !== 0) return true;
  return query.by !== 'user' && (register & WP) === 0;
}

/** A page fault, with the bits of the error code that tell the cause. */
function fault(m: Machine, query: LinearQuery, cause: number): LinearOutcome {
  if (query.wanted === undefined) return { kind: 'pageFault', code: 0 };
  forgetFaulted(m, query, query.page);
  const tellsFetch = (m.f.vcpuControls.get(query.key) & (NXE | SMEP)) !== 0;
  const code =
    cause |
    (query.wanted === 'write' ? FAULT.write : 0) |
    (query.told === 'user' ? FAULT.user : 0) |
    (query.wanted === 'fetch' && tellsFetch ? FAULT.fetch : 0);
  return { kind: 'pageFault', code };
}

const violation = (gfn: number, isTable: boolean): LinearOutcome => ({ kind: 'violation', gfn, isTable });

/** Whether a present entry has a bit that must be 0. */
function isMalformed(m: Machine, query: LinearQuery, level: number, entry: { low: number; high: number }): boolean {
  const { low, high } = entry;
  const { maxPhysAddr, superpageLevels, bitsPerLevel } = m.geometry;
  if ((high & FRAME_HIGH) >>> (maxPhysAddr - 32) !== 0) return true;
  if ((high & NX_HIGH) !== 0 && (m.f.vcpuControls.get(query.key) & NXE) === 0) return true;
  if (level === 1) return false;
  if (level > superpageLevels) return (low & SIZE) !== 0 || (m.format === 'npt' && (low & GLOBAL) !== 0);
  // Bit 12 is PAT.
  const belowFrame = (2 ** (bitsPerLevel * (level - 1)) - 1) & ~1;
  return (low & SIZE) !== 0 && ((low >>> 12) & belowFrame) !== 0;
}

/** What a walk asks about a gfn on its way. */
const asked = ({ pcpu, key, root }: Running, gfn: number, access: number, via: number): Query & Running => ({
  pcpu,
  key,
  root,
  gfn,
  access,
  via,
});

/** Where a gfn lies, into `m.walker`; false: nowhere. That of a paravirtual guest lies where it says, if there is such a frame. */
function find(m: Machine, query: Query & { readonly key: number }): boolean {
  const { frameCount, deviceFrames, capacity } = m.geometry;
  if (!isParavirtual(m, Math.floor(query.key / capacity.vcpusPerDomain))) return lookUp(m, query);
  m.walker.answer(query.gfn, RIGHT.read | RIGHT.write | RIGHT.execute);
  return query.gfn < frameCount + deviceFrames;
}

/** Walks on from a table to the end. */
function walkFrom(m: Machine, query: LinearQuery, from: Position, via: number): LinearOutcome {
  const { wordsPerFrame, bitsPerLevel, frameCount } = m.geometry;
  const used: Used[] = [];
  let { mfn, bits } = from;
  for (let { level } = from; ; level -= 1) {
    const span = m.walker.span[level] as number;
    const at = 2 * (mfn * wordsPerFrame + (Math.floor(query.page / span) % (1 << bitsPerLevel)));
    // Where there is no memory, ones are read.
    const low = mfn < frameCount ? m.f.memory.get(at) : -1;
    const high = mfn < frameCount ? m.f.memory.get(at + 1) : -1;
    if ((low & PRESENT) === 0) return fault(m, query, 0);
    if (isMalformed(m, query, level, { low, high })) return fault(m, query, FAULT.present | FAULT.reserved);
    bits &= ((low >>> 1) & 3) | ((high & NX_HIGH) === 0 ? LINEAR.execute : 0);
    const frame = (low >>> 12) + (high & FRAME_HIGH) * 0x10_0000;
    const first = query.page - (query.page % span);
    if (level === 1 || (low & SIZE) !== 0) {
      const gfn = frame - (frame % span) + (query.page - first);
      const isGlobal = (low & GLOBAL) !== 0 && (m.f.vcpuControls.get(query.key) & PGE) !== 0;
      const flags = LINEAR.page | (isGlobal ? LINEAR.global : 0) | ((low & DIRTY) !== 0 ? LINEAR.dirty : 0);
      const page = { at, level, page: query.page, gfn, bits: bits | flags };
      return arrive(m, query, { used, page, via });
    }
    if (!find(m, asked(query, frame, TABLE_ACCESS, via))) return violation(frame, true);
    ({ mfn } = m.walker);
    used.push({ at, level, page: first, gfn: frame, mfn, rights: m.walker.rights, bits });
  }
}

/** The end of a walk: may the access be made, where does the page lie; then flags, and what is remembered. */
function arrive(
  m: Machine,
  query: LinearQuery,
  end: { readonly used: Used[]; readonly page: Omit<Used, 'mfn' | 'rights'>; readonly via: number },
): LinearOutcome {
  const { used, page, via } = end;
  if (query.wanted !== undefined && !permits(m, query, page.bits)) return fault(m, query, FAULT.present);
  if (!find(m, asked(query, page.gfn, query.access, via))) return violation(page.gfn, false);
  const { mfn, rights } = m.walker;
  const isWritten = query.wanted === 'write';
  used.push({ ...page, mfn, rights, bits: page.bits | (isWritten ? LINEAR.dirty : 0) });
  for (const one of used) {
    const isLeaf = (one.bits & LINEAR.page) !== 0;
    m.f.memory.set(one.at, m.f.memory.get(one.at) | ACCESSED | (isLeaf && isWritten ? DIRTY : 0));
    insertLinear(m, query, one);
  }
  return { kind: 'found', mfn };
}

/** Walks from the root. */
function walkAfresh(m: Machine, query: LinearQuery, via: number): LinearOutcome {
  const gfn = m.f.vcpuIsUser.get(query.key) === 0 ? m.f.vcpuRoot.getWide(query.key) : m.f.vcpuUserRoot.get(query.key);
  if (!find(m, asked(query, gfn, TABLE_ACCESS, via))) return violation(gfn, true);
  return walkFrom(m, query, { mfn: m.walker.mfn, level: m.geometry.levels, bits: ALL }, via);
}

/** Whether the entry in `slot` can answer: an entry above pages always; a page if it has what is wanted, or faults at once. */
function isAnswer(m: Machine, query: LinearQuery, slot: number): boolean {
  const bits = m.f.linearBits.get(slot);
  if ((bits & LINEAR.page) === 0) return true;
  if (!permits(m, query, bits)) return m.format === 'ept';
  const isClean = query.wanted === 'write' && (bits & LINEAR.dirty) === 0;
  return !isClean && (m.f.linearRights.get(slot) & query.access) === query.access;
}

/** Lets the entry in `slot` answer. */
function answerFrom(m: Machine, query: LinearQuery, slot: number): LinearOutcome {
  const { f } = m;
  const bits = f.linearBits.get(slot);
  const leaf = (bits & LINEAR.page) !== 0;
  const level = f.linearLevel.get(slot);
  const mfn = f.linearMfn.get(slot);
  m.port.choose({
    kind: 'combined',
    leaf,
    level,
    gfn: f.linearGfn.getWide(slot) as Gfn,
    mfn: mfn as Mfn,
    rights: f.linearRights.get(slot),
    guest: bits & ALL,
  });
  if (!leaf) return walkFrom(m, query, { mfn, level: level - 1, bits: bits & ALL }, 0);
  return permits(m, query, bits) ? { kind: 'found', mfn } : fault(m, query, FAULT.present);
}

/** Translates a linear frame for an access. */
export function translateLinear(m: Machine, query: LinearQuery): LinearOutcome {
  const { page } = query;
  let { via } = query;
  for (let age = olderLinear(m, query, { page, age: 0 }); age !== 0; age = olderLinear(m, query, { page, age })) {
    const slot = linearSlot(m, query.pcpu, age);
    if (!isAnswer(m, query, slot)) continue;
    if (via === 0) return answerFrom(m, query, slot);
    via -= 1;
  }
  m.port.choose({ kind: 'walked' });
  return walkAfresh(m, query, via);
}

/** Walks ahead, for nobody. */
export function speculateLinear(m: Machine, query: Omit<LinearQuery, 'wanted' | 'told'>): void {
  walkAfresh(m, { ...query, told: query.by, wanted: undefined }, 0);
}
