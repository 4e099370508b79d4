// A cut: a state and a place in the log of choices that led to it. Operations ask it for the choices that the
// specification leaves open; bookkeeping (tables, flushes, scrubs) is absorbed on the way, as late as possible.
// `Stop` leaves a micro-step that cannot go on (no choice yet, or one that is not allowed); step.ts alone catches it.
// The design is docs/decisions/0002. A first reader may skip `absorbed`.

import type { Choice, ChoiceKind, Logged, WithinTable } from '#abi/choices.ts';
import { DOMID_CONTROL, type DomId, type Gfn, type Mfn } from '#abi/address.ts';
import type { Failure } from '#abi/failures.ts';
import type { Invariant } from '#abi/invariants.ts';
import type { FrameRole } from '#abi/roles.ts';
import { isClaimed } from './claims.ts';
import { isOrdered } from './failures.ts';
import { free, handOver, isHeapEmpty, scrub } from './frames.ts';
import { flush } from './p2m.ts';
import type { Sought } from './paging/software.ts';
import { frameOf, withDomain, withFrame, type Domain, type State, type Written } from './state.ts';

/** A state and how much of the operation's log it has taken in. `sealed`: nothing more will be logged. */
export interface Cut {
  readonly state: State;
  readonly cursor: number;
  readonly log: readonly Logged[];
  readonly sealed: boolean;
  /** Failures that the step orders. */
  readonly ordered: readonly Failure[];
  /** What the micro-step has written: noted in micro-steps of their own before the operation goes on. */
  readonly written: readonly Written[];
}

// Key by key: see state.ts, `withParts`.

/** `cut` with another state, perhaps with more of its log taken in. */
export const cutAt = (cut: Cut, state: State, cursor = cut.cursor): Cut => ({
  state,
  cursor,
  log: cut.log,
  sealed: cut.sealed,
  ordered: cut.ordered,
  written: cut.written,
});

/** `cut`, in which this has been written. */
export const cutWith = (cut: Cut, written: readonly Written[]): Cut => ({
  state: cut.state,
  cursor: cut.cursor,
  log: cut.log,
  sealed: cut.sealed,
  ordered: cut.ordered,
  written,
});

/** `cut` with another state. */
export const at = (cut: Cut, state: State): Cut => cutAt(cut, state);

/** `cut`, in which something was written that the log of its domain, if that is on by then, is to know. The control domain has none. */
export const noting = (cut: Cut, written: Written): Cut =>
  written.domain === DOMID_CONTROL ? cut : cutWith(cut, [...cut.written, written]);

/** Needs a choice that has not been logged yet, or another operation to come to its end. */
export interface Waits {
  readonly kind: 'waits';
}

/** The log holds a choice that is not allowed here; `invariant` is what following it would break. */
export interface Refused {
  readonly kind: 'refused';
  readonly reason: string;
  readonly invariant: Invariant;
}

/** Thrown to leave a micro-step; never an error of ours. */
export class Stop {
  readonly outcome: Waits | Refused;

  constructor(outcome: Waits | Refused) {
    this.outcome = outcome;
  }
}

/** Thrown to leave a micro-step that needs a linear address translated first; the handlers' engine alone catches it. */
export class Detour {
  readonly cut: Cut;
  readonly sought: Sought;

  constructor(cut: Cut, sought: Sought) {
    this.cut = cut;
    this.sought = sought;
  }
}

/** A gfn that is to be used and is on demand. `isTable`: of an access, whether it is one of the guest's tables. */
export interface Wished {
  readonly domain: DomId;
  readonly gfn: Gfn;
  readonly isTable: boolean;
}

/** Thrown to leave a micro-step that needs memory populated first; the handlers' engine alone catches it. */
export class Demanded {
  readonly cut: Cut;
  readonly wished: Wished;

  constructor(cut: Cut, wished: Wished) {
    this.cut = cut;
    this.wished = wished;
  }
}

/** Leaves the micro-step: it cannot be performed yet. */
export const wait = (): never => {
  throw new Stop({ kind: 'waits' });
};

/** Leaves the micro-step: the implementation chose what it must not. */
export const refuse = (reason: string, invariant: Invariant): never => {
  throw new Stop({ kind: 'refused', reason, invariant });
};

type Bookkeeping = Extract<Choice, { kind: 'tableTaken' | 'tableGiven' | 'flush' | 'scrub' }>;

const isBookkeeping = (choice: Choice): choice is Bookkeeping =>
  choice.kind === 'tableTaken' || choice.kind === 'tableGiven' || choice.kind === 'flush' || choice.kind === 'scrub';

/** `state` with a pool frame in another use, where spare turns into something or something into spare. */
export function withPoolFrame(
  state: State,
  domain: Domain,
  change: { mfn: Mfn; use: 'spare' | 'table' | 'bitmap' },
): State {
  const { mfn, use } = change;
  const used = domain.pool.used + (use === 'spare' ? -1 : 1);
  const next = withDomain(state, domain.id, { pool: { frames: domain.pool.frames.set(mfn, use), used } });
  return use === 'spare' ? next : withFrame(next, mfn, { tableLife: frameOf(next, mfn).tableLife + 1 });
}

/** The state after a piece of bookkeeping; undefined if it is not allowed (yet). */
function absorbed(state: State, choice: Bookkeeping): State | undefined {
  const { kind } = choice;
  if (kind === 'flush') return flush(state, choice.domain, choice.pcpu);
  const { mfn } = choice;
  if (kind === 'scrub')
    return mfn < state.geometry.frameCount && frameOf(state, mfn).role === 'free' ? scrub(state, mfn) : undefined;
  const owner = state.domains.get(choice.domain);
  const is = owner?.pool.frames.get(mfn);
  if (kind === 'tableTaken')
    return owner?.state === 'running' && is === 'spare'
      ? withPoolFrame(state, owner, { mfn, use: 'table' })
      : undefined;
  return owner !== undefined && is === 'table' ? withPoolFrame(state, owner, { mfn, use: 'spare' }) : undefined;
}

/** Takes in bookkeeping as long as it is allowed. */
export function absorb(cut: Cut): Cut {
  const next = absorbNext(cut);
  return next === undefined ? cut : absorb(next);
}

/** The next choice as it stands, bookkeeping too; undefined: the log is complete and has no more. */
export function peek(cut: Cut): Choice | undefined {
  const choice = cut.log[cut.cursor]?.choice;
  return choice === undefined && !cut.sealed ? wait() : choice;
}

/** Why a choice that is left when its operation ends must not have been made. */
export const leftover = (choice: Choice): Refused => ({
  kind: 'refused',
  reason: `${JSON.stringify(choice)} was logged, but the operation asks for no such choice`,
  invariant: isBookkeeping(choice) ? 'FREE' : 'refines',
});

/** Takes in the next choice if it is bookkeeping and allowed; undefined: it is not. */
export function absorbNext(cut: Cut): Cut | undefined {
  const next = cut.log[cut.cursor]?.choice;
  if (next === undefined || !isBookkeeping(next)) return undefined;
  const state = absorbed(cut.state, next);
  return state && cutAt(cut, state, cut.cursor + 1);
}

/** The next choice, which must be of one of `kinds`. */
export function ask<K extends ChoiceKind>(
  cut: Cut,
  kinds: readonly K[],
): { readonly cut: Cut; readonly choice: Extract<Choice, { kind: K }> } {
  const at = absorb(cut);
  const choice = peek(at);
  if (choice === undefined) return refuse(`no choice of ${kinds.join(' or ')} was logged`, 'refines');
  if (!(kinds as readonly ChoiceKind[]).includes(choice.kind))
    return refuse(`${JSON.stringify(choice)} was logged where ${kinds.join(' or ')} is due`, 'refines');
  return { cut: cutAt(at, at.state, at.cursor + 1), choice: choice as Extract<Choice, { kind: K }> };
}

type Failed = Extract<Choice, { kind: 'failed' }>;

/** What a failure is measured by: the order asked of the heap and for whom as what, whose pool or maptrack it is. */
export interface Want {
  readonly class: Failed['class'];
  readonly done?: number;
  readonly order?: number;
  readonly domain?: DomId;
  readonly role?: FrameRole;
  /** Which request of its class it is within the operation, from 1; absent: the log tells. */
  readonly nth?: number;
}

const isPoolEmpty = (domain: Domain | undefined): boolean =>
  domain === undefined || domain.state !== 'running' || domain.pool.used === domain.pool.frames.size;

function isMaptrackFull(state: State, domain: Domain | undefined): boolean {
  const { maptrackFrames, handlesPerMaptrackFrame } = state.geometry.capacity;
  return domain === undefined || domain.grants.handles.size >= maptrackFrames * handlesPerMaptrackFrame;
}

/** Whether a resource may be refused: the step orders it, or none is left. The refusal is the choice before the cursor. */
function isLegal(cut: Cut, failed: Failed, want: Want): boolean {
  const { state } = cut;
  const domain = want.domain === undefined ? undefined : state.domains.get(want.domain);
  // A compare-exchange can be lost five times running only to others. Which stores those were is not followed up, but the
  // harness sees that there were others (properties/harness/problems.ts).
  if (failed.class === 'compareExchange' || isOrdered({ ...cut, at: cut.cursor - 1 }, want.nth)) return true;
  if (failed.class === 'heap') {
    const { order = 0, domain: owner, role } = want;
    return isHeapEmpty(state, order) || isClaimed(state, { order, owner, role });
  }
  if (failed.class === 'pool' || failed.class === 'logDirty') return isPoolEmpty(domain);
  return failed.class === 'maptrack' && isMaptrackFull(state, domain);
}

/** Refuses a failure that had no reason. */
export const checkFailure = (cut: Cut, failed: Failed, want: Want): Cut =>
  isLegal(cut, failed, want) ? cut : refuse(`${failed.class} was refused although there is room`, 'refines');

const isHere = (at: number | undefined, done: number | undefined): boolean =>
  at === undefined || done === undefined || at === done;

/** The cut after a logged failure of this class at this part; undefined if none is next. */
export function failure(cut: Cut, want: Want): Cut | undefined {
  const at = absorb(cut);
  const choice = at.log[at.cursor]?.choice;
  if (choice?.kind !== 'failed' || choice.class !== want.class || !isHere(choice.done, want.done)) return undefined;
  return checkFailure(cutAt(at, at.state, at.cursor + 1), choice, want);
}

/** The cut after a logged preemption with `done` parts complete; undefined if none is next. */
export function preemption(cut: Cut, done: number): Cut | undefined {
  const at = absorb(cut);
  const choice = at.log[at.cursor]?.choice;
  const isNext = choice?.kind === 'preempted' && choice.within === undefined && isHere(choice.done, done);
  return isNext ? cutAt(at, at.state, at.cursor + 1) : undefined;
}

/** The cut after a logged preemption at this place within a table; undefined if none is next. */
export function preemptionWithin(cut: Cut, { mfn, index, way }: WithinTable): Cut | undefined {
  const at = absorb(cut);
  const choice = at.log[at.cursor]?.choice;
  const within = choice?.kind === 'preempted' ? choice.within : undefined;
  const isNext = within?.mfn === mfn && within.index === index && within.way === way;
  return isNext ? cutAt(at, at.state, at.cursor + 1) : undefined;
}

/** Takes frames from the heap as logged; `mfn` is undefined if the heap was refused. */
export function allocate(
  cut: Cut,
  want: { readonly order: number; readonly owner: DomId; readonly role: FrameRole },
): { readonly cut: Cut; readonly mfn: Mfn | undefined } {
  const { cut: after, choice } = ask(cut, ['frame', 'failed']);
  if (choice.kind === 'failed') {
    if (choice.class !== 'heap') return refuse(`${choice.class} failed where the heap was asked`, 'refines');
    const asked = { class: 'heap', order: want.order, domain: want.owner, role: want.role } as const;
    return { cut: checkFailure(after, choice, asked), mfn: undefined };
  }
  if (choice.order !== want.order)
    return refuse(`order ${choice.order} was given where ${want.order} was asked`, 'refines');
  const given = handOver(after.state, { ...want, mfn: choice.mfn });
  if ('reason' in given) return refuse(given.reason, given.invariant);
  return { cut: cutAt(after, given), mfn: choice.mfn };
}

/** Single frames of these roles for `owner`, in order; those given before a refusal go back. */
export function allocateAll(
  cut: Cut,
  owner: DomId,
  roles: readonly FrameRole[],
): { readonly cut: Cut; readonly mfns: readonly Mfn[] | undefined } {
  let now = cut;
  const mfns: Mfn[] = [];
  for (const role of roles) {
    const given = allocate(now, { order: 0, owner, role });
    now = given.cut;
    if (given.mfn === undefined) return { cut: cutAt(now, mfns.reduce(free, now.state)), mfns: undefined };
    mfns.push(given.mfn);
  }
  return { cut: now, mfns };
}
