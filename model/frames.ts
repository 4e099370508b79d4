// The life of a machine frame: handed over by the heap, referenced, freed with the last reference, erased. And the end of
// a dead domain, which comes when nobody holds a frame of it any more.
// A first reader may skip `reap`. Sources: Xen common/page_alloc.c (assign_pages, free_domheap_pages), arch/x86/mm.c
// (get_page, put_page), common/domain.c (domain_destroy).

import type { DomId, Mfn } from '#abi/address.ts';
import { pow2 } from '#lib/bits.ts';
import { NOWHERE } from '#abi/agents.ts';
import type { Invariant } from '#abi/invariants.ts';
import type { FrameRole } from '#abi/roles.ts';
import { invariant } from '#lib/invariant.ts';
import { isClaimed } from './claims.ts';
import { hasDebt } from './p2m.ts';
import { beforeFree, beforeGiven } from './pv/flush.ts';
import { frameOf, vcpuKey, withDomain, withFrame, withParts, type Domain, type State } from './state.ts';
import { eraseFrame } from './words.ts';

/** A run of frames asked of the heap. */
export interface Request {
  readonly mfn: Mfn;
  readonly order: number;
  readonly owner: DomId;
  readonly role: FrameRole;
}

const framesFrom = (mfn: Mfn, order: number): readonly Mfn[] =>
  Array.from({ length: pow2(order) }, (_, i) => (mfn + i) as Mfn);

/** Why the heap may not hand a frame over, and what it would break. */
export interface Objection {
  readonly reason: string;
  readonly invariant: Invariant;
}

/** What a guest will see next: it must come erased. The hypervisor clears its own. */
const isForGuests = (role: FrameRole): boolean => role === 'ram' || role === 'inHand';

/** Why the heap may not hand this frame over, or undefined. */
function objection(state: State, mfn: Mfn, role: FrameRole): Objection | undefined {
  const frame = frameOf(state, mfn);
  const said = `frame ${mfn} is handed over`;
  if (mfn >= state.geometry.frameCount) return { reason: `frame ${mfn} does not exist`, invariant: 'XEN' };
  if (frame.role !== 'free') return { reason: `${said} while in use (${frame.role})`, invariant: 'FREE' };
  if (hasDebt(state, mfn))
    return { reason: `${said} while a processor may still use a translation to it`, invariant: 'STALE' };
  const isOwed = frame.dirty && isForGuests(role);
  return isOwed ? { reason: `${said} before it was erased`, invariant: 'LEAK' } : undefined;
}

function give(state: State, mfn: Mfn, request: Request): State {
  const { role, owner } = request;
  const unknown = beforeGiven(state, mfn);
  const cleared = isForGuests(role) ? unknown : eraseFrame(unknown, mfn);
  const incarnation = frameOf(state, mfn).incarnation + 1;
  // What is only made ready for a guest is nobody's yet.
  const isOwned = role !== 'inHand';
  return withFrame(cleared, mfn, {
    role,
    incarnation,
    dirty: false,
    mappings: [],
    owner: isOwned ? owner : undefined,
    allocated: isOwned,
    refs: isOwned ? 1 : 0,
  });
}

/** The heap hands frames over, unless it must not. The only way a frame gets an owner. What it takes of a claim is claimed no more. */
export function handOver(state: State, request: Request): State | Objection {
  const mfns = framesFrom(request.mfn, request.order);
  if (request.mfn % mfns.length !== 0)
    return { reason: `frame ${request.mfn} is not aligned to order ${request.order}`, invariant: 'refines' };
  if (isClaimed(state, request))
    return { reason: `frame ${request.mfn} is handed over although what is free is claimed`, invariant: 'refines' };
  const reasons = mfns.map((mfn) => objection(state, mfn, request.role));
  const reason = reasons.find((one) => one !== undefined);
  if (reason !== undefined) return reason;
  const given = mfns.reduce((now, mfn) => give(now, mfn, request), state);
  const owner = given.domains.get(request.owner);
  if (request.role !== 'ram' || owner === undefined) return given;
  const claim = Math.max(0, owner.claim - mfns.length);
  return withDomain(given, owner.id, { totalPages: owner.totalPages + mfns.length, claim });
}

/** Whether no aligned run of 2^order free frames is left. */
export function isHeapEmpty(state: State, order: number): boolean {
  const size = pow2(order);
  const isFree = (mfn: Mfn): boolean => frameOf(state, mfn).role === 'free';
  for (let from = 0; from + size <= state.geometry.frameCount; from += size)
    if (framesFrom(from as Mfn, order).every(isFree)) return false;
  return true;
}

/** Back to the heap. Erasure is owed for the hypervisor's own, for the dying, and under the policy `always`. */
export function free(state: State, mfn: Mfn): State {
  const frame = frameOf(state, mfn);
  invariant(frame.role !== 'ram' || frame.typeCount === 0, 'a frame that is freed is used as nothing');
  invariant(!frame.pinned, 'a frame that is freed is not pinned');
  const owner = frame.owner === undefined ? undefined : state.domains.get(frame.owner);
  const isLiveRam = frame.role === 'ram' && owner?.state === 'running';
  const dirty = !isLiveRam || state.policies.scrub === 'always';
  const freed = withFrame(beforeFree(state, mfn), mfn, {
    role: 'free',
    owner: undefined,
    allocated: false,
    refs: 0,
    dirty,
    mappings: [],
    // As what a paravirtual guest used it is forgotten.
    type: 'none',
    typeCount: 0,
    validated: false,
    pinned: false,
    locked: false,
    pseudo: undefined,
  });
  if (frame.role !== 'ram' || owner === undefined) return freed;
  return withDomain(freed, owner.id, { totalPages: owner.totalPages - 1 });
}

/** One more reference; undefined if the frame is free or its count is nearly full. */
export function getReference(state: State, mfn: Mfn): State | undefined {
  const { refs } = frameOf(state, mfn);
  const isFull = refs + 2 >= pow2(state.geometry.width.refCount);
  return refs === 0 || isFull ? undefined : withFrame(state, mfn, { refs: refs + 1 });
}

/** One reference less; the last one frees the frame, and may be the last of a dead domain. */
export function putReference(state: State, mfn: Mfn): State {
  const { refs, owner } = frameOf(state, mfn);
  const put = refs === 1 ? free(state, mfn) : withFrame(state, mfn, { refs: refs - 1 });
  return owner === undefined ? put : reap(put, owner);
}

/** The owner lets go of its frame: its own reference is dropped, once. */
export const dropAllocated = (state: State, mfn: Mfn): State =>
  frameOf(state, mfn).allocated ? putReference(withFrame(state, mfn, { allocated: false }), mfn) : state;

/** The frames that live as long as the domain structure. */
const lastFrames = (domain: Domain): readonly Mfn[] => [
  domain.sharedInfo,
  ...domain.grants.frames,
  ...domain.grants.maptrack,
  domain.structure,
];

/** Buries `id` if it is dead and nobody holds a frame of it: nothing remains. */
export function reap(state: State, id: DomId): State {
  const domain = state.domains.get(id);
  if (domain === undefined || domain.state !== 'dead' || domain.totalPages > 0) return state;
  const frames = lastFrames(domain);
  if (frames.some((mfn) => frameOf(state, mfn).refs > 1)) return state;
  const emptied = frames.reduce(free, state);
  const vcpus = Array.from({ length: domain.vcpus }, (_, vcpu) => vcpuKey(state, id, vcpu));
  return {
    ...emptied,
    domains: emptied.domains.delete(id),
    vcpus: vcpus.reduce((trie, key) => trie.delete(key), emptied.vcpus),
  };
}

/** No pCPU runs `id` any more, so none of its stale translations can be used. */
export function unplace(state: State, domain: Domain): State {
  const keys = Array.from({ length: domain.vcpus }, (_, vcpu) => vcpuKey(state, domain.id, vcpu));
  const vcpus = keys.reduce((trie, key) => trie.set(key, NOWHERE), state.vcpus);
  return withDomain(withParts(state, { vcpus }), domain.id, { stale: [] });
}

/** The domain did what Xen answers by stopping it for good: no vCPU of it runs again; it can only be killed. */
export function crash(state: State, id: DomId): State {
  const domain = state.domains.get(id);
  return domain === undefined ? state : withDomain(unplace(state, domain), id, { crashed: true });
}

/** The scrubber erases a free frame. With a debt left it was not the last time. */
export const scrub = (state: State, mfn: Mfn): State =>
  withFrame(eraseFrame(state, mfn), mfn, { dirty: frameOf(state, mfn).dirty && hasDebt(state, mfn) });
