// What a listener leaves of a domain's rights: set gfn by gfn under one hold of the P2M lock, which is what makes processors forget; asked
// for; and who listens. It stands in the entries of EPT, which keep it through splits and changes of all types; whatever else changes an
// entry writes what new entries leave (hap/table.ts). Entries of NPT have no room for it.
// A first reader may skip `objection`. Sources: Xen common/mem_access.c (mem_access_memop), arch/x86/mm/mem_access.c (p2m_set_mem_access,
// p2m_get_mem_access), common/vm_event.c (vm_event_domctl), common/domctl.c (XEN_DOMCTL_set_access_required).

import { DOMID_CONTROL, type DomId } from '#abi/address.ts';
import type { P2mAccess } from '#abi/hap.ts';
import type { MemoryOp } from '#abi/memory.ts';
import { reply, type Errno, type Reply, type Status } from '#abi/reply.ts';
import type { Call } from '../execution.ts';
import { accessCodeOf, accessOf } from '../hap/entry.ts';
import { lockP2m, lookup, unlockP2m } from '../hap/table.ts';
import type { Machine } from '../machine.ts';
import type { Step } from '../port.ts';
import { awaitCalls } from './life.ts';
import { setP2m } from './p2m.ts';
import { demand, isOnDemand } from './pod-demand.ts';
import { callerIn, controlled, exists, isAlive, isParavirtual } from './target.ts';

type Op<K extends MemoryOp<'concrete'>['kind']> = Extract<MemoryOp<'concrete'>, { kind: K }>;

/** The domain that is watched, or why the call comes to nothing. */
function watched(m: Machine, call: Call, target: DomId): DomId | Errno {
  if (!exists(m, target)) return 'ESRCH';
  if (callerIn(call) === target) return 'EPERM';
  if (!isAlive(m, target) || isParavirtual(m, target) || m.format === 'npt') return 'EINVAL';
  if (callerIn(call) !== DOMID_CONTROL) return 'EPERM';
  return m.f.domListens.get(target) === 0 ? 'ENODEV' : target;
}

/** gfns from one look for preemption to the next; a continuation counts whole stretches of them. */
const STRETCH_MAX = 64;

/** Sets what is left of a range, or what new entries leave. */
export function* setMemAccess(m: Machine, call: Call, op: Op<'memory.setMemAccess'>): Step<Reply> {
  const { gfn, count } = op;
  const target = watched(m, call, op.target);
  if (typeof target === 'string') return reply(target);
  const access = op.access === 'default' ? accessOf(m.f.domAccess.get(target)) : op.access;
  if (op.scope === 'default') {
    m.f.domAccess.set(target, accessCodeOf(access));
    return reply('ok');
  }
  const stretch = Math.min(STRETCH_MAX, m.geometry.capacity.rangeCheck);
  const start = op.start - (op.start % stretch);
  if (count < start || count === 0 || gfn + count - 1 > m.f.domMaxGfn.getWide(target)) return reply('EINVAL');
  yield* lockP2m(m, target);
  let done = start;
  let answer: Status | undefined = yield* setOne(m, target, { op, access, done });
  while (answer === undefined) {
    done += 1;
    const isDue = done < count && done % stretch === 0 && exists(m, target);
    answer = isDue && m.port.preempts(done) ? 'preempted' : yield* setOne(m, target, { op, access, done });
  }
  yield* unlockP2m(m, target);
  return reply(answer, { done });
}

/** One gfn, the P2M lock held; or why the call ends there. What means nothing, and what cannot be populated, stays as it is. */
function* setOne(
  m: Machine,
  target: DomId,
  of: { readonly op: Op<'memory.setMemAccess'>; readonly access: P2mAccess; readonly done: number },
): Step<'ok' | 'ESRCH' | 'ENOMEM' | undefined> {
  const { op, access, done } = of;
  if (!exists(m, target)) return 'ESRCH';
  if (done === op.count) return 'ok';
  const gfn = op.gfn + done;
  if (isOnDemand(m, target, gfn)) yield* demand(m, target, gfn);
  if (!exists(m, target)) return 'ESRCH';
  const found = lookup(m, target, gfn);
  if (found === undefined || found.type === 'populateOnDemand') return undefined;
  const { mfn, type } = found;
  return (yield* setP2m(m, target, { gfn, order: 0, mfn, type, access, done })) ? undefined : 'ENOMEM';
}

/** What is left of a gfn, or what new entries leave. At once. */
export function memAccess(m: Machine, call: Call, { target: id, scope, gfn }: Op<'memory.memAccess'>): Reply {
  const target = watched(m, call, id);
  if (typeof target === 'string') return reply(target);
  if (scope === 'default') return reply('ok', { out: [m.f.domAccess.get(target)] });
  if (gfn > m.f.domMaxGfn.getWide(target)) return reply('EINVAL');
  const found = lookup(m, target, gfn);
  return found === undefined || found.type === 'populateOnDemand'
    ? reply('ESRCH')
    : reply('ok', { out: [accessCodeOf(found.access)] });
}

/** Somebody listens, or stops; for that the domain is paused for a moment. */
export function* monitor(m: Machine, call: Call, op: Op<'memory.monitor'>): Step<Reply> {
  yield* m.port.point('store', 'domain');
  for (;;) {
    const dom = controlled(m, call, op.target);
    if (typeof dom === 'string') return reply(dom);
    if (dom === callerIn(call)) return reply('EINVAL');
    if (!isAlive(m, dom)) return reply('ok');
    const isHeard = m.f.domListens.get(dom) !== 0;
    if (op.action === 'listens') {
      if (isHeard || isParavirtual(m, dom)) return reply(isHeard ? 'EBUSY' : 'EOPNOTSUPP');
      m.f.domListens.set(dom, 1);
      return reply('ok');
    }
    if (!isHeard) return reply('EINVAL');
    if (m.slotOf(dom) === 0) {
      m.f.domListens.set(dom, 0);
      return reply('ok');
    }
    yield* awaitCalls(m, dom);
  }
}

/** Whether somebody has to listen; the domain is paused for a moment. */
export function* setAccessRequired(m: Machine, call: Call, op: Op<'memory.setAccessRequired'>): Step<Reply> {
  yield* m.port.point('store', 'domain');
  for (;;) {
    const dom = controlled(m, call, op.target);
    if (typeof dom === 'string') return reply(dom);
    if (dom === callerIn(call)) return reply('EPERM');
    if (m.slotOf(dom) === 0) {
      m.f.domAccessRequired.set(dom, op.required === 'yes' ? 1 : 0);
      return reply('ok');
    }
    yield* awaitCalls(m, dom);
  }
}
