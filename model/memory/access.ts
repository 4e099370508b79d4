// What a listener leaves of a domain's rights, gfn by gfn, whatever the gfn's type; what the domain's new entries leave; and whether
// somebody listens. The P2M lock is held over a whole call, so processors forget at its end. Whatever else changes an entry leaves what
// new entries do; only a change of all types keeps it (log-dirty.ts). What happens at an access beyond it: paging/heed.ts.
// Entries of NPT cannot say so, and their domains are refused. Differences from Xen: a gfn that means nothing takes no table, and one on
// demand that cannot be populated stays so. The listener's ring and its page are left out.
// A first reader may skip `objection`. Sources: Xen common/mem_access.c (mem_access_memop), arch/x86/mm/mem_access.c (p2m_set_mem_access,
// p2m_get_mem_access, p2m_mem_access_sanity_check), common/vm_event.c (vm_event_domctl), common/domctl.c (set_access_required).

import type { Gfn } from '#abi/address.ts';
import { p2mAccesses, type P2mAccess } from '#abi/hap.ts';
import type { Errno } from '#abi/reply.ts';
import { failure, preemption, wait, type Cut } from '../cut.ts';
import { setP2m, settle } from '../p2m.ts';
import { isOnDemand } from '../pod.ts';
import { at, end, go, type OpOf, type Task, type Turn } from '../progress.ts';
import { withDomain, type Domain, type State, type Watch } from '../state.ts';
import { controlled } from './life.ts';
import { wish } from './pod-demand.ts';

type Set = OpOf<'memory.setMemAccess'>;

export const withWatch = (state: State, { id, watch }: Domain, change: Partial<Watch>): State =>
  withDomain(state, id, {
    watch: {
      leaves: change.leaves ?? watch.leaves,
      listens: change.listens ?? watch.listens,
      required: change.required ?? watch.required,
    },
  });

/** The domain that is watched, by literal id: alive, on EPT, the caller's to serve, and listened to. */
function watched(cut: Cut, task: Task<{ readonly target: Domain['id'] }>): Domain | Errno {
  const domain = cut.state.domains.get(task.op.target);
  if (domain === undefined) return 'ESRCH';
  if (domain.id === task.caller) return 'EPERM';
  if (domain.state !== 'running' || domain.kind === 'pv' || cut.state.vendor === 'amd') return 'EINVAL';
  if (task.caller !== 0) return 'EPERM';
  return domain.watch.listens ? domain : 'ENODEV';
}

/** gfns from one look for preemption to the next (MEMOP_CMD_MASK), of which a continuation counts whole ones. */
const stretchOf = ({ geometry }: State): number => Math.min(64, geometry.capacity.rangeCheck);

const beginning = (state: State, { start }: Set): number => start - (start % stretchOf(state));

/** Why a range cannot be meant. One that has been gone through may be empty. */
function objection(domain: Domain, { gfn, count }: Set, start: number): 'EINVAL' | undefined {
  return count < start || count === 0 || gfn + count - 1 > domain.maxGfn ? 'EINVAL' : undefined;
}

const accessOf = ({ watch }: Domain, { access }: Set): P2mAccess => (access === 'default' ? watch.leaves : access);

/** One micro-step: the checks, one gfn, or the end. What is left is decided once for the whole call. */
export function setMemAccess(cut: Cut, task: Task<Set>): Turn {
  const { op, work } = task;
  const { state } = cut;
  if (work.at === 'settle') return finish(at(cut, settle(state, task.debts)), task);
  const domain = work.at === 'begin' ? watched(cut, task) : state.domains.get(op.target);
  if (domain === undefined) return end(cut, 'ESRCH', { done: work.index });
  if (typeof domain === 'string') return end(cut, domain);
  const access = work.at === 'begin' ? accessOf(domain, op) : (p2mAccesses[work.handle] as P2mAccess);
  if (work.at === 'begin' && op.scope === 'default')
    return end(at(cut, withWatch(state, domain, { leaves: access })), 'ok');
  if (work.at === 'begin') {
    const index = beginning(state, op);
    if (objection(domain, op, index) !== undefined) return end(cut, 'EINVAL');
    return go(cut, task, { at: 'next', index, handle: p2mAccesses.indexOf(access) });
  }
  return work.at === 'next' ? border(cut, task) : change(cut, task, { domain, access });
}

/** Between two gfns: the end, or a preemption now and then. */
function border(cut: Cut, task: Task<Set>): Turn {
  const { op, work } = task;
  if (work.index === op.count) return go(cut, task, { at: 'settle' });
  const isDue = work.index > beginning(cut.state, op) && work.index % stretchOf(cut.state) === 0;
  const preempted = isDue ? preemption(cut, work.index) : undefined;
  return preempted === undefined
    ? go(cut, task, { at: 'check' })
    : go(preempted, task, { at: 'settle', status: 'preempted' });
}

const finish = (cut: Cut, { work }: Task<Set>): Turn => end(cut, work.status, { done: work.index });

/** One gfn: another entry of the same frame and type. */
function change(cut: Cut, task: Task<Set>, { domain, access }: { domain: Domain; access: P2mAccess }): Turn {
  const { op, work } = task;
  const place = { domain: domain.id, gfn: (op.gfn + work.index) as Gfn };
  const next = { at: 'next', index: work.index + 1 } as const;
  wish(cut, work, place);
  const entry = domain.p2m.get(place.gfn);
  if (entry === undefined || isOnDemand(domain, place.gfn)) return go(cut, task, next);
  const failed = failure(cut, { class: 'pool', domain: domain.id, done: work.index });
  if (failed !== undefined) return go(failed, task, { at: 'settle', status: 'ENOMEM' });
  const { mfn, type } = entry;
  return go(at(cut, setP2m(cut.state, place, { mfn, type, access })), task, next);
}

/** What is left of a gfn, or what new entries leave; as its code. */
export function memAccess(cut: Cut, task: Task<OpOf<'memory.memAccess'>>): Turn {
  const { scope, gfn } = task.op;
  const domain = watched(cut, task);
  if (typeof domain === 'string') return end(cut, domain);
  if (scope === 'gfns' && gfn > domain.maxGfn) return end(cut, 'EINVAL');
  const access = scope === 'default' ? domain.watch.leaves : domain.p2m.get(gfn)?.access;
  return access === undefined ? end(cut, 'ESRCH') : end(cut, 'ok', { out: [p2mAccesses.indexOf(access)] });
}

/** Somebody listens, or stops: then the domain is paused for a moment. */
export function monitor(cut: Cut, task: Task<OpOf<'memory.monitor'>>): Turn {
  const domain = controlled(cut, task);
  if (typeof domain === 'string') return end(cut, domain);
  if (domain.id === task.caller) return end(cut, 'EINVAL');
  if (domain.state !== 'running') return end(cut, 'ok');
  const { listens } = domain.watch;
  if (task.op.action === 'listens') {
    if (listens) return end(cut, 'EBUSY');
    if (domain.kind === 'pv') return end(cut, 'EOPNOTSUPP');
    return end(at(cut, withWatch(cut.state, domain, { listens: true })), 'ok');
  }
  if (!listens) return end(cut, 'EINVAL');
  return domain.calls > 0 ? wait() : end(at(cut, withWatch(cut.state, domain, { listens: false })), 'ok');
}

/** The domain is paused for a moment. */
export function setAccessRequired(cut: Cut, task: Task<OpOf<'memory.setAccessRequired'>>): Turn {
  const domain = controlled(cut, task);
  if (typeof domain === 'string') return end(cut, domain);
  if (domain.id === task.caller) return end(cut, 'EPERM');
  if (domain.calls > 0) return wait();
  return end(at(cut, withWatch(cut.state, domain, { required: task.op.required === 'yes' })), 'ok');
}
