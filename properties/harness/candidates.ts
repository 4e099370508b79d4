// Which states of the model explain what has been seen. Completed operations are in every candidate; an operation in flight
// may have performed any number of the micro-steps that its log of choices allows. When an operation returns, those
// candidates remain in which it can finish with that very reply: just-in-time linearizability with micro-steps as the unit.
// All candidates are many, and the machine shows at every pause how far it has come. So the list is kept narrow: at a pause,
// those positions of the paused operation whose state is nearest to the machine; at a return, the operation run to its end on
// each, the others standing still. Only if the narrow list explains no more is everything since the last rest gone through
// again in full. A narrow list is part of the full one, so what it explains is explained (docs/decisions/0002, 0005).

import type { Agent } from '#abi/agents.ts';
import type { Choice, Logged } from '#abi/choices.ts';
import type { Failure } from '#abi/failures.ts';
import type { Label } from '#abi/operand.ts';
import type { Op } from '#abi/operation.ts';
import type { Expected, Reply } from '#abi/reply.ts';
import type { State } from '#model/state.ts';
import { advance, advanceLog, begin, runAlone, type Budget } from '#model/step.ts';
import {
  close,
  differs,
  distinct,
  keyOf,
  logOf,
  moved,
  type Candidate,
  type Closure,
  type Logs,
  type Pending,
  type Refusal,
} from './closure.ts';
import { sameReply } from './replies.ts';

/** An operation as it was called, and what fate makes fail in it. */
interface Called {
  readonly label: Label;
  readonly agent: Agent;
  readonly op: Op<'concrete'>;
  readonly failures: readonly Failure[];
}

/** What happened since the last rest, for going through it again in full. */
type Event =
  | ({ readonly kind: 'called' } & Called)
  /** With every log as it was then. */
  | { readonly kind: 'paused'; readonly label: Label; readonly logs: Logs }
  | { readonly kind: 'returned'; readonly label: Label; readonly reply: Reply; readonly logs: Logs };

/** A narrow list holds no more than this. */
const NARROW_MAX = 8;

/** Positions of one operation that are looked at in a narrow search. */
const POSITIONS_MAX = 400;

/**
 * Micro-steps after which no further candidate is tried when an operation returns: one on a quarter of a million gfns is as many
 * itself, and hundreds of positions are more than anybody waits for.
 */
const STEPS_MAX = 1_000_000;

/** Logs as they are now. That of an operation that has returned grows no more. */
const snapshot = (logs: Logs): Logs => new Map([...logs].map(([label, log]) => [label, log.slice()]));

/**
 * How much is followed up. likely: positions nearest to the machine, a returning operation in one go. stops: all positions at
 * every pause, a returning operation in one go. whole: all positions of those in flight at every return, a returning operation
 * in one go. all: every interleaving of micro-steps.
 */
const breadths = ['likely', 'stops', 'whole', 'all'] as const;

type Breadth = (typeof breadths)[number];

/** In how many touched things a state differs from the machine; counting may end beyond `most`. */
type Distance = (state: State, most: number) => number;

/** The set of candidates of one run; mutable, owned by it. */
export class Candidates {
  #list: readonly Candidate[];
  /** The list at the last rest, when nothing was in flight. */
  #rest: readonly Candidate[];
  #events: Event[] = [];
  #breadth: Breadth = 'likely';
  #closed: { readonly open: readonly Candidate[]; readonly logged: number } | undefined = undefined;
  /** Whether some closure was cut off: then a refusal is not to be believed. */
  overflowed = false;

  constructor(state: State) {
    this.#list = [{ state, pending: [] }];
    this.#rest = this.#list;
  }

  /** The candidates as narrow as they are now. Never empty. */
  get list(): readonly Candidate[] {
    return this.#list;
  }

  /** Keeps those candidates that `test` accepts, if any; says whether any did. */
  keep(test: (candidate: Candidate) => boolean): boolean {
    const rest = this.#list.length === 1 ? this.#list : this.#list.filter(test);
    const [only] = rest;
    if (only === undefined || (this.#list.length === 1 && !test(only))) return false;
    this.#become(rest);
    return true;
  }

  /** Nothing is in flight, and the list equals the machine. */
  atRest(): void {
    this.#rest = this.#list;
    this.#events = [];
    this.#breadth = 'likely';
    this.overflowed = false;
  }

  /** An operation is called. */
  start(call: Called): void {
    this.#events.push({ kind: 'called', ...call });
    this.#become(called(this.#list, call));
  }

  /** `label` is paused; `distance` says in how many touched things a state differs from the machine, or more than `most`. */
  paused(label: Label, logs: Logs, distance: Distance): void {
    this.#notePause({ kind: 'paused', label, logs: snapshot(logs) });
    if (this.#breadth === 'likely')
      this.#keepNearest(upToLog(positions(this.#list, label, logs), label, logs), distance);
    else this.settle(logs, distance);
  }

  /** Of two pauses in a row of one operation the later one says all. */
  #notePause(event: Extract<Event, { kind: 'paused' }>): void {
    const last = this.#events.at(-1);
    if (last?.kind === 'paused' && last.label === event.label) this.#events.pop();
    this.#events.push(event);
  }

  /** Whether what was likely explained too little, so that everything is followed. */
  get isBroad(): boolean {
    return this.#breadth !== 'likely';
  }

  /**
   * Comes back to what is likely: a broad search that has found who explains all need not be kept up. Candidates that `explain`
   * come first, or the same search would soon be due again.
   */
  settle(logs: Logs, distance: Distance, explains: (state: State) => boolean = () => true): void {
    if (this.overflowed) return;
    const all = this.closure(logs);
    const explaining = all.filter(({ state }) => explains(state));
    this.#breadth = 'likely';
    this.#keepNearest(explaining.length === 0 ? all : explaining, distance);
  }

  #keepNearest(all: readonly Candidate[], distance: Distance): void {
    let least = Infinity;
    // Micro-steps that change no state are many, and positions before and after them are equally near.
    const known = new Map<State, number>();
    const distances = all.map(({ state }) => {
      const found = all.length === 1 ? 0 : (known.get(state) ?? distance(state, least));
      known.set(state, found);
      least = Math.min(least, found);
      return found;
    });
    this.#become(narrowed(all.filter((_, i) => distances[i] === least)));
  }

  /** Goes through everything since the last rest more broadly. False: that cannot be, or explains nothing. */
  widen(logs: Logs): boolean {
    const breadth = breadths[breadths.indexOf(this.#breadth) + 1];
    if (breadth === undefined || this.overflowed) return false;
    this.#breadth = breadth;
    let list = this.#rest;
    for (const event of this.#events) {
      if (event.kind === 'called') list = called(list, event);
      else if (event.kind === 'paused') {
        if (breadth !== 'stops') continue;
        list = upToLog(positions(list, event.label, event.logs), event.label, event.logs);
        // Positions were left out: then a refusal says nothing, and a broader search must speak.
        if (list.length > POSITIONS_MAX) return this.widen(logs);
      } else {
        const { done } = this.#finish(list, event.logs, event);
        if (done.length === 0) return this.widen(logs);
        list = distinct(done.map(({ candidate }) => candidate));
      }
    }
    this.#become(list);
    return true;
  }

  /** All that may be now: unless the list is narrow, every operation in flight as far as its log lets it be. */
  closure(logs: Logs): readonly Candidate[] {
    if (this.#breadth === 'likely' || this.#breadth === 'stops') return this.#list;
    let logged = 0;
    for (const log of logs.values()) logged += log.length;
    if (this.#closed?.logged === logged) return this.#closed.open;
    const { open } = this.#noting(close(this.#list, logs));
    this.#closed = { open, logged };
    return open;
  }

  /** `label` has returned `reply`; `logs` has its whole log. A refusal if that cannot be explained. */
  complete(label: Label, logs: Logs, reply: Reply): { readonly expected: Expected } | Refusal {
    for (;;) {
      const { done, refusal } = this.#finish(this.#list, logs, { label, reply });
      const [first] = done;
      if (first === undefined && this.widen(logs)) continue;
      this.#events.push({ kind: 'returned', label, reply, logs: snapshot(logs) });
      if (first === undefined)
        return refusal ?? { invariant: 'refines', reason: 'no order of the operations in flight explains the reply' };
      this.#become(distinct(done.map(({ candidate }) => candidate)));
      if (this.#breadth === 'stops') this.#breadth = 'likely';
      return { expected: first.expected };
    }
  }

  #become(list: readonly Candidate[]): void {
    this.#list = list;
    this.#closed = undefined;
  }

  /** Who was not tried for want of time could have explained the reply. */
  #inOneGo(list: readonly Candidate[], logs: Logs, ending: Ending): Pick<Closure, 'done' | 'refusal'> {
    const budget = { left: STEPS_MAX };
    const found = inOneGo(list, logOf(logs, ending.label), ending, budget);
    if (found.done.length === 0 && list.length > 1 && budget.left < 0) this.overflowed = true;
    return found;
  }

  #noting(closure: Closure): Closure {
    if (closure.overflowed) this.overflowed = true;
    return closure;
  }

  /** Where an operation that has returned can have returned so. */
  #finish(list: readonly Candidate[], logs: Logs, ending: Ending): Pick<Closure, 'done' | 'refusal'> {
    switch (this.#breadth) {
      case 'likely':
      case 'stops':
        return this.#inOneGo(list, logs, ending);
      case 'whole':
        return this.#inOneGo(this.#noting(close(list, logs, { still: ending.label })).open, logs, ending);
      case 'all':
        return this.#noting(close(list, logs, { ending }));
    }
  }
}

/**
 * As many of `list` as a narrow one holds, from as many states as there are: states that differ in nothing that the machine shows
 * can come from different orders before the last rest, and a later search does not go back there for those that are dropped.
 */
function narrowed(list: readonly Candidate[]): readonly Candidate[] {
  if (list.length <= NARROW_MAX) return list;
  const seen = new Map<State, number>();
  const rounds = list.map((candidate) => {
    const round = seen.get(candidate.state) ?? 0;
    seen.set(candidate.state, round + 1);
    return { candidate, round };
  });
  return rounds
    .toSorted((a, b) => a.round - b.round)
    .slice(0, NARROW_MAX)
    .map(({ candidate }) => candidate);
}

interface Ending {
  readonly label: Label;
  readonly reply: Reply;
}

/** The operation runs to its end in each candidate, as long as `budget` lasts, while the others stand still. */
function inOneGo(
  list: readonly Candidate[],
  log: readonly Logged[],
  { label, reply }: Ending,
  budget: Budget,
): Pick<Closure, 'done' | 'refusal'> {
  const done: { candidate: Candidate; expected: Expected }[] = [];
  let refusal: Refusal | undefined;
  for (const { state, pending } of list) {
    if (budget.left < 0) break;
    const at = pending.findIndex((one) => one.label === label);
    const outcome = runAlone(state, (pending[at] as Pending).progress, log, budget);
    if (outcome.kind === 'refused') refusal ??= { invariant: outcome.invariant, reason: outcome.reason };
    else if (!sameReply(outcome.expected, reply)) refusal ??= differs(outcome.expected);
    else {
      const candidate = { state: outcome.state, pending: pending.filter((_, i) => i !== at) };
      done.push({ candidate, expected: outcome.expected });
    }
  }
  return { done, refusal };
}

/** All candidates with one more operation in flight. */
function called(list: readonly Candidate[], { label, agent, op, failures }: Called): readonly Candidate[] {
  const progress = begin(agent, op, failures);
  return list.map(({ state, pending }) => ({ state, pending: [...pending, { label, progress }] }));
}

/**
 * Positions that `label` can have come to from `list`, the others standing still; the furthest last. Bookkeeping is taken in
 * early only where nothing else goes on: the full search knows the other orders.
 */
function positions(list: readonly Candidate[], label: Label, logs: Logs): readonly Candidate[] {
  const log = logOf(logs, label);
  const all: Candidate[] = [];
  // Along a single way no position comes twice; ways from several starts may meet.
  const keys = list.length > 1 ? new Set<number>() : undefined;
  for (const start of list) {
    let further: Candidate | undefined = start;
    while (further !== undefined && all.length <= POSITIONS_MAX) {
      const key = keys && keyOf(further);
      if (key !== undefined && keys?.has(key) === true) break;
      if (key !== undefined) keys?.add(key);
      all.push(further);
      further = next(further, label, log);
    }
  }
  return all;
}

/** What processors do in the act at hand, and nobody sees of them otherwise: how they translated, and that they have forgotten. */
const ofProcessors: ReadonlySet<string> = new Set<Choice['kind']>(['walked', 'combined', 'forgotten']);

/** Those of `list` in which `label` has come past all that processors are said to have done for it, if any has. */
function upToLog(list: readonly Candidate[], label: Label, logs: Logs): readonly Candidate[] {
  const last = logOf(logs, label).findLastIndex(({ choice }) => ofProcessors.has(choice.kind));
  if (last < 0) return list;
  const past = list.filter(({ pending }) => (pending.find((one) => one.label === label)?.progress.cursor ?? 0) > last);
  return past.length > 0 ? past : list;
}

/** `label` one micro-step further; undefined: it cannot go on. */
function next({ state, pending }: Candidate, label: Label, log: readonly Logged[]): Candidate | undefined {
  const at = pending.findIndex((one) => one.label === label);
  const progress = pending[at]?.progress;
  if (progress === undefined) return undefined;
  const plain = advance(state, progress, log, false);
  const way = plain.kind === 'moved' ? plain : advanceLog(state, progress, log);
  return way.kind === 'moved' ? moved({ state, pending }, at, way) : undefined;
}
