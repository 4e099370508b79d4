// What kind of memory a gfn is, as a device model sets it: RAM, RAM that is only read, or nothing (what a device model emulates).
// A range is worked on gfn by gfn, each change on its own; what an error leaves behind stays. Type changes keep frame, owner
// and contents. RAM that is made nothing stays with its owner, at no gfn.
// Two things differ from Xen: there the entry of such RAM goes on naming the frame, which no walk uses; and RAM that is made
// writable while writes are logged is not marked as written.
// A first reader may skip `objection`. Sources: Xen arch/x86/hvm/dm.c (dm_op, set_mem_type, allow_p2m_type_change),
// arch/x86/mm/p2m.c (p2m_change_type_one).

import type { Gfn } from '#abi/address.ts';
import type { P2mType } from '#abi/hap.ts';
import type { Errno } from '#abi/reply.ts';
import { failure, preemption, type Cut } from '../cut.ts';
import { setP2m, settle } from '../p2m.ts';
import { isOnDemand } from '../pod.ts';
import { at, end, go, noting, type OpOf, type Task, type Turn } from '../progress.ts';
import { isRamType, type Domain, type Entry } from '../state.ts';
import { wish } from './pod-demand.ts';

type Change = OpOf<'memory.setMemType'>;

/** What each type makes of RAM; undefined: nothing. The last one is refused. */
const becomes: Readonly<Record<Exclude<Change['type'], 'unused'>, P2mType | undefined>> = {
  ramRw: 'ramRw',
  ramRo: 'ramRo',
  mmioDm: undefined,
};

/** A domain by literal id, never the caller's own, for those who serve it: the control domain alone. */
export function served(cut: Cut, task: Task<{ readonly target: Domain['id'] }>): Domain | 'ESRCH' | 'EPERM' {
  const domain = cut.state.domains.get(task.op.target);
  if (domain === undefined) return 'ESRCH';
  return domain.id === task.caller || task.caller !== 0 ? 'EPERM' : domain;
}

/** Whether there is nothing in the range, or it reaches beyond the highest gfn that was ever mapped. */
const isOutside = (domain: Domain, { gfn, count }: { readonly gfn: number; readonly count: number }): boolean =>
  count <= 0 || gfn + count - 1 > domain.maxGfn;

/** One micro-step: the checks, or one gfn. */
export function setMemType(cut: Cut, task: Task<Change>): Turn {
  const { op, work } = task;
  const domain = served(cut, task);
  if (typeof domain === 'string') return end(cut, domain, { done: work.index });
  if (domain.kind === 'pv') return end(cut, 'EINVAL');
  if (work.at === 'begin') {
    const rest = { gfn: op.gfn + op.start, count: op.count - op.start };
    const isRefused = isOutside(domain, rest) || op.type === 'unused';
    return isRefused ? end(cut, 'EINVAL') : go(cut, task, { at: 'check', index: op.start });
  }
  if (work.at === 'check') return change(cut, task, domain);
  return border(at(cut, settle(cut.state, task.debts)), task);
}

/** Between two gfns: the end, or a preemption now and then. */
function border(cut: Cut, task: Task<Change>): Turn {
  const { op, work } = task;
  if (work.index === op.count) return end(cut, 'ok', { done: work.index });
  const isDue = (work.index - op.start) % cut.state.geometry.capacity.rangeCheck === 0;
  const preempted = isDue ? preemption(cut, work.index) : undefined;
  return preempted === undefined ? go(cut, task, { at: 'check' }) : end(preempted, 'preempted', { done: work.index });
}

/** RAM of any kind can become anything; nothing can become nothing. */
const objection = (entry: Entry | undefined, to: P2mType | undefined): Errno | undefined =>
  (entry === undefined ? to === undefined : isRamType(entry.type)) ? undefined : 'EINVAL';

function change(cut: Cut, task: Task<Change>, domain: Domain): Turn {
  const { op, work } = task;
  const place = { domain: domain.id, gfn: (op.gfn + work.index) as Gfn };
  const next = { at: 'next', index: work.index + 1 } as const;
  const type = op.type === 'unused' ? undefined : becomes[op.type];
  wish(cut, work, place);
  const entry = domain.p2m.get(place.gfn);
  const errno = isOnDemand(domain, place.gfn) ? 'EINVAL' : objection(entry, type);
  if (errno !== undefined) return end(cut, errno, { done: work.index });
  if (entry === undefined) return go(cut, task, next);
  const failed = failure(cut, { class: 'pool', domain: domain.id, done: work.index });
  if (failed !== undefined) return end(failed, 'ENOMEM', { done: work.index });
  const changed = at(cut, setP2m(cut.state, place, type && { mfn: entry.mfn, type }));
  return go(type === 'ramRw' ? noting(changed, place) : changed, task, next);
}
