// Which states of the model explain what has been seen. Completed operations are in every candidate; an operation in flight
// may have performed any number of the micro-steps that its log of choices allows. When an operation returns, those
// candidates remain in which it can finish with that very reply: just-in-time linearizability with micro-steps as the unit.
// All candidates are many, and the machine shows at every pause how far it has come. So the list is kept narrow: at a pause,
// those positions of the paused operation whose state equals the machine; at a return, the operation run to its end on
// each, the others standing still. Only if the narrow list explains no more is everything since the last rest gone through
// again in full. A narrow list is part of the full one, so what it explains is explained (docs/decisions/0002, 0005).

import type { Agent } from '#abi/agents.ts';
import type { Logged } from '#abi/choices.ts';
import type { Label } from '#abi/operand.ts';
import type { Op } from '#abi/operation.ts';
import type { Expected, Reply } from '#abi/reply.ts';
import type { State } from '#model/state.ts';
import { advance, begin, runAlone } from '#model/step.ts';
import { close, differs, distinct, logOf, moved, type Candidate, type Logs, type Refusal } from './closure.ts';
import { sameReply } from './replies.ts';

/** What happened since the last rest, for going through it again in full. */
type Event =
  | { readonly kind: 'called'; readonly label: Label; readonly agent: Agent; readonly op: Op<'concrete'> }
  | {
      readonly kind: 'returned';
      readonly label: Label;
      readonly reply: Reply;
      /** Every log as it was then. */
      readonly logs: Logs;
    };

/** A narrow list holds no more than this: the furthest. */
const NARROW_MAX = 8;

const snapshot = (logs: Logs): Logs => new Map([...logs].map(([label, log]) => [label, log.slice()]));

/** The set of candidates of one run; mutable, owned by it. */
export class Candidates {
  #list: readonly Candidate[];
  /** The list at the last rest, when nothing was in flight. */
  #rest: readonly Candidate[];
  #events: Event[] = [];
  #isNarrow = true;
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
    this.#list = rest;
    this.#closed = undefined;
    return true;
  }

  /** Nothing is in flight, and the list equals the machine. */
  atRest(): void {
    this.#rest = this.#list;
    this.#events = [];
    this.#isNarrow = true;
    this.overflowed = false;
  }

  /** An operation is called. */
  start(label: Label, agent: Agent, op: Op<'concrete'>): void {
    this.#events.push({ kind: 'called', label, agent, op });
    this.#list = called(this.#list, { label, agent, op });
    this.#closed = undefined;
  }

  /** `label` is paused; `equals` says whether a state equals the machine as far as it was touched. */
  paused(label: Label, logs: Logs, equals: (state: State) => boolean): void {
    if (!this.#isNarrow) return;
    const chain = distinct(this.#list.flatMap((candidate) => positions(candidate, label, logs)));
    const equal = chain.length === 1 ? chain : chain.filter(({ state }) => equals(state));
    this.#list = (equal.length > 0 ? equal : chain).slice(-NARROW_MAX);
    this.#closed = undefined;
  }

  /** Goes through everything since the last rest in full. False: the list is full already. */
  widen(logs: Logs): boolean {
    if (!this.#isNarrow) return false;
    this.#isNarrow = false;
    let list = this.#rest;
    for (const event of this.#events) {
      if (event.kind === 'called') list = called(list, event);
      else {
        const { done, overflowed } = close(list, event.logs, event);
        if (overflowed) this.overflowed = true;
        // Nothing explains it: the narrow list stays, and so does the refusal.
        if (done.length === 0) return false;
        list = done.map(({ candidate }) => candidate);
      }
    }
    this.#list = list;
    this.#closed = undefined;
    return this.closure(logs).length > 0;
  }

  /** All that may be now: in a full list every operation in flight as far as its log lets it be. */
  closure(logs: Logs): readonly Candidate[] {
    if (this.#isNarrow) return this.#list;
    let logged = 0;
    for (const log of logs.values()) logged += log.length;
    if (this.#closed?.logged === logged) return this.#closed.open;
    const { open, overflowed } = close(this.#list, logs, undefined);
    if (overflowed) this.overflowed = true;
    this.#closed = { open, logged };
    return open;
  }

  /** `label` has returned `reply`; `logs` has its whole log. A refusal if that cannot be explained. */
  complete(label: Label, logs: Logs, reply: Reply): { readonly expected: Expected } | Refusal {
    // Nothing else has been in flight since the last rest.
    const isAlone = this.#events.length === 1;
    if (!isAlone) this.#events.push({ kind: 'returned', label, reply, logs: snapshot(logs) });
    const answer = this.#isNarrow ? this.#runOut(label, logs, reply) : this.#finishAll(label, logs, reply);
    if (!('reason' in answer) || isAlone) return answer;
    this.#events.pop();
    const isWider = this.widen(logs);
    this.#events.push({ kind: 'returned', label, reply, logs: snapshot(logs) });
    return isWider ? this.#finishAll(label, logs, reply) : answer;
  }

  /** The operation runs to its end in each candidate while the others stand still. */
  #runOut(label: Label, logs: Logs, reply: Reply): { readonly expected: Expected } | Refusal {
    const log = logOf(logs, label);
    const list: Candidate[] = [];
    let answer: { readonly expected: Expected } | Refusal | undefined;
    for (const { state, pending } of this.#list) {
      const at = pending.findIndex((one) => one.label === label);
      const outcome = runAlone(state, (pending[at] as (typeof pending)[number]).progress, log);
      if (outcome.kind === 'refused') answer ??= { invariant: outcome.invariant, reason: outcome.reason };
      else if (!sameReply(outcome.expected, reply)) answer ??= differs(outcome.expected);
      else {
        if (list.length === 0) answer = { expected: outcome.expected };
        list.push({ state: outcome.state, pending: pending.filter((_, i) => i !== at) });
      }
    }
    if (list.length > 0) {
      this.#list = distinct(list);
      this.#closed = undefined;
    }
    return answer ?? { invariant: 'refines', reason: 'there is no candidate' };
  }

  #finishAll(label: Label, logs: Logs, reply: Reply): { readonly expected: Expected } | Refusal {
    const { done, refusal, overflowed } = close(this.#list, logs, { label, reply });
    if (overflowed) this.overflowed = true;
    const [first] = done;
    if (first === undefined)
      return refusal ?? { invariant: 'refines', reason: 'no order of the operations in flight explains the reply' };
    this.#list = done.map(({ candidate }) => candidate);
    this.#closed = undefined;
    return { expected: first.expected };
  }
}

/** All candidates with one more operation in flight. */
function called(
  list: readonly Candidate[],
  { label, agent, op }: { label: Label; agent: Agent; op: Op<'concrete'> },
): readonly Candidate[] {
  const progress = begin(agent, op);
  return list.map(({ state, pending }) => ({ state, pending: [...pending, { label, progress }] }));
}

/** Every position that `label` can have come to from here, the others standing still. */
function positions(candidate: Candidate, label: Label, logs: Logs): readonly Candidate[] {
  const log = logOf(logs, label);
  const chain = [candidate];
  for (let last = step(candidate, label, log); last !== undefined; last = step(last, label, log)) {
    chain.push(last);
  }
  return chain;
}

/** `label` one micro-step further; undefined: its log does not let it be. */
function step({ state, pending }: Candidate, label: Label, log: readonly Logged[]): Candidate | undefined {
  const at = pending.findIndex((one) => one.label === label);
  const progress = pending[at]?.progress;
  const outcome = progress && advance(state, progress, log, false);
  return outcome?.kind === 'moved' ? moved({ state, pending }, at, outcome) : undefined;
}
