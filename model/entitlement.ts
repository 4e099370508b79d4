// What may be given at all: the sentences that authority rests on (isolation.ts), each said here on its own terms. The model's
// operations and the implementation are two transcriptions of the same code and can share a slip; what they agree on is
// held by these.

import type { DomId, Mfn } from '#abi/address.ts';
import { isDeviceFrame, type Geometry } from '#abi/geometry.ts';
import { grantFlags } from '#abi/grants.ts';
import type { P2mAccess, P2mType } from '#abi/hap.ts';
import { isTrusted, levelOfType, type FrameType } from '#abi/pv.ts';
import { RIGHT, walkRight } from '#abi/rights.ts';
import type { FrameRole } from '#abi/roles.ts';
import { and, field, hasAll } from '#lib/bits.ts';
import type { Policies } from './policies.ts';
import type { Active, Domain } from './state.ts';

const { read, write, execute } = RIGHT;

/**
 * What a mapping of each kind gives, no more and no less: one's own RAM everything, but no writing where writes are refused or
 * must be noticed; another's frame no execution, and what was granted for reading no writing either.
 */
export const rightsOfType: Readonly<Record<P2mType, number>> = {
  none: 0,
  ramRw: read + write + execute,
  ramRo: read + execute,
  ramLogDirty: read + execute,
  mmioDirect: read + write + execute,
  foreign: read + write,
  grantRw: read + write,
  grantRo: read,
  populateOnDemand: 0,
};

/** What a listener has left of that. What gives way at the next use is kept from everybody until then. */
export const rightsOfAccess: Readonly<Record<P2mAccess, number>> = {
  n: 0,
  r: read,
  w: write,
  rw: read + write,
  x: execute,
  rx: read + execute,
  wx: write + execute,
  rwx: read + write + execute,
  rx2rw: read + execute,
  n2rwx: 0,
};

/** Whether nothing but writing, perhaps with executing, is left: no processor understands an entry that says so. */
const isSenseless = (rights: number): boolean => hasAll(rights, write) && !hasAll(rights, read);

/** What an entry gives of which so much has been left: nothing at all if that makes no sense. */
export function rightsOfKind(type: P2mType, access: P2mAccess): number {
  const rights = and(rightsOfType[type], rightsOfAccess[access]);
  return isSenseless(rights) ? 0 : rights;
}

/** Whether an entry of this kind is one that no processor understands. */
export const isMalformedKind = (type: P2mType, access: P2mAccess): boolean =>
  isSenseless(and(rightsOfType[type], rightsOfAccess[access]));

/**
 * What a paravirtual guest may do with a frame of its own, by what it is used as: read and execute whatever it is; write what is no
 * table, of whatever; and have a processor walk a table at its very level, or where tables may be linear at one below.
 */
export function rightsOfFrame(type: FrameType, { pvLinear }: Pick<Policies, 'pvLinear'>): number {
  const level = levelOfType(type);
  if (!isTrusted(type)) return read + execute + write;
  if (level === 0) return read + execute;
  let walks = walkRight(level);
  for (let below = 1; pvLinear && below < level; below += 1) walks += walkRight(below);
  return read + execute + walks;
}

/** Why its owner may reach a frame: as memory of its own, or because the hypervisor shows it that page. undefined: it may not. */
export const visibleAs: Readonly<Record<FrameRole, 'own' | 'special' | undefined>> = {
  ram: 'own',
  sharedInfo: 'special',
  grantFrame: 'special',
  statusFrame: 'special',
  overlay: 'special',
  free: undefined,
  apicAccess: undefined,
  requestPage: undefined,
  pool: undefined,
  mmio: undefined,
  xen: undefined,
  inHand: undefined,
};

/**
 * Whether the uses of a grant of `granter` rest on its words: when the grant came into use its entry permitted access to the
 * very domain that uses it; where anybody writes, the entry was not read-only when that began; and when it was looked up
 * the gfn in the entry meant the very frame in use, one of the granter's own.
 */
export function isGiven(granter: DomId, active: Active): boolean {
  const { given, writing, meant } = active.ground;
  const isFor = field(given.lo, 16, 16) === active.domain;
  const isAccess = and(given.lo, grantFlags.kindMask) === grantFlags.permitAccess;
  const mayWrite = writing !== undefined && !hasAll(writing.lo, grantFlags.readOnly);
  const isMeant = meant !== undefined && meant.mfn === active.mfn && meant.owner === granter;
  return isFor && isAccess && isMeant && (mayWrite || active.hstw + active.devw === 0);
}

/** Privilege: whose frames a domain may map without being granted them. The control domain those of all others; nobody else any. */
export const mayMapFramesOf = ({ kind, id }: Pick<Domain, 'kind' | 'id'>, owner: DomId | undefined): boolean =>
  kind === 'control' && owner !== undefined && owner !== id;

/** Whose devices: a domain reaches frames of devices alone, and only those that it was ever permitted to be given. */
export const mayReachDevice = (geometry: Geometry, { iomemEver }: Pick<Domain, 'iomemEver'>, mfn: Mfn): boolean =>
  isDeviceFrame(geometry, mfn) && iomemEver.has(mfn);
