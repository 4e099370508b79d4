// Small integers that class the objects of a state: what role a frame has, whether a count is none, one, many or full, what
// a gfn means. Guidance hashes them (each mechanism's features.ts says which), so that a campaign knows a new kind of
// situation when it sees one. Names and numbers of objects do not count. A first reader may skip this file.

import { DOMID_SELF, type DomId, type Gfn, type Mfn } from '#abi/address.ts';
import { callerOf, type Agent } from '#abi/agents.ts';
import { framesPerLeaf } from '#abi/geometry.ts';
import { p2mAccesses, p2mTypes } from '#abi/hap.ts';
import { frameTypes } from '#abi/pv.ts';
import { frameRoles } from '#abi/roles.ts';
import { pow2 } from '#lib/bits.ts';
import { hasDebt } from './p2m.ts';
import { entryOf, frameOf, isParavirtual, pcpusRunning, type Domain, type Frame, type State } from './state.ts';

/** 0: none, 1: one, 2: many, 3: no more fit. */
export const countClass = (count: number, max: number): number => (count >= max ? 3 : Math.min(count, 2));

/** What a frame of a paravirtual guest is used as: 0 if it is none. */
export function typeClass({ geometry }: State, { type, typeCount, validated, partial, pinned, pseudo }: Frame): number {
  const uses = countClass(typeCount, pow2(geometry.width.typeCount) - 1);
  const flags =
    (validated ? 1 : 0) + (pinned ? 2 : 0) + (pseudo === undefined ? 0 : 4) + (partial === undefined ? 0 : 8);
  return (frameTypes.indexOf(type) * 4 + uses) * 16 + flags;
}

/** What a frame is: role, type, references, how many places show it, whether it is dirty or may still be reached as it was. */
export function frameClass(state: State, mfn: Mfn): number {
  const frame = frameOf(state, mfn);
  const { role, refs, mappings, dirty, allocated } = frame;
  const references = countClass(refs, pow2(state.geometry.width.refCount) - 2);
  const flags = (dirty ? 1 : 0) + (allocated ? 2 : 0) + (hasDebt(state, mfn) ? 4 : 0);
  const kind = typeClass(state, frame) * frameRoles.length + frameRoles.indexOf(role);
  return ((kind * 4 + references) * 4 + Math.min(mappings.length, 3)) * 8 + flags;
}

/** Whether the aligned extent around a gfn starts with the frame that a superpage would need there. */
function isSuperAligned(state: State, domain: DomId, at: { gfn: number; mfn: Mfn }): boolean {
  const into = at.gfn % framesPerLeaf(state.geometry, 2);
  const isFit = at.mfn % framesPerLeaf(state.geometry, 2) === into;
  return isFit && entryOf(state, domain, at.gfn - into)?.mfn === at.mfn - into;
}

/** What a machine frame is to a paravirtual guest: its own, a device that it may have, or neither; and what it is used as. */
function frameNamed(state: State, id: DomId, gfn: Gfn): readonly number[] {
  const mfn = gfn as number as Mfn;
  const isOwn = frameOf(state, mfn).owner === id;
  const isDevice = state.domains.get(id)?.iomem.has(mfn) === true;
  return [isOwn ? 1 : isDevice ? 2 : 0, frameClass(state, mfn)];
}

/** What a gfn is to a domain: type of entry and what is left of it, class of the frame, superpage or not, whether it is stale somewhere. */
export function gfnClass(state: State, domain: DomId, gfn: Gfn): readonly number[] {
  if (isParavirtual(state, domain)) return frameNamed(state, domain, gfn);
  const entry = entryOf(state, domain, gfn);
  const isStale = state.domains.get(domain)?.stale.some((one) => one.gfn === gfn) === true;
  const stale = isStale ? 1 : 0;
  if (entry === undefined) return [stale];
  const isOwn = frameOf(state, entry.mfn).owner === domain;
  const shape = (isSuperAligned(state, domain, { gfn, mfn: entry.mfn }) ? 2 : 0) + (isOwn ? 4 : 0);
  const kind = p2mTypes.indexOf(entry.type) * p2mAccesses.length + p2mAccesses.indexOf(entry.access);
  return [kind * 8 + shape + stale + 1, frameClass(state, entry.mfn)];
}

const lives = ['running', 'dying', 'dead'] as const;
const kinds = ['hvm', 'control', 'pv'] as const;

/** 0: empty, 1: one frame left, 2: plenty. */
const poolClass = ({ pool }: Domain): number => Math.min(pool.frames.size - pool.used, 2);

/** What a domain is: kind, life, paused or crashed, how much room it has, on how many pCPUs it runs. */
export function domainClass(state: State, id: DomId): number {
  const domain = state.domains.get(id);
  if (domain === undefined) return 0;
  const { kind, pauseCount, crashed, totalPages, maxPages } = domain;
  const life = lives.indexOf(domain.state) * kinds.length + kinds.indexOf(kind);
  const halt = Math.min(pauseCount, 1) * 2 + (crashed ? 1 : 0);
  const room = (totalPages >= maxPages ? 3 : 0) + poolClass(domain);
  return 1 + ((life * 4 + halt) * 6 + room) * 3 + Math.min(pcpusRunning(state, id).length, 2);
}

/** The domain that `id` names when `agent` says it. */
export const named = (agent: Agent, id: DomId): DomId => (id === DOMID_SELF ? (callerOf(agent) ?? id) : id);

/** How the target of a call relates to its caller: 0 itself, 1 another, 2 the caller is no domain. */
export function relation(agent: Agent, target: DomId): number {
  const caller = callerOf(agent);
  if (caller === undefined) return 2;
  return named(agent, target) === caller ? 0 : 1;
}
