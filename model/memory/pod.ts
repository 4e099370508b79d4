// Memory on demand as the toolstack handles it: marking gfns, how much memory a guest is to have (its cache grows towards that), and
// the numbers. A first reader may skip `wantedCache`. Sources: Xen arch/x86/mm/p2m-pod.c
// (guest_physmap_mark_populate_on_demand, mark_populate_on_demand, p2m_pod_set_mem_target, p2m_pod_set_cache_target,
// p2m_pod_get_mem_target), arch/x86/mm.c (XENMEM_set_pod_target, XENMEM_get_pod_target).

import { gfnCount, superpageOrder } from '#abi/geometry.ts';
import type { DomId } from '#abi/address.ts';
import type { Errno } from '#abi/reply.ts';
import { pow2 } from '#lib/bits.ts';
import { allocate, failure, preemption, type Cut } from '../cut.ts';
import { crash, dropAllocated } from '../frames.ts';
import { entryCount, isOnDemand, withDemand } from '../pod.ts';
import { at, end, go, type OpOf, type Task, type Turn } from '../progress.ts';
import { domainNamed, type Domain } from '../state.ts';
import { addToCache, largeSize } from './pod-frames.ts';
import { takeSurplus } from './pod-decrease.ts';
import { changedPod, type PodWork } from './pod-work.ts';

type Mark = Task<OpOf<'memory.populateOnDemand'>>;

/** Why a piece cannot be on demand. */
function objection(domain: Domain, { piece, size }: PodWork): Errno | undefined {
  if (domain.state !== 'running') return 'EINVAL';
  const isTaken = (gfn: number): boolean => domain.p2m.has(gfn) && !isOnDemand(domain, gfn);
  const among =
    size > domain.p2m.size ? domain.p2m.keys().filter((gfn) => gfn >= piece && gfn < piece + size) : undefined;
  const gfns = among ?? Array.from({ length: size }, (_, i) => piece + i);
  return gfns.some(isTaken) ? 'EBUSY' : undefined;
}

/** One aligned piece of an extent is marked, if nothing but what is on demand already is there. */
export function markPiece(cut: Cut, task: Mark, domain: Domain): Turn {
  const { pod, index, gfn } = task.work;
  const { piece, size } = pod;
  if (piece >= pod.end) return go(cut, task, { at: 'next', index: index + 1 });
  const errno = objection(domain, pod);
  if (errno !== undefined) return end(cut, errno, { done: index });
  const isBeyond = piece + size > gfnCount(cut.state.geometry);
  const done = index * pow2(task.op.order) + piece - gfn;
  const failed = isBeyond ? cut : failure(cut, { class: 'pool', domain: domain.id, done });
  if (failed === undefined) {
    const marked = withDemand(cut.state, domain.id, { from: piece, to: piece + size });
    return go(at(cut, marked), task, { pod: changedPod(pod, { piece: piece + size }) });
  }
  const state = size > 1 ? crash(failed.state, domain.id) : failed.state;
  return end(at(failed, state), isBeyond ? 'EINVAL' : 'ENOMEM', { done: index });
}

type Targeted = Task<{ readonly target: DomId }>;

/** A guest, for the control domain alone. Look-up comes first, then what it is. */
function podDomain(cut: Cut, task: Targeted): Domain | Errno {
  const domain = domainNamed(cut.state, task.op.target, task.caller);
  if (domain === undefined) return 'ESRCH';
  if (domain.kind === 'control') return 'EINVAL';
  if (task.caller !== 0) return 'EPERM';
  return domain.kind === 'pv' ? 'EINVAL' : domain;
}

/** How many pages there are, how many of them lie in the cache, how many gfns are on demand. */
function tell(cut: Cut, task: Targeted): Turn {
  const domain = podDomain(cut, task);
  if (typeof domain === 'string') return end(cut, domain);
  return end(cut, 'ok', { out: [domain.totalPages, domain.pod.cache.size, entryCount(domain)] });
}

/** Two micro-steps: it may have to wait for the numbers. */
export const podTarget = (cut: Cut, task: Task<OpOf<'memory.podTarget'>>): Turn => {
  const domain = podDomain(cut, task);
  if (task.work.at === 'begin' && typeof domain !== 'string') return go(cut, task, { at: 'finish' });
  return tell(cut, task);
};

type Set = Task<OpOf<'memory.setPodTarget'>>;

/** One micro-step of setting a target. */
export function setPodTarget(cut: Cut, task: Set): Turn {
  const domain = podDomain(cut, task);
  if (task.work.at === 'finish' || typeof domain === 'string') return tell(cut, task);
  if (task.work.at === 'begin')
    return task.op.pages > domain.maxPages ? end(cut, 'EINVAL') : go(cut, task, { at: 'check' });
  if (task.work.at === 'check') {
    const wanted = wantedCache(domain, task.op.pages);
    if (wanted === undefined) return go(cut, task, { at: 'finish' });
    if (domain.iomem.size > 0) return end(cut, 'ENOTEMPTY');
    return go(cut, task, { at: 'allocate', pod: changedPod(task.work.pod, { wanted }) });
  }
  return resize(cut, task, domain);
}

/**
 * How large the cache is to be for `pages` in all; undefined: it stays. Nothing is owed to a guest that has populated all;
 * more than is owed is for a guest that is being built only; and less than there is, is left to the guest's own giving back.
 */
function wantedCache(domain: Domain, pages: number): number | undefined {
  const owed = entryCount(domain);
  const populated = domain.totalPages - domain.pod.cache.size;
  if ((populated > 0 && owed === 0) || domain.state !== 'running' || pages < domain.totalPages) return undefined;
  return populated > 0 ? Math.min(pages - populated, owed) : pages - populated;
}

/** The cache comes nearer to what it is to be, by a large run if that fits, else by a frame. */
function resize(cut: Cut, task: Set, domain: Domain): Turn {
  const { pod, part } = task.work;
  const { wanted } = pod;
  const [first, ...leaving] = pod.leaving;
  if (first !== undefined)
    return go(at(cut, dropAllocated(cut.state, first)), task, { pod: changedPod(pod, { leaving }) });
  const has = domain.pod.cache.size;
  if (has === wanted) return go(cut, task, { at: 'finish' });
  // A large run that was refused is no piece: a frame is tried in its place.
  const preempted = part > 0 && !pod.isSmall ? preemption(cut, part) : undefined;
  if (preempted !== undefined) return end(preempted, 'preempted', { done: part });
  if (has < wanted) return grow(cut, task, domain);
  const { cut: after, leaving: frames } = takeSurplus(cut, domain, wanted);
  return go(after, task, { part: part + 1, pod: changedPod(pod, { leaving: frames }) });
}

function grow(cut: Cut, task: Set, domain: Domain): Turn {
  const { pod, part } = task.work;
  const isLarge = !pod.isSmall && pod.wanted - domain.pod.cache.size >= largeSize(cut.state);
  const order = isLarge ? superpageOrder(cut.state.geometry) : 0;
  const count = isLarge ? largeSize(cut.state) : 1;
  const isOver = domain.state !== 'running' || domain.totalPages + count > domain.maxPages;
  const given = isOver ? { cut, mfn: undefined } : allocate(cut, { order, owner: domain.id, role: 'ram' });
  if (given.mfn === undefined)
    return isLarge ? go(given.cut, task, { pod: changedPod(pod, { isSmall: true }) }) : end(given.cut, 'ENOMEM');
  const state = addToCache(given.cut.state, domain.id, { mfn: given.mfn, count });
  return go(at(given.cut, state), task, { part: part + 1, pod: changedPod(pod, { isSmall: false }) });
}
