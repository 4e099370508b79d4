// The life of a domain up to its end (kill.ts): created paused with its hypervisor pages, limited, given a paging pool, paused.
// Operations on the life of one domain exclude each other by its domain lock, as Xen's domctl lock does for all domains.
// Pausing waits for the calls of the domain's vCPUs that are in flight: afterwards nothing of it runs.
// Sources: Xen common/domain.c (domain_create, domain_pause, domain_crash), common/domctl.c, arch/x86/mm/hap/hap.c
// (hap_set_allocation).

import { DOMID_CONTROL, type DomId } from '#abi/address.ts';
import type { MemoryOp } from '#abi/memory.ts';
import { reply, type Errno, type Reply } from '#abi/reply.ts';
import type { FrameRole } from '#abi/roles.ts';
import { pow2 } from '#lib/bits.ts';
import type { Call } from '../execution.ts';
import { WHOLE_ACCESS } from '../hap/entry.ts';
import { lockP2m, unlockP2m } from '../hap/table.ts';
import { domKinds, domStates } from '../layout.ts';
import type { Machine } from '../machine.ts';
import { resetRegisters } from '../paging/registers.ts';
import type { Step } from '../port.ts';
import { beginWritable } from '../pv/frames.ts';
import { allocate, allocateAll } from './heap.ts';
import { resetLog } from './dirty-log.ts';
import { resetPermissions } from './permissions.ts';
import { resetPod } from './pod-frames.ts';
import { addSpare, givePoolFrame } from './pool.ts';
import { callerIn, controlled, exists, isAlive, isParavirtual } from './target.ts';

type Op<K extends MemoryOp<'concrete'>['kind']> = Extract<MemoryOp<'concrete'>, { kind: K }>;

/** Pauses nest at most this deep. */
const PAUSE_MAX = 255;

const RUNNING = domStates.indexOf('running');

export const lockDomain = (m: Machine, dom: number): Step<void> => m.port.lock('domainLock', m.f.domainLock, dom);
export const unlockDomain = (m: Machine, dom: number): Step<void> => m.port.unlock('domainLock', m.f.domainLock, dom);

/** No pCPU runs `dom` any more. At once. */
export function unplace(m: Machine, dom: number): void {
  const { vcpusPerDomain } = m.geometry.capacity;
  for (let key = dom * vcpusPerDomain; key < (dom + 1) * vcpusPerDomain; key += 1) {
    const on = m.f.vcpuOn.get(key);
    if (on !== 0) m.f.pcpuVcpu.set(on - 1, 0);
    m.f.vcpuOn.set(key, 0);
  }
}

/** The domain did what is answered by stopping it for good: no vCPU of it runs again; it can only be killed. At once. */
export function crash(m: Machine, dom: number): void {
  unplace(m, dom);
  m.f.domCrashed.set(dom, 1);
}

/** Waits until no call of a vCPU of `dom` is in flight. No lock may be held. */
export function* awaitCalls(m: Machine, dom: number): Step<void> {
  for (let slot = m.slotOf(dom); slot !== 0; slot = m.slotOf(dom)) yield* m.port.wait(slot);
}

/** A new domain, paused, with its structure, shared info and grant frames. */
export function* createDomain(m: Machine, call: Call, op: Op<'memory.createDomain'>): Step<Reply> {
  if (callerIn(call) !== DOMID_CONTROL) return reply('EPERM');
  if (op.target >= m.geometry.capacity.domains) return reply('EINVAL');
  yield* lockDomain(m, op.target);
  const errno = yield* create(m, op);
  yield* unlockDomain(m, op.target);
  return reply(errno ?? 'ok');
}

function* create(m: Machine, op: Op<'memory.createDomain'>): Step<Errno | undefined> {
  const { capacity } = m.geometry;
  if (exists(m, op.target)) return 'EEXIST';
  // A paravirtual guest that begins without grant frames has no grant table.
  const grantLimit = kindOf(op) === 'pv' && op.grantFrames === 0 ? 0 : capacity.grantFrames;
  if (op.vcpus > capacity.vcpusPerDomain || op.grantFrames > capacity.grantFrames) return 'EINVAL';
  const roles: FrameRole[] = ['xen', 'sharedInfo'];
  for (let i = 0; i < op.grantFrames; i += 1) roles.push('grantFrame');
  const frames = yield* allocateAll(m, op.target, roles);
  if (frames === undefined) return 'ENOMEM';
  const [structure = 0, sharedInfo = 0, ...grantFrames] = frames;
  yield* m.port.point('store', 'domain');
  reset(m, op);
  m.f.domStructure.set(op.target, structure);
  m.f.domSharedInfo.set(op.target, sharedInfo);
  m.f.grantFrameCount.set(op.target, grantFrames.length);
  m.f.grantLimit.set(op.target, grantLimit);
  grantFrames.forEach((mfn, i) => m.f.grantFrame.set(op.target * capacity.grantFrames + i, mfn));
  m.f.domState.set(op.target, RUNNING);
  if (kindOf(op) === 'pv') for (const mfn of [sharedInfo, ...grantFrames]) beginWritable(m, mfn);
  return undefined;
}

const kindOf = ({ target, guest }: Op<'memory.createDomain'>): (typeof domKinds)[number] =>
  target === DOMID_CONTROL ? 'control' : guest;

/** The limit that the counter of pages can hold. */
const representable = (m: Machine, maxPages: number): number => Math.min(maxPages, pow2(m.geometry.width.pages) - 1);

/** What every domain begins with. What burial and teardown leave empty (tables, pool, maptrack) is empty. */
function reset(m: Machine, op: Op<'memory.createDomain'>): void {
  const { f } = m;
  const { target, maxPages, vcpus } = op;
  f.domLife.add(target, 1);
  f.domKind.set(target, domKinds.indexOf(kindOf(op)));
  f.domStage.set(target, 0);
  f.domPauses.set(target, 1);
  f.domCrashed.set(target, 0);
  f.domWritesTables.set(target, 0);
  f.domMaxPages.set(target, representable(m, maxPages));
  f.domMaxGfn.setWide(target, 0);
  f.domHeld.set(target, 0);
  resetPermissions(m, target);
  resetLog(m, target);
  f.domAccess.set(target, WHOLE_ACCESS);
  f.domListens.set(target, 0);
  f.domAccessRequired.set(target, 0);
  f.domVcpus.set(target, vcpus);
  resetPod(m, target);
  // No vCPU of the last domain by that name has left it an ASID.
  const { vcpusPerDomain } = m.geometry.capacity;
  for (let key = target * vcpusPerDomain; key < (target + 1) * vcpusPerDomain; key += 1) {
    f.vcpuGeneration.set(key, 0);
    f.vcpuCore.set(key, 0);
    resetRegisters(m, key);
  }
}

/** One pause more. */
export function* pauseDomain(m: Machine, call: Call, op: Op<'memory.pauseDomain'>): Step<Reply> {
  yield* m.port.point('store', 'domain');
  for (;;) {
    const dom = controlled(m, call, op.target);
    if (typeof dom === 'string') return reply(dom);
    if (dom === callerIn(call) || m.f.domPauses.get(dom) === PAUSE_MAX) return reply('EINVAL');
    if (m.slotOf(dom) === 0) {
      m.f.domPauses.add(dom, 1);
      return reply('ok');
    }
    yield* awaitCalls(m, dom);
  }
}

/** One pause less. */
export function* unpauseDomain(m: Machine, call: Call, op: Op<'memory.unpauseDomain'>): Step<Reply> {
  yield* m.port.point('store', 'domain');
  const dom = controlled(m, call, op.target);
  if (typeof dom === 'string') return reply(dom);
  if (m.f.domPauses.get(dom) === 0) return reply('EINVAL');
  m.f.domPauses.add(dom, -1);
  return reply('ok');
}

/** Another limit; what the domain has already it keeps. */
export function* setMaxPages(m: Machine, call: Call, op: Op<'memory.setMaxPages'>): Step<Reply> {
  yield* m.port.point('store', 'domain');
  const dom = controlled(m, call, op.target);
  if (typeof dom === 'string') return reply(dom);
  m.f.domMaxPages.set(dom, representable(m, op.maxPages));
  return reply('ok');
}

/** Grows or shrinks the pool frame by frame; tables in use are never given back. */
export function* setPool(m: Machine, call: Call, op: Op<'memory.setPool'>): Step<Reply> {
  const dom = controlled(m, call, op.target);
  if (typeof dom === 'string') return reply(dom);
  if (isParavirtual(m, dom)) return reply('EINVAL');
  yield* lockDomain(m, dom);
  let answer: Reply | undefined = undefined;
  for (let part = 0; answer === undefined; part += 1) {
    yield* lockP2m(m, dom);
    answer = yield* resize(m, call, { op, part });
    yield* unlockP2m(m, dom);
  }
  yield* unlockDomain(m, dom);
  return answer;
}

/** One frame more or less, or the answer. */
function* resize(
  m: Machine,
  call: Call,
  { op, part }: { readonly op: Op<'memory.setPool'>; readonly part: number },
): Step<Reply | undefined> {
  const dom: DomId | Errno = controlled(m, call, op.target);
  if (typeof dom === 'string') return reply(dom);
  if (!isAlive(m, dom)) return reply('EINVAL');
  if (m.f.dirtyAction.get(dom) !== 0) return reply('EBUSY', { done: part });
  if (op.frames > m.geometry.capacity.poolFrames) return reply('EINVAL');
  const total = m.f.poolTotal.get(dom);
  const wanted = Math.max(op.frames, total - m.f.poolSpare.get(dom));
  if (total === wanted) return reply('ok');
  if (part > 0 && m.port.preempts(part)) return reply('preempted', { done: part });
  if (total > wanted) {
    yield* givePoolFrame(m, dom);
    return undefined;
  }
  const mfn = yield* allocate(m, { order: 0, owner: dom, role: 'pool' });
  if (mfn === 0) return reply('ENOMEM');
  addSpare(m, dom, mfn);
  m.f.poolTotal.add(dom, 1);
  return undefined;
}
