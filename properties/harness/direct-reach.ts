// Ways of paravirtual guests: what hangs from the roots that their vCPUs have loaded, and from every frame that counts as a validated
// root, for loading it needs no further check. Tables are read as the architecture reads them, from the bytes of the machine;
// a frame is reached as memory, and as a table of the level at which a processor walks it.
// A first reader may skip the caching of what was seen. Source: Intel SDM vol. 3A, "4-Level Paging and 5-Level Paging".

import { isDeviceFrame, framesPerLeaf, tableEntries, type Geometry } from '#abi/geometry.ts';
import { frameTypes, tableType } from '#abi/pv.ts';
import { RIGHT, walkRight } from '#abi/rights.ts';
import type { TableFormat } from '#abi/vendor.ts';
import { domKinds } from '#impl/layout.ts';
import type { Machine } from '#impl/machine.ts';
import { hasAll, or } from '#lib/bits.ts';
import { decodeGuest } from '#model/paging/guest-entry.ts';
import type { Paging } from '#model/paging/mode.ts';
import { ALL_RIGHTS, fold, RIGHT_BITS } from '#model/paging/rights.ts';

/** A table that is walked. `guest`: rights folded down to it. */
interface Walked {
  readonly mfn: number;
  readonly level: number;
  readonly guest: number;
}

/** Rights by frame: as memory, and as a table. */
export interface Ways {
  readonly memory: Map<number, number>;
  readonly tables: Map<number, number>;
}

const PV = domKinds.indexOf('pv');

export const isDirect = (m: Machine, domain: number): boolean =>
  domain >= 0 &&
  domain < m.geometry.capacity.domains &&
  m.f.domKind.get(domain) === PV &&
  m.f.domState.get(domain) !== 0;

/** Whether there is a paravirtual guest. */
export function hasDirect(m: Machine): boolean {
  for (let id = 0; id < m.geometry.capacity.domains; id += 1) if (isDirect(m, id)) return true;
  return false;
}

const vendors: Readonly<Record<TableFormat, Paging['vendor']>> = { ept: 'intel', npt: 'amd' };

/** The registers of every paravirtual vCPU. */
const pagingOf = ({ geometry, format }: Machine): Paging => ({
  mode: 'fourLevel',
  vendor: vendors[format],
  root: 0,
  pdptes: undefined,
  maxPhysAddr: geometry.maxPhysAddr,
  page1Gb: geometry.superpageLevels > 2,
  superpages: true,
  executeDisable: true,
  writeProtect: true,
  smep: false,
  smap: false,
  userKeys: undefined,
  supervisorKeys: undefined,
});

/** What ring 3 may do by such rights of the guest's tables; all of these guests run there. */
const rightsIn3 = (guest: number): number =>
  hasAll(guest, RIGHT_BITS.user)
    ? RIGHT.read +
      (hasAll(guest, RIGHT_BITS.write) ? RIGHT.write : 0) +
      (hasAll(guest, RIGHT_BITS.execute) ? RIGHT.execute : 0)
    : 0;

function add(ways: Map<number, number>, mfn: number, rights: number): void {
  ways.set(mfn, or(ways.get(mfn) ?? 0, rights));
}

const isThere = (geometry: Geometry, mfn: number): boolean => mfn < geometry.frameCount || isDeviceFrame(geometry, mfn);

/** Adds what is reached through a table, itself among it. */
export function waysBelow(m: Machine, from: Walked, into: Ways, seen = new Set<number>()): void {
  const { geometry } = m;
  const { memory } = m.f;
  const paging = pagingOf(m);
  const open = [from];
  for (let at = open.pop(); at !== undefined; at = open.pop()) {
    const { mfn, level, guest } = at;
    if (!isThere(geometry, mfn)) continue;
    add(into.tables, mfn, walkRight(level));
    const key = (mfn * 8 + level) * 8 + guest;
    if (seen.has(key) || mfn >= geometry.frameCount) continue;
    seen.add(key);
    const first = 2 * mfn * geometry.wordsPerFrame;
    for (let index = 0; index < tableEntries(geometry); index += 1) {
      const lo = memory.get(first + 2 * index);
      if (lo % 2 === 0) continue;
      const entry = decodeGuest(geometry, paging, level, { lo, hi: memory.get(first + 2 * index + 1) });
      if (entry.kind !== 'page' && entry.kind !== 'table') continue;
      const rights = fold(guest, entry.rights);
      // A processor walks what ring 3 may not use, too.
      if (entry.kind === 'table') open.push({ mfn: entry.gfn, level: level - 1, guest: rights });
      else if (rightsIn3(rights) > 0)
        for (let i = 0; i < framesPerLeaf(geometry, level); i += 1)
          if (isThere(geometry, entry.gfn + i)) add(into.memory, entry.gfn + i, rightsIn3(rights));
    }
  }
}

/** Root tables of a domain: loaded, or as good as loaded. */
function rootsOf(m: Machine, domain: number): ReadonlySet<number> {
  const { f, geometry } = m;
  const roots = new Set<number>();
  const { vcpusPerDomain } = geometry.capacity;
  for (let key = domain * vcpusPerDomain; key < (domain + 1) * vcpusPerDomain; key += 1) {
    roots.add(f.vcpuRoot.getWide(key));
    roots.add(f.vcpuUserRoot.get(key));
  }
  const type = frameTypes.indexOf(tableType(geometry.levels));
  for (let mfn = 1; mfn < geometry.frameCount; mfn += 1)
    if (f.frameOwner.get(mfn) === domain + 1 && f.frameType.get(mfn) === type && f.frameValidated.get(mfn) === 1)
      roots.add(mfn);
  roots.delete(0);
  return roots;
}

/** All ways of a domain by tables in memory. */
export function directWays(m: Machine, domain: number): Ways {
  const ways: Ways = { memory: new Map(), tables: new Map() };
  const seen = new Set<number>();
  for (const mfn of rootsOf(m, domain)) waysBelow(m, { mfn, level: m.geometry.levels, guest: ALL_RIGHTS }, ways, seen);
  return ways;
}

/** What a ring slot with an entry of such a guest's tables lets its processor reach: a page; or a table, and what is below. */
export function directSlotWays(m: Machine, slot: number): Ways {
  const { f } = m;
  const ways: Ways = { memory: new Map(), tables: new Map() };
  const guest = f.linearBits.get(slot) % (ALL_RIGHTS + 1);
  const mfn = f.linearMfn.get(slot);
  const isPage = hasAll(f.linearBits.get(slot), PAGE);
  if (!isPage) waysBelow(m, { mfn, level: f.linearLevel.get(slot) - 1, guest }, ways);
  else if (rightsIn3(guest) > 0) add(ways.memory, mfn, rightsIn3(guest));
  return ways;
}

/** Bit of `linearBits`: a page, not an entry that leads to a table. */
export const PAGE = 8;
