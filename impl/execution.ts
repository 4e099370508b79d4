// An operation in flight: a generator, the log of its choices, the failures and the preemption that fate has in store for
// it. Only paused handlers are generators; between operations nothing of this exists.

import type { Agent } from '#abi/agents.ts';
import type { Choice, Logged } from '#abi/choices.ts';
import type { Failure, FailureClass } from '#abi/failures.ts';
import type { Op } from '#abi/operation.ts';
import type { Pause } from '#abi/points.ts';
import type { Reply } from '#abi/reply.ts';
import type { Port, Step } from './port.ts';

/** An operation as it is called: concrete, by whom, and what fate does to it. */
export interface Call {
  readonly agent: Agent;
  readonly op: Op<'concrete'>;
  readonly failures?: readonly Failure[];
  /** Stops at the n-th preemption check, from 1. */
  readonly preempt?: number;
}

/** How a run ended: at a point, waiting for the execution in `slot`, or with a reply. */
export type RunOutcome =
  | { readonly kind: 'paused' }
  | { readonly kind: 'blocked'; readonly slot: number }
  | { readonly kind: 'done'; readonly reply: Reply };

const PAUSED: RunOutcome = { kind: 'paused' };

/** Thrown when an operation works on and on: it would hang whoever waits for it. */
export class EndlessWork extends Error {
  override readonly name = 'EndlessWork';
}

/** More acts between two preemption checks than the largest extents could need; and more choices, and checks, of one operation. */
const ENDLESS = { acts: 2 ** 22, choices: 2 ** 14, checks: 2 ** 16 } as const;

/** Asked before each act whether to stop there; the port names the act. */
export type Stopper = () => boolean;

/** One operation in flight. Owned by the machine that started it. */
export class Execution {
  readonly call: Call;
  /** 1..SLOTS while in flight; locks name their holder by it. */
  readonly slot: number;
  readonly log: Logged[] = [];
  reply: Reply | undefined = undefined;
  /** Acts since the last preemption check, and the most there have been (law WORK). */
  acts = 0;
  worst = 0;
  /** Preemption checks passed, the one that stopped it included (law WORK). */
  checks = 0;
  /** Whether it may be told to stop within a table of a paravirtual guest. */
  stopsWithin = false;
  /** Such a table that it has left partial and must let go of, with the reference that comes with it; 0: none. */
  parked = 0;
  /** How the last run ended. */
  outcome: RunOutcome = PAUSED;
  readonly #port: Port;
  readonly #body: Step<Reply>;
  readonly #asked = new Map<FailureClass, number>();
  readonly #sequence: () => number;

  constructor(port: Port, of: { call: Call; slot: number; body: Step<Reply>; sequence: () => number }) {
    this.#port = port;
    this.call = of.call;
    this.slot = of.slot;
    this.#body = of.body;
    this.#sequence = of.sequence;
  }

  /** Runs on until `stop` says so at an act, a lock is awaited, or the reply is there. Without `stop` acts do not yield. */
  run(stop?: Stopper): RunOutcome {
    this.outcome = this.#runOn(stop);
    return this.outcome;
  }

  #runOn(stop: Stopper | undefined): RunOutcome {
    const port = this.#port;
    port.current = this;
    port.armed = stop !== undefined;
    for (;;) {
      const { done, value } = this.#body.next();
      if (done === true) {
        this.reply = value;
        return { kind: 'done', reply: value };
      }
      const slot = port.awaits;
      port.awaits = 0;
      if (slot !== 0) return { kind: 'blocked', slot };
      if (stop?.() === true) return PAUSED;
    }
  }

  /** Something of it is about to happen that others could come before. Throws `EndlessWork`. */
  act(): void {
    this.acts += 1;
    if (this.acts <= this.worst) return;
    this.worst = this.acts;
    if (this.acts > ENDLESS.acts) throw new EndlessWork('performs acts without end');
  }

  choose(choice: Choice): void {
    if (this.log.length === ENDLESS.choices) throw new EndlessWork('makes choices without end');
    this.log.push({ seq: this.#sequence(), choice });
  }

  fails(kind: FailureClass): boolean {
    const { failures } = this.call;
    if (failures === undefined) return false;
    const nth = (this.#asked.get(kind) ?? 0) + 1;
    this.#asked.set(kind, nth);
    return failures.some((failure) => failure.class === kind && failure.nth === nth);
  }

  preempts(): boolean {
    this.checks += 1;
    if (this.checks > ENDLESS.checks) throw new EndlessWork('asks without end whether to stop');
    return this.checks === this.call.preempt;
  }
}

/** A stopper for the nth (from 1) act of a class and object from here on; `port` names the acts. */
export function stopAt(port: Port, pause: Pause): Stopper {
  let seen = 0;
  return () => {
    if (port.pointClass !== pause.class || port.pointObject !== pause.object) return false;
    seen += 1;
    return seen === pause.nth;
  };
}
