// What processors may still know of a paravirtual guest's frames, and how they forget it. Two records are kept: what a vCPU's
// processor has loaded through the guest's tables, and rights that have gone but may still be used (stale), for those who judge.
// A first reader may skip nothing. Sources: Xen arch/x86/mm.c (_get_page_type: "On type change we check to flush stale TLB
// entries"), common/page_alloc.c (free_domheap_pages, tlbflush_timestamp), arch/x86/flushtlb.c.

import type { Gfn, DomId, Mfn, VcpuId } from '#abi/address.ts';
import { NOWHERE } from '#abi/agents.ts';
import { framesPerLeaf, tableEntries, type Geometry } from '#abi/geometry.ts';
import { pvPcids } from '#abi/pv.ts';
import { bit, hasAll, without } from '#lib/bits.ts';
import { rightsOfFrame, visibleAs } from '../entitlement.ts';
import { keepStale, outlive, settleFrame } from '../p2m.ts';
import { isCanonicalPage, pageBitsOf, vcpuAgent, withContext } from '../paging/context.ts';
import {
  frameOf,
  isParavirtual,
  pcpusRunning,
  placeOfVcpu,
  vcpuKey,
  type Context,
  type Domain,
  type Loaded,
  type State,
} from '../state.ts';
import { invalidateAddress, invalidateEverything, invalidatePage, needOf } from '../tlb/loaded.ts';
import { isHypervisors } from './entries.ts';
import type { Flush } from './work.ts';

/** Whether what a processor remembers of a frame needs no more than these rights. */
const isWithin = (one: Loaded, rights: number): boolean => without(needOf(one), rights) === 0;

/** No vCPU of a domain has entries for a frame that need more than `rights`. */
function forgetFrame(state: State, domain: Domain, { mfn, rights }: { mfn: Mfn; rights: number }): State {
  let now = state;
  for (let vcpu = 0; vcpu < domain.vcpus; vcpu += 1) {
    const known = state.contexts.get(vcpuKey(state, domain.id, vcpu))?.loaded ?? [];
    const loaded = known.filter((one) => one.mfn !== mfn || isWithin(one, rights));
    if (loaded.length < known.length) now = withContext(now, vcpuAgent(domain.id, vcpu as VcpuId), { loaded });
  }
  return now;
}

/** The paravirtual guest that owns a frame which it can see, or could before the frame was taken from it. */
function ownerOf(state: State, mfn: Mfn): Domain | undefined {
  const { owner, role } = frameOf(state, mfn);
  const domain = owner === undefined ? undefined : state.domains.get(owner);
  return domain?.kind === 'pv' && (visibleAs[role] !== undefined || role === 'inHand') ? domain : undefined;
}

/** Who runs the owner may go on using a frame so. */
const stays = (state: State, { id }: Domain, { mfn, rights }: { mfn: Mfn; rights: number }): State => {
  const { incarnation } = frameOf(state, mfn);
  return outlive(state, { domain: id, gfn: mfn as number as Gfn }, { mfn, rights, incarnation });
};

/** What a frame was used as it may be used as until the flush, if that is more than it is now. */
export function rememberType(state: State, mfn: Mfn, rights: number): State {
  const owner = ownerOf(state, mfn);
  const isLess = without(rights, rightsOfFrame(frameOf(state, mfn).type, state.policies)) !== 0;
  return owner !== undefined && isLess ? stays(state, owner, { mfn, rights }) : state;
}

/** After a change of type nobody uses a frame as what it was. */
export function flushType(state: State, mfn: Mfn): State {
  const owner = ownerOf(state, mfn);
  if (owner === undefined) return state;
  const rights = rightsOfFrame(frameOf(state, mfn).type, state.policies);
  return settleFrame(forgetFrame(state, owner, { mfn, rights }), owner.id, mfn);
}

/** Nobody who runs `id` knows a frame of somebody else's any more. */
export function forgetLent(state: State, id: DomId, mfn: Mfn): State {
  const domain = state.domains.get(id);
  return domain === undefined ? state : settleFrame(forgetFrame(state, domain, { mfn, rights: 0 }), id, mfn);
}

/** A frame is about to be freed: nobody knows it any more, or (lazy) who runs its owner may. */
export function beforeFree(state: State, mfn: Mfn): State {
  const owner = ownerOf(state, mfn);
  if (owner === undefined) return state;
  if (state.policies.flush === 'eager')
    return settleFrame(forgetFrame(state, owner, { mfn, rights: 0 }), owner.id, mfn);
  return stays(state, owner, { mfn, rights: rightsOfFrame(frameOf(state, mfn).type, state.policies) });
}

/** A frame is taken from its owner, whose processors may go on using it for now. */
export function beforeTaken(state: State, mfn: Mfn): State {
  const owner = ownerOf(state, mfn);
  return owner === undefined
    ? state
    : stays(state, owner, { mfn, rights: rightsOfFrame(frameOf(state, mfn).type, state.policies) });
}

/** It has come back: what they know of it is true again. */
export const afterReturned = (state: State, owner: DomId, mfn: Mfn): State => settleFrame(state, owner, mfn);

/** A frame is handed over: whoever knew it has been flushed. */
export function beforeGiven(state: State, mfn: Mfn): State {
  if (state.contexts.size === 0) return state;
  let now = state;
  state.domains.forEach((domain) => {
    if (domain.kind === 'pv') now = forgetFrame(now, domain, { mfn, rights: 0 });
  });
  return now;
}

/** The vCPUs that run, of those that a flush is about. */
function flushed(state: State, { domain, vcpus }: Flush): readonly number[] {
  const count = state.domains.get(domain)?.vcpus ?? 0;
  return Array.from({ length: count }, (_, vcpu) => vcpu).filter(
    (vcpu) => (vcpus === undefined || hasAll(vcpus, bit(vcpu))) && placeOfVcpu(state, domain, vcpu) !== NOWHERE,
  );
}

/** What leads from a linear frame goes: of kernel and user alike. */
function forgetPage({ geometry, policies }: State, context: Context, page: Gfn): Context {
  if (!policies.pvPcids) return invalidatePage(geometry, context, page);
  const pcids = [pvPcids.kernel, pvPcids.user];
  return pcids.reduce((now: Context, pcid) => invalidateAddress(geometry, now, { pcid, page }), context);
}

/** The pCPUs that run such vCPUs forget everything, or what is about one linear frame. */
export function forget(state: State, flush: Flush): State {
  const { domain, page } = flush;
  const vcpus = flushed(state, flush);
  let now = state;
  for (const vcpu of vcpus) {
    const context = state.contexts.get(vcpuKey(state, domain, vcpu));
    if (context === undefined) continue;
    const after = page === undefined ? invalidateEverything(context) : forgetPage(state, context, page);
    if (after !== context) now = withContext(now, vcpuAgent(domain, vcpu as VcpuId), { loaded: after.loaded });
  }
  if (page !== undefined) return now;
  const pcpus = vcpus.map((vcpu) => placeOfVcpu(state, domain, vcpu));
  return keepStale(now, domain, (pcpu) => !pcpus.includes(pcpu));
}

/** Whether some processor runs the guest. */
export const isRunSomewhere = (state: State, id: DomId): boolean =>
  isParavirtual(state, id) && pcpusRunning(state, id).length > 0;

/** Which entry of a table at `level` is about a linear frame. */
export const indexAt = (geometry: Geometry, page: Gfn, level: number): number =>
  Math.floor(pageBitsOf(geometry, page) / framesPerLeaf(geometry, level)) % tableEntries(geometry);

/** Whether INVLPG of a linear frame does anything: for several vCPUs not where the hypervisor's own addresses are. */
export function isInvalidated({ geometry }: State, page: Gfn, isLocal: boolean): boolean {
  if (!isCanonicalPage(geometry, page)) return false;
  return isLocal || !isHypervisors(geometry, geometry.levels, indexAt(geometry, page, geometry.levels));
}
