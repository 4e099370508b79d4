// An operation in flight as a value: who does what, how far it is, and what it owes. `Work` is its registers; a handler
// performs one micro-step and says where to go on, or what the caller hears.
// A first reader may skip the fields of `Work` and meet them in the handlers. The design is docs/decisions/0002.

import {
  DOMID_CONTROL,
  INVALID_GFN,
  INVALID_MFN,
  type DomId,
  type Gfn,
  type GrantRef,
  type Mfn,
  type Word,
} from '#abi/address.ts';
import type { Agent } from '#abi/agents.ts';
import type { Failure } from '#abi/failures.ts';
import type { Op } from '#abi/operation.ts';
import { reply, type ElementReply, type Expected, type Reply, type Status } from '#abi/reply.ts';
import type { Cut, Refused, Waits } from './cut.ts';
import { NO_POD_WORK, type PodWork } from './memory/pod-work.ts';
import type { Life } from './life.ts';
import type { Debt } from './p2m.ts';
import { NO_TRAIL, type Trail } from './paging/software.ts';
import { NO_PV_WORK, type PvWork } from './pv/work.ts';
import { domainNamed, frameOf, type Domain, type State, type Written } from './state.ts';

/** Where a micro-step begins. Each operation uses those it needs. */
export type At =
  | 'begin' | 'next' | 'allocate' | 'mark' | 'pin' | 'install' | 'undo' | 'unhook' | 'release' | 'detach'
  | 'help' | 'heed' | 'hold' | 'piece' | 'reclaim' | 'some' | 'stolen' | 'balance' | 'check' | 'claim' | 'bytes' | 'complete' | 'copyBack' | 'settle' | 'finish' | 'unbind'; // prettier-ignore

/** A use of a grant that an operation has to let go of: pins and references by `flags`. */
export interface Grip {
  readonly granter: DomId;
  readonly ref: GrantRef;
  readonly mfn: Mfn;
  readonly flags: number;
}

/** A side of a copy as claimed: the frame is referenced, and pinned if it came by a grant. `domain` as the caller wrote it. */
export interface Claim {
  readonly by: 'gfn' | 'ref';
  readonly domain: DomId;
  readonly gfn: Gfn;
  readonly mfn: Mfn;
  /** Undefined: not pinned (any more). */
  readonly grip: Grip | undefined;
  /** Whether it is used as writable, which matters for a paravirtual guest's. */
  readonly isTyped: boolean;
  readonly ref: GrantRef;
}

/** The registers of an operation. */
export interface Work {
  readonly at: At;
  /** The element in hand, counted from the start of the batch. */
  readonly index: number;
  /** The page of the element, or units of work done. */
  readonly part: number;
  readonly gfn: Gfn;
  readonly mfn: Mfn;
  readonly incarnation: number;
  /** A frame that is to come to a gfn once what was there has gone, in which life it was found. */
  readonly arriving: Life;
  /** A granter's entry as it stood when its status bits were set for the use in hand. */
  readonly asked: Word | undefined;
  readonly handle: number;
  readonly elements: readonly ElementReply[];
  /** Frames in hand. */
  readonly given: readonly Mfn[];
  /** Frames taken from a guest, for which those are given. */
  readonly taken: readonly Mfn[];
  /** Uses of grants to let go of. */
  readonly grips: readonly Grip[];
  /** What the caller will hear of the element, or at the end. */
  readonly status: Status;
  /** The sides of a copy: claimed, in hand, and to be released before going on at `then`. */
  readonly source: Claim | undefined;
  readonly dest: Claim | undefined;
  readonly side: 'source' | 'dest';
  readonly leaving: readonly Claim[];
  readonly then: At;
  /** Of memory on demand: see there. */
  readonly pod: PodWork;
  /** Of direct paging: what is still to be done. */
  readonly pv: PvWork;
  /** What the micro-step in hand has had translated and populated. */
  readonly trail: Trail;
}

export const BEGIN: Work = {
  at: 'begin',
  index: 0,
  part: 0,
  gfn: INVALID_GFN,
  mfn: INVALID_MFN,
  incarnation: 0,
  arriving: { mfn: INVALID_MFN, incarnation: 0 },
  asked: undefined,
  handle: 0,
  elements: [],
  given: [],
  taken: [],
  grips: [],
  status: 'ok',
  source: undefined,
  dest: undefined,
  side: 'source',
  leaving: [],
  then: 'next',
  pod: NO_POD_WORK,
  pv: NO_PV_WORK,
  trail: NO_TRAIL,
};

/** One micro-step of the operation that it was made for. */
export type Perform = (cut: Cut, task: Situation) => Turn;

/** An operation in flight. `perform` follows from `op`; `ending` is its reply once all its effects are there. */
export interface Progress {
  readonly agent: Agent;
  readonly op: Op<'concrete'>;
  /** Failures that the step orders. */
  readonly ordered: readonly Failure[];
  readonly perform: Perform;
  readonly cursor: number;
  readonly work: Work;
  readonly debts: readonly Debt[];
  /** What it has written and is still to be noted in logs, before it does anything else. */
  readonly written: readonly Written[];
  /** Whether its domain counts it among its calls in flight. */
  readonly isCounted: boolean;
  readonly ending: Expected | undefined;
}

export interface Moved {
  readonly kind: 'moved';
  readonly state: State;
  readonly progress: Progress;
}

export interface Done {
  readonly kind: 'done';
  readonly state: State;
  readonly expected: Expected;
}

export type Outcome = Moved | Done | Waits | Refused;

/** Who calls, how far the operation is, and what it owes. */
export interface Situation {
  readonly agent: Agent;
  readonly caller: DomId;
  readonly work: Work;
  readonly debts: readonly Debt[];
}

/** What a handler is given beside the cut. */
export interface Task<O> extends Situation {
  readonly op: O;
}

/** What a handler answers: go on at `work`, or tell the caller. */
export type Turn = { readonly cut: Cut; readonly work: Work } | { readonly cut: Cut; readonly expected: Expected };

/** What performs the micro-steps of one kind of operation. */
export type Handler<O> = (cut: Cut, task: Task<O>) => Turn;

/** One handler for each kind: the compiler asks for those that are missing. */
export type Handlers<O extends { readonly kind: string }> = {
  readonly [K in O['kind']]: Handler<Extract<O, { readonly kind: K }>>;
};

/** The micro-steps of `op` by the handler of its kind. */
export const performing =
  <O>(handler: Handler<O>, op: O): Perform =>
  (cut, { agent, caller, work, debts }) =>
    handler(cut, { agent, caller, op, work, debts });

/** Operations of one kind, concrete. */
export type OpOf<K extends Op<'concrete'>['kind']> = Extract<Op<'concrete'>, { kind: K }>;

/** `old` with `change`, key by key: see state.ts, `withParts`. */
export const changedWork = (old: Work, change: Partial<Work>): Work => ({
  at: change.at ?? old.at,
  index: change.index ?? old.index,
  part: change.part ?? old.part,
  gfn: change.gfn ?? old.gfn,
  mfn: change.mfn ?? old.mfn,
  incarnation: change.incarnation ?? old.incarnation,
  arriving: change.arriving ?? old.arriving,
  asked: 'asked' in change ? change.asked : old.asked,
  handle: change.handle ?? old.handle,
  elements: change.elements ?? old.elements,
  given: change.given ?? old.given,
  taken: change.taken ?? old.taken,
  grips: change.grips ?? old.grips,
  status: change.status ?? old.status,
  source: 'source' in change ? change.source : old.source,
  dest: 'dest' in change ? change.dest : old.dest,
  side: change.side ?? old.side,
  leaving: change.leaving ?? old.leaving,
  then: change.then ?? old.then,
  pod: change.pod ?? old.pod,
  pv: change.pv ?? old.pv,
  trail: change.trail ?? old.trail,
});

/** `progress` with changes: what it is about stays. */
export const changedProgress = (
  old: Progress,
  change: Partial<Omit<Progress, 'agent' | 'op' | 'ordered' | 'perform'>>,
): Progress => ({
  agent: old.agent,
  op: old.op,
  ordered: old.ordered,
  perform: old.perform,
  cursor: change.cursor ?? old.cursor,
  work: change.work ?? old.work,
  debts: change.debts ?? old.debts,
  written: change.written ?? old.written,
  isCounted: change.isCounted ?? old.isCounted,
  ending: 'ending' in change ? change.ending : old.ending,
});

/** Goes on at `at`. */
export const go = (cut: Cut, task: { readonly work: Work }, change: Partial<Work>): Turn => ({
  cut,
  work: changedWork(task.work, change),
});

/** Ends with exactly this reply. */
export const end = (cut: Cut, status: Status, parts: Partial<Omit<Reply, 'status'>> = {}): Turn => ({
  cut,
  expected: { kind: 'exact', reply: reply(status, parts) },
});

export { at, noting } from './cut.ts';

/** Whether `caller` may manage `target`: itself, or as control domain. A device model calls as its domain: nobody states whom it serves. */
export const mayManage = (caller: DomId, target: DomId): boolean => caller === target || caller === DOMID_CONTROL;

/** The target of a memory operation, or why not. */
export function targetOf(cut: Cut, task: Task<{ readonly target: DomId }>): Domain | 'ESRCH' | 'EPERM' {
  const domain = domainNamed(cut.state, task.op.target, task.caller);
  if (domain === undefined) return 'ESRCH';
  return mayManage(task.caller, domain.id) ? domain : 'EPERM';
}

/** Whether the frame in hand is still the one it was. */
export const isSame = (state: State, work: Work): boolean => frameOf(state, work.mfn).incarnation === work.incarnation;
