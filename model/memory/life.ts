// The life of a domain: created paused with its hypervisor pages, limited, paused, killed in preemptible pieces.
// A killed domain gives up its mappings of others' grants (handles from the highest down), then its address space and
// pool, then (paravirtual) the roots of its vCPUs, then its pages (ascending); it is buried with the last reference to a frame of it (frames.ts, reap).
// Sources: Xen common/domain.c (domain_create, domain_kill), common/domctl.c, common/grant_table.c
// (gnttab_release_mappings), arch/x86/domain.c (domain_relinquish_resources).

import { INVALID_MFN, type DomId, type Gfn, type Mfn } from '#abi/address.ts';
import { UNRESTRICTED } from '#abi/hap.ts';
import { pow2 } from '#lib/bits.ts';
import { Trie } from '#lib/trie.ts';
import { match } from 'ts-pattern';
import { allocate, allocateAll, ask, preemption, refuse, wait, type Cut } from '../cut.ts';
import { dropAllocated, free, putReference, reap, unplace } from '../frames.ts';
import { giveHandle } from '../grants/release.ts';
import { shared } from '../grants/table.ts';
import { setP2m } from '../p2m.ts';
import { withPod } from '../pod.ts';
import { hasLarge, noPod, takeFromCache } from './pod-frames.ts';
import { at, end, go, type OpOf, type Task, type Turn } from '../progress.ts';
import { emptyLog, freeBitmap, hasBitmap } from './dirty-log.ts';
import { initialPermissions } from './mmio.ts';
import { giveRoot, givePvPage, isHeld, relinquishing } from '../pv/relinquish.ts';
import { vcpuKey, withDomain, withParts, type Domain, type State } from '../state.ts';
import { NOWHERE } from '#abi/agents.ts';

/** Pauses nest at most this deep. */
const PAUSE_MAX = 255;

type Named = Task<{ readonly target: DomId }>;

/** A domain by literal id, for the control domain alone; look-up comes first. */
export function controlled(cut: Cut, task: Named): Domain | 'ESRCH' | 'EPERM' {
  const domain = cut.state.domains.get(task.op.target);
  if (domain === undefined) return 'ESRCH';
  return task.caller === 0 ? domain : 'EPERM';
}

type Create = OpOf<'memory.createDomain'>;

/** The control domain is always what it is. */
const isPv = ({ target, guest }: Create): boolean => target !== 0 && guest === 'pv';

function objection(cut: Cut, task: Task<Create>): 'EPERM' | 'EINVAL' | 'EEXIST' | undefined {
  const { op } = task;
  const { capacity } = cut.state.geometry;
  if (task.caller !== 0) return 'EPERM';
  if (op.target >= capacity.domains) return 'EINVAL';
  if (cut.state.domains.has(op.target)) return 'EEXIST';
  return op.vcpus > capacity.vcpusPerDomain || op.grantFrames > capacity.grantFrames ? 'EINVAL' : undefined;
}

/** Two micro-steps: its frames are taken, then it is there. Others may be given frames in between. */
export function createDomain(cut: Cut, task: Task<Create>): Turn {
  const { op, work } = task;
  if (work.at === 'install') return insertDomain(cut, op, work.given);
  const errno = objection(cut, task);
  if (errno !== undefined) return end(cut, errno);
  const grantRoles = Array.from({ length: op.grantFrames }, () => 'grantFrame' as const);
  const { cut: after, mfns } = allocateAll(cut, op.target, ['xen', 'sharedInfo', ...grantRoles]);
  if (mfns === undefined) return end(after, 'ENOMEM');
  return go(after, task, { at: 'install', given: mfns });
}

/** A limit is cut to what a count of pages can be. */
const representable = ({ state }: Cut, pages: number): number => Math.min(pages, pow2(state.geometry.width.pages) - 1);

/** A domain as it begins, with the frames that were given for it. */
function newDomain(cut: Cut, op: Create, given: readonly Mfn[]): Domain {
  const [structure, sharedInfo, ...frames] = given as readonly [Mfn, Mfn, ...Mfn[]];
  const iomem = initialPermissions(cut.state.geometry, op.target);
  return {
    id: op.target,
    kind: op.target === 0 ? 'control' : op.guest,
    state: 'running',
    relinquish: 'handles',
    pauseCount: 1,
    held: 0,
    log: emptyLog(cut.state.geometry),
    watch: { leaves: UNRESTRICTED, listens: false, required: false },
    crashed: false,
    writesTables: false,
    calls: 0,
    maxPages: representable(cut, op.maxPages),
    totalPages: 0,
    claim: 0,
    vcpus: op.vcpus,
    p2m: Trie.empty(),
    maxGfn: 0,
    iomem,
    iomemEver: iomem,
    stale: [],
    structure,
    sharedInfo,
    grants: {
      frames,
      // A paravirtual guest that begins without grant frames has no grant table.
      limit: isPv(op) && op.grantFrames === 0 ? 0 : cut.state.geometry.capacity.grantFrames,
      active: Trie.empty(),
      handles: Trie.empty(),
      maptrack: [],
    },
    pool: { frames: Trie.empty(), used: 0 },
    pod: noPod(cut.state.geometry),
  };
}

function insertDomain(cut: Cut, op: Create, given: readonly Mfn[]): Turn {
  if (cut.state.domains.has(op.target)) return refuse(`d${op.target} is created twice`, 'refines');
  const domain = newDomain(cut, op, given);
  const keys = Array.from({ length: op.vcpus }, (_, vcpu) => vcpuKey(cut.state, op.target, vcpu));
  const vcpus = keys.reduce((trie, key) => trie.set(key, NOWHERE), cut.state.vcpus);
  const first = vcpuKey(cut.state, op.target, 0);
  const contexts = cut.state.contexts.withoutRange(first, first + cut.state.geometry.capacity.vcpusPerDomain);
  const parts = { vcpus, contexts, domains: cut.state.domains.set(op.target, domain) };
  const inserted = withParts(cut.state, parts);
  return end(at(cut, shared(inserted, domain, [domain.sharedInfo, ...domain.grants.frames])), 'ok');
}

export function pauseDomain(cut: Cut, task: Task<OpOf<'memory.pauseDomain'>>): Turn {
  const domain = controlled(cut, task);
  if (typeof domain === 'string') return end(cut, domain);
  if (domain.id === task.caller || domain.pauseCount === PAUSE_MAX) return end(cut, 'EINVAL');
  if (domain.calls > 0) return wait();
  return end(at(cut, withDomain(cut.state, domain.id, { pauseCount: domain.pauseCount + 1 })), 'ok');
}

export function unpauseDomain(cut: Cut, task: Task<OpOf<'memory.unpauseDomain'>>): Turn {
  const domain = controlled(cut, task);
  if (typeof domain === 'string') return end(cut, domain);
  if (domain.pauseCount === 0) return end(cut, 'EINVAL');
  return end(at(cut, withDomain(cut.state, domain.id, { pauseCount: domain.pauseCount - 1 })), 'ok');
}

export function setMaxPages(cut: Cut, task: Task<OpOf<'memory.setMaxPages'>>): Turn {
  const domain = controlled(cut, task);
  if (typeof domain === 'string') return end(cut, domain);
  return end(at(cut, withDomain(cut.state, domain.id, { maxPages: representable(cut, task.op.maxPages) })), 'ok');
}

/** One micro-step of killing: its start, or one unit of relinquishing. `part` counts units for preemption. */
export function killDomain(cut: Cut, task: Task<OpOf<'memory.killDomain'>>): Turn {
  const relinquished = relinquishing(cut, task);
  if (relinquished !== undefined) return relinquished;
  const domain = controlled(cut, task);
  if (typeof domain === 'string') return end(cut, task.work.at === 'begin' ? domain : 'ok');
  if (domain.id === task.caller) return end(cut, 'EINVAL');
  if (domain.state === 'dead') return end(cut, 'ok');
  if (domain.state === 'running') {
    if (domain.calls > 0) return wait();
    const stopped = unplace(cut.state, domain);
    const watch = { ...domain.watch, listens: false };
    return go(at(cut, withDomain(stopped, domain.id, { state: 'dying', watch, claim: 0 })), task, { at: 'next' });
  }
  const preempted = task.work.part > 0 ? preemption(cut, task.work.part) : undefined;
  if (preempted !== undefined) return end(preempted, 'preempted', { done: task.work.part });
  return match(domain.relinquish)
    .with('pages', () => givePage(cut, task, domain))
    .with('handles', () => giveHandles(cut, task, domain))
    .with('tables', () => giveTables(cut, task, domain))
    .with('roots', () => giveRoots(cut, task, domain))
    .with('cache', () => emptyCache(cut, task, domain))
    .exhaustive();
}

const more = (cut: Cut, task: Task<unknown>): Turn => go(cut, task, { at: 'next', part: task.work.part + 1 });

/** Mappings of others' grants. */
const giveHandles = (cut: Cut, task: Task<unknown>, domain: Domain): Turn =>
  giveHandle(cut, task, domain) ??
  go(at(cut, withDomain(cut.state, domain.id, { relinquish: 'tables' })), task, { at: 'next' });

function forgetP2m(state: State, domain: Domain): State {
  let now = state;
  domain.p2m.forEach((entry, gfn) => {
    now = setP2m(now, { domain: domain.id, gfn: gfn as Gfn }, undefined);
    if (entry.type === 'foreign') now = putReference(now, entry.mfn);
  });
  return withPod(now, domain.id, { entries: [] });
}

/** Nothing is logged any more. */
const endLog = (cut: Cut, id: DomId): Cut => at(cut, withDomain(cut.state, id, { log: emptyLog(cut.state.geometry) }));

/** Forgets the address space (foreign entries give their references back), then returns the pool to the heap. */
function giveTables(cut: Cut, task: Task<unknown>, domain: Domain): Turn {
  if (domain.p2m.size > 0 || domain.pod.entries.length > 0)
    return go(at(cut, forgetP2m(cut.state, domain)), task, { at: 'next' });
  if (hasBitmap(domain) || domain.log.on)
    return go(endLog(freeBitmap(cut, domain.id), domain.id), task, { at: 'next' });
  if (domain.pool.frames.size > 0) return more(givePoolFrame(cut, domain.id), task);
  return go(at(cut, withDomain(cut.state, domain.id, { relinquish: 'roots' })), task, { at: 'next' });
}

/** Roots of vCPUs, of a paravirtual guest. */
const giveRoots = (cut: Cut, task: Task<unknown>, domain: Domain): Turn =>
  giveRoot(cut, task, domain) ??
  go(at(cut, withDomain(cut.state, domain.id, { relinquish: 'cache' })), task, { at: 'next' });

/** A piece of the cache for memory on demand becomes ordinary pages. */
function emptyCache(cut: Cut, task: Task<unknown>, domain: Domain): Turn {
  if (domain.pod.cache.size > 0)
    return more(takeFromCache(cut, domain.id, hasLarge(domain) ? 'large' : 'single').cut, task);
  return go(at(cut, withDomain(cut.state, domain.id, { relinquish: 'pages' })), task, { at: 'next' });
}

/** A spare pool frame returns to the heap, as logged. */
export function givePoolFrame(cut: Cut, id: DomId): Cut {
  const { cut: after, choice } = ask(cut, ['poolGiven']);
  const domain = after.state.domains.get(id);
  const use = domain?.pool.frames.get(choice.mfn);
  if (domain === undefined || choice.domain !== id || use === undefined)
    return refuse(`frame ${choice.mfn} is not in the pool`, 'FREE');
  if (use !== 'spare') return refuse(`pool frame ${choice.mfn} is given back while it is a ${use}`, 'FREE');
  const pool = { ...domain.pool, frames: domain.pool.frames.delete(choice.mfn) };
  return at(after, withDomain(free(after.state, choice.mfn), id, { pool }));
}

/** The lowest frame of RAM from `from` on that the domain still holds for itself. */
function nextPage(state: State, domain: Domain, from: number): Mfn | undefined {
  if (domain.totalPages === 0) return undefined;
  for (let mfn = from; mfn < state.geometry.frameCount; mfn += 1) {
    if (isHeld(state, domain, mfn as Mfn)) return mfn as Mfn;
  }
  return undefined;
}

/** Lets go of one page; after the last the domain is dead, and buried unless somebody holds a frame of it. */
function givePage(cut: Cut, task: Task<unknown>, domain: Domain): Turn {
  const mfn = nextPage(cut.state, domain, task.work.mfn === INVALID_MFN ? 0 : task.work.mfn);
  if (mfn !== undefined && domain.kind === 'pv') return givePvPage(cut, task, mfn);
  if (mfn !== undefined) return go(at(cut, dropAllocated(cut.state, mfn)), task, { part: task.work.part + 1, mfn });
  return end(at(cut, reap(withDomain(cut.state, domain.id, { state: 'dead' }), domain.id)), 'ok');
}

/** Grows or shrinks the pool frame by frame; tables in use are never given back. */
export function setPool(cut: Cut, task: Task<OpOf<'memory.setPool'>>): Turn {
  const domain = controlled(cut, task);
  if (typeof domain === 'string') return end(cut, domain);
  const { part } = task.work;
  if (domain.state !== 'running' || domain.kind === 'pv') return end(cut, 'EINVAL');
  if (domain.log.unfinished !== undefined) return end(cut, 'EBUSY', { done: part });
  if (task.op.frames > cut.state.geometry.capacity.poolFrames) return end(cut, 'EINVAL');
  const { frames, used } = domain.pool;
  const wanted = Math.max(task.op.frames, used);
  if (frames.size === wanted) return end(cut, 'ok');
  const preempted = part > 0 ? preemption(cut, part) : undefined;
  if (preempted !== undefined) return end(preempted, 'preempted', { done: part });
  if (frames.size > wanted) return more(givePoolFrame(cut, domain.id), task);
  const { cut: given, mfn } = allocate(cut, { order: 0, owner: domain.id, role: 'pool' });
  if (mfn === undefined) return end(given, 'ENOMEM');
  const pool = { frames: frames.set(mfn, 'spare' as const), used };
  return more(at(given, withDomain(given.state, domain.id, { pool })), task);
}
