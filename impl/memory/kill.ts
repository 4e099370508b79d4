// The end of a domain, in preemptible pieces: it is stopped, then gives up its mappings of others' grants (from the highest
// handle down), its address space, its pool, the roots of its vCPUs if they are its own, then its pages (ascending). It is buried with the last reference to a frame of
// it (frames.ts), so that a grant or a foreign mapping of a dead domain's frame stays safe.
// How far it has come is kept in `domStage`: whoever kills it again goes on there.
// Sources: Xen common/domain.c (domain_kill, domain_teardown), arch/x86/domain.c (domain_relinquish_resources,
// relinquish_memory), arch/x86/mm/hap/hap.c (hap_teardown).

import type { DomId } from '#abi/address.ts';
import type { MemoryOp } from '#abi/memory.ts';
import { reply, type Reply } from '#abi/reply.ts';
import { frameRoles } from '#abi/roles.ts';
import { unreachable } from '#lib/invariant.ts';
import type { Call } from '../execution.ts';
import { releaseHandle } from '../grants/release.ts';
import { lockP2m, unlockP2m } from '../hap/table.ts';
import { domStages, domStates } from '../layout.ts';
import type { Machine } from '../machine.ts';
import type { Step } from '../port.ts';
import { running } from '../pv/frames.ts';
import { dropPin } from '../pv/pins.ts';
import { putPartial, type Stopped } from '../pv/release.ts';
import { dropRoot } from '../pv/roots.ts';
import { endLog } from './dirty-log.ts';
import { buryIfOver, dropAllocated, dropAllocatedOf } from './frames.ts';
import { lockHeap, setClaim, unlockHeap } from './heap.ts';
import { awaitCalls, lockDomain, unlockDomain, unplace } from './life.ts';
import { forgetP2m } from './p2m.ts';
import { takeLargest } from './pod-frames.ts';
import { givePoolFrame } from './pool.ts';
import { callerIn, controlled, exists, isAlive, isParavirtual } from './target.ts';

type Kill = Extract<MemoryOp<'concrete'>, { kind: 'memory.killDomain' }>;

const RAM = frameRoles.indexOf('ram');
const DYING = domStates.indexOf('dying');
const DEAD = domStates.indexOf('dead');

/** Kills, or goes on killing, up to the end or a preemption. */
export function* killDomain(m: Machine, call: Call, op: Kill): Step<Reply> {
  for (;;) {
    const dom = controlled(m, call, op.target);
    if (typeof dom === 'string') return reply(dom);
    if (dom === callerIn(call)) return reply('EINVAL');
    if (isAlive(m, dom)) yield* awaitCalls(m, dom);
    yield* lockDomain(m, dom);
    const isStopped = yield* stop(m, dom);
    const answer = isStopped ? yield* relinquish(m, dom) : undefined;
    yield* unlockDomain(m, dom);
    if (answer !== undefined) return answer;
  }
}

/** Nothing runs the domain from here on; false: a vCPU of it has called meanwhile, or it has gone. */
function* stop(m: Machine, dom: DomId): Step<boolean> {
  if (!exists(m, dom)) return false;
  // Under the P2M lock: what changes its address space sees a living domain, or none.
  yield* lockP2m(m, dom);
  yield* lockHeap(m);
  yield* m.port.point('store', 'domain');
  const isFree = !isAlive(m, dom) || m.slotOf(dom) === 0;
  if (isFree && isAlive(m, dom)) {
    unplace(m, dom);
    m.f.domState.set(dom, DYING);
    m.f.domListens.set(dom, 0);
    setClaim(m, dom, 0);
  }
  yield* unlockHeap(m);
  yield* unlockP2m(m, dom);
  return isFree;
}

/**
 * Gives everything up, piece by piece, with a preemption check after each; a stage by itself is no piece. Within tables of a
 * paravirtual guest there are such checks too: one that is stopped in is no piece either.
 */
function* relinquish(m: Machine, dom: DomId): Step<Reply> {
  running(m).stopsWithin = true;
  const from = { mfn: 0 };
  let done = 0;
  while (m.f.domState.get(dom) === DYING) {
    const given = yield* giveUp(m, dom, from);
    if (given === 'restart') return reply('preempted', { done });
    if (!given) continue;
    done += 1;
    if (m.port.preempts(done)) return reply('preempted', { done });
  }
  return reply('ok');
}

/** One piece of the present stage; false: that stage is over, and the next has come. */
function* giveUp(m: Machine, dom: DomId, from: { mfn: number }): Step<boolean | Stopped> {
  const stage = domStages[m.f.domStage.get(dom)] ?? 'pages';
  switch (stage) {
    case 'handles':
      if (yield* releaseHandle(m, dom)) return true;
      m.f.domStage.set(dom, domStages.indexOf('tables'));
      return false;
    case 'tables':
      if (yield* giveTables(m, dom)) return true;
      m.f.domStage.set(dom, domStages.indexOf('roots'));
      return false;
    case 'roots': {
      const given = isParavirtual(m, dom) && (yield* dropRoot(m, dom));
      if (given !== false) return given;
      m.f.domStage.set(dom, domStages.indexOf('cache'));
      return false;
    }
    case 'cache':
      if (yield* emptyCache(m, dom)) return true;
      m.f.domStage.set(dom, domStages.indexOf('pages'));
      return false;
    case 'pages': {
      const given = isParavirtual(m, dom) ? yield* givePinned(m, dom, from) : yield* givePage(m, dom, from);
      if (given !== false) return given;
      m.f.domState.set(dom, DEAD);
      yield* buryIfOver(m, dom);
      return false;
    }
    default:
      return unreachable(stage);
  }
}

/** Forgets the address space, then returns a frame of the pool to the heap; false: there is none left. */
function* giveTables(m: Machine, dom: DomId): Step<boolean> {
  if (m.f.domRoot.get(dom) !== 0) yield* forgetP2m(m, dom);
  yield* lockP2m(m, dom);
  yield* endLog(m, dom);
  const isLeft = m.f.poolTotal.get(dom) > 0;
  if (isLeft) yield* givePoolFrame(m, dom);
  yield* unlockP2m(m, dom);
  return isLeft;
}

/** Takes a piece out of the cache for memory on demand: it is a page like others then. False: there is none left. */
function* emptyCache(m: Machine, dom: number): Step<boolean> {
  if (m.f.podCount.get(dom) === 0) return false;
  yield* m.port.point('store', 'domain');
  takeLargest(m, dom);
  return true;
}

/** Lets go of the lowest page from `from` on that the domain still holds for itself; false: there is none. */
function* givePage(m: Machine, dom: DomId, from: { mfn: number }): Step<boolean> {
  const { frameRole, frameOwner, frameAllocated } = m.f;
  if (m.f.domTotalPages.get(dom) === 0) return false;
  for (; from.mfn < m.geometry.frameCount; from.mfn += 1) {
    const { mfn } = from;
    if (frameRole.get(mfn) !== RAM || frameOwner.get(mfn) !== dom + 1 || frameAllocated.get(mfn) === 0) continue;
    yield* dropAllocated(m, mfn);
    return true;
  }
  return false;
}

/** The same of a paravirtual guest, whose pages may be pinned or partial tables, held by nothing else perhaps. Others may let go of them meanwhile. */
function* givePinned(m: Machine, dom: DomId, from: { mfn: number }): Step<boolean | Stopped> {
  const { frameOwner, frameAllocated, framePinned, frameRole } = m.f;
  for (; from.mfn < m.geometry.frameCount; from.mfn += 1) {
    const { mfn } = from;
    if (frameRole.get(mfn) !== RAM || frameOwner.get(mfn) !== dom + 1) continue;
    const isAllocated = frameAllocated.get(mfn) !== 0;
    const isPinned = framePinned.get(mfn) !== 0;
    const isPartial = m.f.framePartial.get(mfn) !== 0;
    if (!isAllocated && !isPinned && !isPartial) continue;
    const stopped = isPinned ? yield* dropPin(m, mfn, dom) : isPartial ? yield* putPartial(m, mfn) : undefined;
    if (stopped !== undefined) return stopped;
    if (isAllocated) yield* dropAllocatedOf(m, mfn, dom);
    return true;
  }
  return false;
}
