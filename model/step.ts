// The engine: one operation as a sequence of micro-steps over the state, following the log of choices.
// `advance` performs one micro-step (interleavings are the caller's business); `runAlone` performs all of them.
// An operation is done when its handler has ended, its whole log is taken in, and what it made stale is settled.
// The design is docs/decisions/0002. A first reader may skip `runAlone`, which is `advance` repeated.

import { DOMID_CONTROL, DOMID_INVALID, type DomId } from '#abi/address.ts';
import { callerOf, NOWHERE, type Agent } from '#abi/agents.ts';
import type { Logged } from '#abi/choices.ts';
import type { Failure } from '#abi/failures.ts';
import { mechanismOf, type Mechanism, type Op } from '#abi/operation.ts';
import type { PagingOp } from '#abi/paging.ts';
import { reply, type Expected, type Status } from '#abi/reply.ts';
import type { TlbOp } from '#abi/tlb.ts';
import { unreachable } from '#lib/invariant.ts';
import { absorb, absorbNext, cutAt, cutWith, Demanded, Detour, leftover, Stop, type Cut, type Refused } from './cut.ts';
import { grantsStep } from './grants/step.ts';
import { markWritten } from './memory/dirty-log.ts';
import { beginDemand, demandOn, type Demand } from './memory/pod-demand.ts';
import { memoryStep } from './memory/step.ts';
import { debtsAfter, doubt, settle } from './p2m.ts';
import { NO_TRAIL, walkOn } from './paging/software.ts';
import { pagingStep } from './paging/step.ts';
import { enterMode } from './pv/roots.ts';
import { pvStep } from './pv/step.ts';
import {
  BEGIN,
  changedProgress,
  changedWork,
  noting,
  performing,
  type Done,
  type Outcome,
  type Perform,
  type Progress,
  type Turn,
  type Work,
} from './progress.ts';
import { isRunning, placeOfVcpu, withDomain, type State, type Written } from './state.ts';
import { tlbStep } from './tlb/step.ts';

/** How an operation goes on, by mechanism. The table of operations says that a mechanism's kinds bear its name. */
const byMechanism: Readonly<Record<Mechanism, (op: never) => Perform>> = {
  memory: memoryStep,
  paging: (op: PagingOp<'concrete'>) => performing(pagingStep, op),
  pv: pvStep,
  hap: unreachable,
  tlb: (op: TlbOp<'concrete'>) => performing(tlbStep, op),
  grants: grantsStep,
};

const performOf = (op: Op<'concrete'>): Perform => byMechanism[mechanismOf(op.kind)](op as never);

const NONE: readonly Failure[] = [];
const NOTHING: readonly Written[] = [];

/** An operation that has been called and has done nothing yet. `ordered`: what fate makes fail. */
export const begin = (agent: Agent, op: Op<'concrete'>, ordered: readonly Failure[] = NONE): Progress => ({
  agent,
  op,
  ordered,
  perform: performOf(op),
  cursor: 0,
  work: BEGIN,
  debts: [],
  written: [],
  isCounted: false,
  ending: undefined,
});

/** What an agent hears that cannot call, or not now; undefined: it calls. */
function silence(state: State, agent: Agent, op: Op<'concrete'>): Status | undefined {
  switch (agent.kind) {
    case 'vcpu': {
      const { domain, vcpu } = agent;
      const isPlaced = vcpu < (state.domains.get(domain)?.vcpus ?? 0) && placeOfVcpu(state, domain, vcpu) !== NOWHERE;
      return isPlaced && isRunning(state, domain) ? undefined : 'gone';
    }
    case 'toolstack':
      return undefined;
    case 'deviceModel':
      return isRunning(state, agent.domain) ? undefined : 'gone';
    case 'background':
    case 'fate':
      return op.kind === 'memory.scrub' || mechanismOf(op.kind) === 'tlb' ? undefined : 'EPERM';
    case 'device':
      return 'gone';
    default:
      return unreachable(agent);
  }
}

/** The domain an operation acts for. Chores have none: what they do is gated by agent alone. */
const callerIn = (agent: Agent): DomId =>
  agent.kind === 'toolstack' ? DOMID_CONTROL : (callerOf(agent) ?? DOMID_INVALID);

/** One thing that was written is noted. */
const note = (cut: Cut, { written }: Progress): Cut => {
  const [first, ...rest] = written as readonly [Written, ...Written[]];
  return cutWith(markWritten(cut, first), rest);
};

type Going = Extract<Turn, { readonly work: Work }>;

/** What a micro-step needs first: one act of a walk, or the beginning of populating what is on demand. */
function around(detour: unknown, { agent, work }: Progress): Going {
  if (detour instanceof Demanded)
    return {
      cut: detour.cut,
      work: changedWork(work, { trail: { ...work.trail, demand: beginDemand(detour.wished) } }),
    };
  if (!(detour instanceof Detour) || agent.kind !== 'vcpu') throw detour;
  const { state, trail, written } = walkOn(detour.cut, agent, work.trail, detour.sought);
  const walked = cutAt(detour.cut, state);
  return { cut: written === undefined ? walked : noting(walked, written), work: changedWork(work, { trail }) };
}

/** Populating goes on. */
function populating(cut: Cut, { work, debts }: Progress, demand: Demand): Going {
  const next = demandOn(cut, debts, demand);
  if (typeof next.demand === 'object')
    return { cut: next.cut, work: changedWork(work, { trail: { ...work.trail, demand: next.demand } }) };
  const { trail } = work;
  const refused = next.demand === 'refused' ? [...trail.refused, demand.wished] : trail.refused;
  const asked = [...trail.asked, demand.wished];
  return {
    cut: next.cut,
    work: changedWork(work, { trail: { ...trail, demand: undefined, refused, asked, isServed: true } }),
  };
}

/** One turn of the handler, or one act of what it needs first. Throws `Stop`. */
function turn(before: Cut, progress: Progress): Turn {
  const { agent, op, work, debts, perform } = progress;
  const silent = work === BEGIN ? silence(before.state, agent, op) : undefined;
  if (silent !== undefined) return { cut: before, expected: { kind: 'exact', reply: reply(silent) } };
  const cut = work === BEGIN ? cutAt(before, enterForCall(before.state, progress)) : before;
  if (work.trail.demand !== undefined) return populating(cut, progress, work.trail.demand);
  try {
    const next = perform(cut, { agent, caller: callerIn(agent), work, debts });
    return 'work' in next && next.work.trail !== NO_TRAIL
      ? { cut: next.cut, work: changedWork(next.work, { trail: NO_TRAIL }) }
      : next;
  } catch (detour) {
    return detouring(detour, progress);
  }
}

/** A walk may come by a table that is on demand. */
function detouring(detour: unknown, progress: Progress): Turn {
  try {
    return around(detour, progress);
  } catch (demanded) {
    if (demanded === detour) throw detour;
    return around(demanded, progress);
  }
}

/** The calls in flight of the domain whose vCPU `agent` is become one more or one less. */
function count(state: State, agent: Agent, by: 1 | -1): State {
  const domain = agent.kind === 'vcpu' ? state.domains.get(agent.domain) : undefined;
  return domain === undefined ? state : withDomain(state, domain.id, { calls: domain.calls + by });
}

/** The end, once the handler has spoken and nothing more will be logged: all is taken in and settled. */
function finish(cut: Cut, progress: Progress, expected: Expected): Done | Refused {
  const { state, cursor, log } = absorb(cut);
  const left = log[cursor];
  if (left !== undefined) return leftover(left.choice);
  const settled = doubt(settle(state, progress.debts), progress.debts, log);
  return { kind: 'done', state: progress.isCounted ? count(settled, progress.agent, -1) : settled, expected };
}

/** Takes in what is logged after the handler ended; the end itself needs a sealed log. */
function close(cut: Cut, progress: Progress, ending: Expected): Outcome {
  if (cut.sealed) return finish(cut, progress, ending);
  const { state, cursor, log } = absorb(cut);
  const left = log[cursor];
  if (left !== undefined) return leftover(left.choice);
  return cursor === cut.cursor
    ? { kind: 'waits' }
    : { kind: 'moved', state, progress: changedProgress(progress, { cursor }) };
}

/** One indivisible part of an operation. */
export function advance(state: State, progress: Progress, log: readonly Logged[], sealed: boolean): Outcome {
  const cut: Cut = { state, cursor: progress.cursor, log, sealed, ordered: progress.ordered, written: NOTHING };
  if (progress.work === BEGIN && progress.ending === undefined) return admit(state, progress);
  if (progress.ending !== undefined && progress.written.length === 0) return close(cut, progress, progress.ending);
  try {
    if (progress.written.length > 0) {
      const { cursor, state: noted, written } = note(cut, progress);
      return { kind: 'moved', state: noted, progress: changedProgress(progress, { cursor, written }) };
    }
    const next = turn(cut, progress);
    const { cursor, state: after, written } = next.cut;
    const debts = debtsAfter(progress.debts, state, after);
    const change =
      'work' in next ? { cursor, written, debts, work: next.work } : { cursor, written, debts, ending: next.expected };
    return { kind: 'moved', state: after, progress: changedProgress(progress, change) };
  } catch (stop) {
    if (stop instanceof Stop) return stop.outcome;
    throw stop;
  }
}

/**
 * Another way to go on: taking in the next choice although nothing asks for it yet, if it is bookkeeping and allowed. Who
 * follows every interleaving needs it: an erased frame can be given to somebody else before its eraser is asked again.
 */
export function advanceLog(state: State, progress: Progress, log: readonly Logged[]): Outcome {
  // The scrubber counts its own, one by one.
  const isEarly = progress.work === BEGIN || progress.op.kind === 'memory.scrub';
  const { cursor, ordered } = progress;
  const next = isEarly ? undefined : absorbNext({ state, cursor, log, sealed: false, ordered, written: NOTHING });
  return next === undefined
    ? { kind: 'waits' }
    : { kind: 'moved', state: next.state, progress: changedProgress(progress, { cursor: next.cursor }) };
}

/** Calls come from a paravirtual guest's kernel. (Instructions that are emulated see to it themselves.) */
function enterForCall(state: State, { agent, op }: Progress): State {
  const mechanism = mechanismOf(op.kind);
  // A segment is loaded by the processor itself.
  const isCall = mechanism !== 'paging' && mechanism !== 'tlb' && op.kind !== 'pv.loadSegment';
  if (agent.kind !== 'vcpu' || !isCall) return state;
  return enterMode(state, agent, false) ?? state;
}

/** The registers of an operation that was let in: from here on it does not matter whether its vCPU may run. */
const ADMITTED: Work = { ...BEGIN };

/** The first micro-step: whoever may not call is told so, and nothing else happens. */
function admit(state: State, progress: Progress): Outcome {
  const silent = silence(state, progress.agent, progress.op);
  if (silent !== undefined)
    return {
      kind: 'moved',
      state,
      progress: changedProgress(progress, { ending: { kind: 'exact', reply: reply(silent) } }),
    };
  const admitted = changedProgress(progress, { work: ADMITTED, isCounted: true });
  return { kind: 'moved', state: count(enterForCall(state, progress), progress.agent, 1), progress: admitted };
}

/** With a complete log only calls in flight can be waited for. */
const STUCK: Refused = { kind: 'refused', reason: 'it waits for calls of its target in flight', invariant: 'LOCK' };

/** How many micro-steps may still be performed; counted down. */
export interface Budget {
  left: number;
}

/**
 * The whole operation, or what is left of it, with its complete log, while no other is in flight. Micro-steps are counted against
 * `budget`, which does not end an operation that has begun.
 */
export function runAlone(
  state: State,
  progress: Progress,
  log: readonly Logged[],
  budget: Budget = { left: Infinity },
): Done | Refused {
  let now = progress;
  let cut: Cut = { state, cursor: progress.cursor, log, sealed: true, ordered: progress.ordered, written: NOTHING };
  try {
    while (now.ending === undefined || now.written.length > 0) {
      budget.left -= 1;
      if (now.written.length > 0) {
        cut = note(cut, now);
        now = changedProgress(now, { written: cut.written });
        cut = cutWith(cut, NOTHING);
        continue;
      }
      const next = turn(cut, now);
      const debts = debtsAfter(now.debts, cut.state, next.cut.state);
      const { written } = next.cut;
      cut = cutWith(next.cut, NOTHING);
      now = changedProgress(
        now,
        'work' in next ? { debts, written, work: next.work } : { debts, written, ending: next.expected },
      );
    }
    return finish(cut, now, now.ending);
  } catch (stop) {
    if (!(stop instanceof Stop)) throw stop;
    return stop.outcome.kind === 'refused' ? stop.outcome : STUCK;
  }
}
