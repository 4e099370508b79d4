// Where laws judge: takes in what changed on both sides, keeps reach up to date, keeps the candidates that equal the machine
// when nothing is in flight, and lets every law look. Driving operations is lockstep.ts.
// A first reader may begin at `judge`.

import type { Machine } from '#impl/machine.ts';
import { invariants, type Invariant } from '#abi/invariants.ts';
import type { Mechanism } from '#abi/operation.ts';
import type { Label } from '#abi/operand.ts';
import type { State } from '#model/state.ts';
import { present } from '#lib/invariant.ts';
import { ActJudge } from './acts.ts';
import { unexplainedEntries } from '../tlb/linear-laws.ts';
import { markAsids } from '../tlb/asids.ts';
import type { Candidates } from './candidates.ts';
import type { Candidate, Logs } from './closure.ts';
import { auditProblem, firstUnexplained, reachProblem, stateDistance, stateProblem } from './judge.ts';
import type { AlwaysLaw, Failure, Problem } from './law.ts';
import { Marks } from './marks.ts';
import { attributed } from './problems.ts';
import { Reach } from './reach.ts';
import { Touched } from './touched.ts';
import type { Looks, Returned, View } from './view.ts';

/** The moment at which laws judge. */
export interface Moment {
  readonly candidates: Candidates;
  /** Logs of the operations in flight; empty: quiescent. */
  readonly logs: Logs;
  /** Index of the trace's step. */
  readonly step: number;
  /** The operation that has just returned. */
  readonly returned?: Returned | undefined;
  /** The operation that stands before an act: its candidates have not been narrowed since it was paused last. */
  readonly act?: Label | undefined;
  /** What driving the operation has brought up. */
  readonly problems?: readonly Problem[];
}

const first = (candidates: Candidates): State => present(candidates.list[0], 'there is always a candidate').state;

const NOTHING_IN_FLIGHT: Logs = new Map();

type OnLook = (invariant: Invariant, mechanism: Mechanism) => void;

/** The judge of one run. */
export class Court {
  readonly #machine: Machine;
  readonly #laws: readonly AlwaysLaw[];
  readonly #onLook: OnLook | undefined;
  /** The invariant of the law that judges now. */
  #judging: Invariant = 'refines';
  readonly #touched = new Touched();
  readonly #acts: ActJudge;
  readonly marks = new Marks();
  reach: Reach;
  /** The state that touched things were last compared with. */
  #synced: State;
  readonly #onWord = (mfn: number, index: number): void => this.reach.wrote(mfn, index);
  /** The first broken law. */
  failure: Failure | undefined = undefined;

  constructor(machine: Machine, state: State, of: { laws: readonly AlwaysLaw[]; onLook: OnLook | undefined }) {
    this.#machine = machine;
    this.#laws = of.laws;
    this.#onLook = of.onLook;
    this.#synced = state;
    this.reach = this.#freshReach();
    // An operation may use what it has only just put there.
    this.#acts = new ActJudge(machine, () => {
      this.#takeLog();
      for (const domain of this.#touched.roots) this.reach.rootChanged(domain);
      return this.reach;
    });
    machine.port.watcher = this.#acts.watch;
  }

  /** Forgets what was touched and computes reach anew: the machine was put back to a moment when `state` explained it. */
  reset(state: State): void {
    this.#touched.clear();
    this.#synced = state;
    this.reach = this.#freshReach();
    this.failure = undefined;
  }

  /** `label` is paused: the candidates nearest to the machine are kept. */
  narrow(label: Label, { candidates, logs }: Moment): void {
    this.#takeIn(candidates);
    candidates.paused(label, logs, this.#distance);
  }

  readonly #distance = (state: State, most: number): number => {
    this.#touched.takeModel(state, this.#synced);
    const strange = unexplainedEntries(this.#machine, state);
    return strange + stateDistance(this.#machine, { state, reach: this.reach, touched: this.#touched }, most - strange);
  };

  /** Whether the machine has done anything since the last judgement that a law could object to. */
  get isStirred(): boolean {
    this.#takeLog();
    return this.#touched.isStirred || this.#acts.objects;
  }

  /** Takes in what changed and lets every law look. False: one is broken. */
  judge(moment: Moment): boolean {
    const { candidates, logs, returned, problems = [] } = moment;
    const touched = this.#touched;
    this.#takeIn(candidates);
    const quiescent = logs.size === 0;
    const found = [...problems, ...this.#acts.take()];
    if (quiescent && problems.length === 0) {
      const difference = this.#settleOn(candidates);
      if (difference !== undefined) found.push(attributed(difference, returned));
    }
    if (!this.#report(moment, found, false)) return false;
    // What was too much to follow stays so: the run is given up, not gone on with on a guess.
    if (quiescent && !candidates.overflowed) {
      candidates.atRest();
      this.#synced = first(candidates);
      touched.clear();
    }
    if (!quiescent && candidates.isBroad) candidates.settle(logs, this.#distance, this.#explains);
    touched.recent.clear();
    touched.isStirred = false;
    this.reach.changed.clear();
    return true;
  }

  /** Compares everything; only when nothing is in flight. False: a law is broken. */
  audit(moment: Moment): boolean {
    this.#takeIn(moment.candidates);
    const problem = auditProblem(this.#machine, { state: first(moment.candidates), reach: this.reach });
    return this.#report(moment, problem === undefined ? [] : [problem], true);
  }

  /** Lets every law look at problems that came up before anything could be compared. */
  accuse(moment: Moment, problem: Problem): boolean {
    if (!this.#report(moment, [problem], false)) return false;
    // Machine code that failed cannot go on, whichever laws were chosen.
    const { invariant } = problem;
    this.failure = { ...problem, law: `harness/${invariant}`, statement: invariants[invariant], step: moment.step };
    return false;
  }

  #takeLog(): void {
    this.#touched.takeLog(this.#machine, this.#onWord);
  }

  #takeIn(candidates: Candidates): void {
    const touched = this.#touched;
    const { reach } = this;
    this.#takeLog();
    for (const domain of touched.roots) reach.rootChanged(domain);
    reach.cachesChanged(touched.slots, touched.pcpus.size > 0 || touched.roots.size > 0, touched.linear);
    reach.directChanged(touched.recent.size + touched.vcpus.size + touched.pcpus.size + touched.linear.size > 0);
    for (const { state } of candidates.list) touched.takeModel(state, this.#synced);
  }

  /** Keeps the candidates that equal the machine in what was touched; else the first difference. */
  #settleOn(candidates: Candidates): Problem | undefined {
    let difference: Problem | undefined;
    const isEqual = ({ state }: Candidate): boolean => {
      const problem = stateProblem(this.#machine, { state, reach: this.reach, touched: this.#touched });
      difference ??= problem;
      return problem === undefined;
    };
    while (!candidates.keep(isEqual))
      if (!candidates.widen(NOTHING_IN_FLIGHT)) return candidates.overflowed ? undefined : difference;
    // What processors may still remember is in no table of the machine: it tells candidates apart that are equal otherwise.
    if (candidates.list.length > 1)
      candidates.keep(({ state }) => this.#explains(state) && unexplainedEntries(this.#machine, state) === 0);
    return undefined;
  }

  /** Whether `state` explains all ways to the frames that were touched. */
  readonly #explains = (state: State): boolean => {
    for (const frames of [this.reach.changed, this.#touched.frames])
      for (const mfn of frames)
        if (reachProblem(this.#machine, { reach: this.reach, state }, mfn) !== undefined) return false;
    return true;
  };

  /** Lets every law judge; the first that is broken is the failure. */
  #report(moment: Moment, problems: readonly Problem[], audit: boolean): boolean {
    const { candidates, logs, returned, step, act } = moment;
    const quiescent = logs.size === 0;
    const { reach } = this;
    const suspects = returned === undefined && !audit ? this.#touched.recent : this.#touched.frames;
    const states = (): readonly State[] =>
      quiescent ? [first(candidates)] : candidates.closure(logs).map(({ state }) => state);
    let isNarrowed = act === undefined;
    const widen = (): boolean => {
      // Mostly whoever explained the last act explains this one too; only if not is it worth looking how far it has come.
      if (act === undefined || isNarrowed) return !quiescent && candidates.widen(logs);
      isNarrowed = true;
      this.narrow(act, moment);
      return true;
    };
    const only = (why: string): void => this.marks.add(`only:${why}`);
    const onLook = this.#onLook;
    const looks: Looks | undefined =
      onLook && ((mechanism, invariant) => onLook(invariant ?? this.#judging, mechanism));
    let searched: { readonly problem: Problem | undefined } | undefined;
    const isOpen = problems.some(({ field }) => field.startsWith('reply') || field.startsWith('choice'));
    const explained = (): boolean => !isOpen && !candidates.overflowed;
    const view: View = {
      machine: this.#machine,
      candidates: states,
      widen,
      suspects,
      explained,
      unexplained: () => {
        if (searched === undefined) {
          const search = { machine: this.#machine, reach, suspects, candidates: states, widen, only, looks };
          const problem = explained() ? firstUnexplained(search) : undefined;
          // The search may have found that there is too much to follow.
          searched = { problem: explained() ? problem : undefined };
        }
        return searched.problem;
      },
      quiescent,
      audit,
      returned,
      problems,
      reach,
      touched: this.#touched,
      mark: (mark) => this.marks.add(mark),
      due: (execution) => this.#acts.asked.due(execution),
      looks,
    };
    markAsids(view);
    for (const law of this.#laws) {
      this.#judging = law.invariant;
      const problem = law.judge(view);
      if (problem === undefined) continue;
      this.failure = { ...problem, law: law.id, statement: law.statement, step };
      return false;
    }
    return true;
  }

  #freshReach(): Reach {
    const reach = Reach.audited(this.#machine);
    reach.changed.clear();
    reach.onPlace = (domain, gfn) => this.#touched.place(domain, gfn);
    return reach;
  }
}
