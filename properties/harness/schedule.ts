// When operations are paused, made to fail, or preempted. Points come from a static table of what each kind of operation can
// pass (points.ts), not from what a run has shown, so a schedule can name a point that an edited implementation alone reaches.
// After "A Randomized Scheduler with Probabilistic Guarantees of Finding Bugs" (Burckhardt et al., PCT): few change points
// at random places find most bugs; here an episode of one or two operations with one to three points, several per run.
// A first reader may skip nothing.

import type { Agent } from '#abi/agents.ts';
import type { Label } from '#abi/operand.ts';
import type { Failure } from '#abi/failures.ts';
import { mechanismOf, type Op } from '#abi/operation.ts';
import type { Pause, PointClass } from '#abi/points.ts';
import type { Prng } from '#lib/prng.ts';
import type { State } from '#model/state.ts';
import { failuresOf, partsPerCheck, pointsFor, pointsOf, withinParts, type Leaves, type Started } from './points.ts';

/** Which of several such acts: mostly the first. Few operations interrupt more than two processors. */
const nths = (pointClass: PointClass): readonly number[] =>
  pointClass === 'flush' ? [1, 1, 1, 2] : [1, 1, 1, 1, 2, 3];

/** What fate adds to a step. */
export interface Fate {
  readonly pause?: Pause;
  readonly failures?: readonly Failure[];
  readonly preempt?: number;
}

/** An episode holds no more operations and points than this, both counted. */
const EPISODE_MAX = 6;

/** What a schedule knows of the moment at which an operation starts. */
export interface Circumstances {
  /** How many others stand paused. */
  readonly paused: number;
  /** Whether somebody else can act meanwhile on a domain that the operation is about. */
  readonly contested: boolean;
  readonly leaves: Leaves;
}

/** An operation that stands paused. */
interface Standing {
  readonly label: Label;
  readonly op: Started;
  readonly agent: Agent;
}

/** What a paused access has left its guest for. */
const leftFor = ({ agent }: Standing, state: State): Leaves =>
  agent.kind === 'vcpu' && state.domains.get(agent.domain)?.kind === 'pv' ? 'tables' : 'memory';

/** Decides when to pause, fail, preempt and resume in one run. */
export class Schedule {
  readonly #prng: Prng;
  readonly #interleaves: boolean;
  readonly #fails: boolean;
  readonly #preempts: boolean;
  /** Of the present episode: operations still to be paused, points still to be used, steps of others before the next resume. */
  #operations = 0;
  #points = 0;
  #wait = 0;

  constructor(prng: Prng) {
    this.#prng = prng;
    this.#interleaves = prng.chance(1, 2);
    this.#fails = prng.chance(1, 3);
    this.#preempts = prng.chance(1, 3);
  }

  /** What happens to an operation that starts now. */
  onStart(op: Op<'symbolic'>, at: Circumstances): Fate {
    const isIdle = mechanismOf(op.kind) === 'paging' && at.leaves === undefined;
    const pause = isIdle ? undefined : this.#opening(op, at);
    const classes = isIdle ? undefined : failuresOf[op.kind];
    const failing = this.#fails && classes !== undefined && this.#prng.chance(1, 4);
    const isDivided = op.kind in withinParts;
    const preempting = (this.#preempts || isDivided) && op.kind in partsPerCheck && this.#prng.chance(1, 2);
    return {
      ...(pause === undefined ? {} : { pause }),
      ...(failing ? { failures: [{ class: this.#prng.pick(classes), nth: 1 + this.#prng.below(2) }] } : {}),
      ...(preempting ? { preempt: isDivided ? this.#prng.pick([1, 1, 2, 3]) : 1 + this.#prng.below(3) } : {}),
    };
  }

  /** An operation was to be paused and has not come by the point: the episode is left to the next one. */
  missed(): void {
    if (this.#operations + this.#points >= EPISODE_MAX) return;
    this.#operations += 1;
    this.#points += 1;
  }

  /** Which paused operation goes on now, perhaps to a further point; undefined: somebody else acts. */
  toResume(flights: readonly Standing[], state: State): { readonly resume: Label; readonly pause?: Pause } | undefined {
    if (flights.length === 0) return undefined;
    if (this.#wait > 0) {
      this.#wait -= 1;
      return undefined;
    }
    const flight = this.#prng.pick(flights);
    const pause = this.#points > 0 ? this.#point(flight.op, leftFor(flight, state)) : undefined;
    return { resume: flight.label, ...(pause === undefined ? {} : { pause }) };
  }

  /** A point at which to stop an operation that starts, if an episode wants one. Episodes do not overlap. */
  #opening(op: Started, { paused, contested, leaves }: Circumstances): Pause | undefined {
    if (!this.#interleaves || pointsOf[op.kind].length === 0) return undefined;
    if (this.#operations === 0 && paused === 0 && this.#prng.chance(contested ? 4 : 1, 6)) {
      this.#operations = 1 + this.#prng.below(2);
      this.#points = this.#operations + this.#prng.below(4 - this.#operations);
    }
    if (this.#operations === 0) return undefined;
    this.#operations -= 1;
    return this.#point(op, leaves);
  }

  #point(op: Started, leaves: Leaves): Pause | undefined {
    const points = pointsFor(op, leaves);
    if (points.length === 0) return undefined;
    this.#points -= 1;
    this.#wait = 2 + this.#prng.below(4);
    const [pointClass, object] = this.#prng.pick(points);
    return { class: pointClass, object, nth: this.#prng.pick(nths(pointClass)) };
  }
}
