// One run: the implementation and the model side by side, one trace step at a time, all laws judging. Generation, replay,
// shrinking, certification and exhibits are all this one run, fed differently.
// A first reader may begin at `apply` and skip `#unblock` (what happens when an operation waits for another's lock).

import type { Logged } from '#abi/choices.ts';
import type { Failure as OrderedFailure } from '#abi/failures.ts';
import type { Geometry } from '#abi/geometry.ts';
import type { Label } from '#abi/operand.ts';
import { mechanismOf, type Op } from '#abi/operation.ts';
import type { Pause } from '#abi/points.ts';
import type { Reply } from '#abi/reply.ts';
import { isAct, type ActStep, type Header, type Step } from '#abi/trace.ts';
import { fold } from '#lib/hash.ts';
import { invariant, present } from '#lib/invariant.ts';
import { stopAt, type Call, type Stopper } from '#impl/execution.ts';
import type { Machine } from '#impl/machine.ts';
import { emptyMachine } from '#model/machine.ts';
import type { State } from '#model/state.ts';
import { bootCalls, booted, type Booted } from './boot.ts';
import { afterUnlock } from './waiting.ts';
import { Candidates } from './candidates.ts';
import type { Logs } from './closure.ts';
import { Court, type Moment } from './court.ts';
import { digestState } from './digest.ts';
import { alwaysLaws } from './laws.ts';
import type { Failure, Problem } from './law.ts';
import { lostToNobody, refused, thrown } from './problems.ts';
import { frameIn, resolvedIn } from './named-frames.ts';
import { numbersIn } from './resolve.ts';
import { semanticHash } from './semantic.ts';
import { isBusy, type Flight } from './flight.ts';
import { DEFAULTS, type Settings } from './settings.ts';
import type { Subject } from './subject.ts';
import type { Returned } from './view.ts';

/** What happened to a step. skipped: its vCPU is busy, three operations are in flight, or nothing is to be resumed. */
export interface StepResult {
  readonly kind: 'returned' | 'paused' | 'skipped' | 'failed';
  readonly reply?: Reply;
  readonly op?: Op<'concrete'>;
}

/** A quiescent moment that a run can be put back to. */
export interface Checkpoint {
  readonly words: Int32Array;
  readonly state: State;
  readonly replies: ReadonlyMap<Label, Reply>;
  readonly operations: number;
  readonly step: number;
}

const NO_LOGS: Logs = new Map();
const NO_FLIGHTS: readonly Flight[] = [];
const NO_FAILURES: readonly OrderedFailure[] = [];

/** Labels of boot calls lie below every label of a trace. */
const BOOT_LABEL = -1;

export class Lockstep {
  readonly geometry: Geometry;
  readonly header: Header;
  readonly machine: Machine;
  /** Completed operations; boot does not count. */
  operations = 0;
  readonly #settings: Settings;
  readonly #flights = new Map<Label, Flight>();
  readonly #court: Court;
  readonly #semantic = new Set<number>();
  #candidates: Candidates;
  #replies = new Map<Label, Reply>();
  /** Operations that have run on since the candidates were narrowed last. */
  readonly #moved = new Set<Label>();
  /** Whether the run was given up: too many orders of the operations in flight to follow. */
  abandoned = false;
  #step = 0;
  readonly #booted: Booted;
  /** Writes of the machine up to the end of booting. */
  readonly #begun: number;

  constructor(of: { subject: Subject; header: Header; settings?: Partial<Settings> }) {
    this.header = of.header;
    this.#settings = { ...DEFAULTS, ...of.settings };
    const known = booted(of.subject, of.header);
    this.#booted = known;
    const { idle } = known;
    known.idle = undefined;
    this.machine = idle ?? of.subject.create(of.header);
    this.geometry = this.machine.geometry;
    const state = known.boot?.state ?? emptyMachine(of.header);
    if (known.boot !== undefined && idle === undefined) this.machine.arena.change(known.boot.changes);
    this.#candidates = new Candidates(state);
    this.#court = new Court(this.machine, state, this.#settings);
    if (known.boot === undefined) this.#boot(known);
    else for (const mark of known.boot.marks) this.#court.marks.add(mark);
    this.#begun = this.machine.arena.log.count;
  }

  /** The first broken law; after it nothing happens any more. */
  get failure(): Failure | undefined {
    return this.#court.failure;
  }

  /** One candidate of the model, for generation. */
  get state(): State {
    return present(this.#candidates.list[0], 'there is always a candidate').state;
  }

  /** Paused operations in starting order, and before what they stand. */
  get flights(): readonly Omit<Flight, 'execution' | 'before'>[] {
    return this.#flights.size === 0 ? NO_FLIGHTS : [...this.#flights.values()];
  }

  /** What `sometimes` laws look for. */
  get marks(): ReadonlySet<string> {
    return this.#court.marks.seen;
  }

  /** Hashes of the semantic states seen. */
  get semantic(): ReadonlySet<number> {
    return this.#semantic;
  }

  replyOf(label: Label): Reply | undefined {
    return this.#replies.get(label);
  }

  /** The index-th number that the reply to `label` handed out. */
  handedOut(label: Label, index: number): number | undefined {
    const answer = this.#replies.get(label);
    return answer && numbersIn(answer)[index];
  }

  /** Takes one step of a trace. */
  apply(step: Step): StepResult {
    invariant(this.#booted.idle !== this.machine, 'a run that is closed takes no more steps');
    if (this.failure !== undefined) return { kind: 'failed' };
    if (this.abandoned) return { kind: 'skipped' };
    const result = isAct(step) ? this.#act(step) : this.#resume(step.resume, step.pause);
    this.#step += 1;
    return this.failure === undefined ? result : { ...result, kind: 'failed' };
  }

  /** Lets paused operations run on in starting order, then compares everything. */
  finish(): void {
    // A map may lose entries while it is visited.
    for (const flight of this.#flights.values())
      if (this.failure === undefined && !this.abandoned) this.#run(flight, undefined);
    if (this.failure === undefined && !this.abandoned) this.#court.audit(this.#moment());
  }

  /** The run is over, and its machine free for the next one with the same header. Nothing may be asked of the run but what it left. */
  close(): void {
    invariant(this.#booted.idle !== this.machine, 'a run is closed once');
    if (this.#booted.boot !== undefined && this.machine.rewind(this.#begun)) this.#booted.idle = this.machine;
  }

  /** Hash of both sides; equal runs have equal digests. */
  digest(): number {
    return fold(this.machine.arena.hash(), digestState(this.state));
  }

  /** Only when quiescent and unbroken. */
  checkpoint(): Checkpoint {
    invariant(this.#flights.size === 0, 'a checkpoint is taken when nothing is in flight');
    return {
      words: this.machine.arena.snapshot(),
      state: this.state,
      replies: new Map(this.#replies),
      operations: this.operations,
      step: this.#step,
    };
  }

  restore(point: Checkpoint): void {
    this.machine.arena.restore(point.words);
    this.machine.inFlight.fill(undefined);
    this.#flights.clear();
    this.#candidates = new Candidates(point.state);
    this.#court.reset(point.state);
    this.#replies = new Map(point.replies);
    this.operations = point.operations;
    this.#step = point.step;
    this.abandoned = false;
    this.#moved.clear();
  }

  /** Brings the header's domains into being. What holds under all laws holds under fewer, and is remembered. */
  #boot(known: Booted): void {
    const { arena } = this.machine;
    for (const call of bootCalls(this.geometry, this.header, (frame) => frameIn(this.state, frame)))
      if (this.failure === undefined) this.#run(this.#start(BOOT_LABEL, call), undefined);
    if (this.failure === undefined) this.#court.judge(this.#moment());
    if (this.failure !== undefined || this.#settings.laws.length < alwaysLaws.length || !arena.log.reaches(0)) return;
    known.boot = { changes: arena.changes(), state: this.state, marks: [...this.marks] };
  }

  #act(step: ActStep): StepResult {
    if (isBusy(this.#flights.values(), step.agent)) return { kind: 'skipped' };
    if (this.#flights.size === this.machine.inFlight.length) return { kind: 'skipped' };
    const op = resolvedIn(this.state, step, (label) => this.replyOf(label));
    const { agent, failures, preempt } = step;
    const call: Call = {
      agent,
      op,
      ...(failures === undefined ? {} : { failures }),
      ...(preempt === undefined ? {} : { preempt }),
    };
    return this.#run(this.#start(step.label, call), step.pause);
  }

  #resume(label: Label, pause: Pause | undefined): StepResult {
    const flight = this.#flights.get(label);
    if (flight === undefined) return { kind: 'skipped' };
    flight.isResumed = true;
    return this.#run(flight, pause);
  }

  #start(label: Label, call: Call): Flight {
    const execution = this.machine.start(call);
    const flight: Flight = {
      label,
      agent: call.agent,
      op: call.op,
      execution,
      before: this.state,
      alone: this.#flights.size === 0,
      isResumed: false,
      at: { class: 'load', object: 'domain' },
    };
    for (const other of this.#flights.values()) other.alone = false;
    this.#flights.set(label, flight);
    this.#candidates.start({ label, agent: call.agent, op: call.op, failures: call.failures ?? NO_FAILURES });
    return flight;
  }

  #run(flight: Flight, pause: Pause | undefined): StepResult {
    const stop = pause && stopAt(this.machine.port, pause);
    const { op } = flight;
    for (;;) {
      const outcome = this.#advance(flight, stop);
      if (outcome === 'failed') return { kind: 'failed', op };
      if (outcome === 'paused') return { kind: 'paused', op };
      if (outcome === 'done')
        return { kind: 'returned', op, reply: present(flight.execution.reply, 'it has returned') };
      if (!this.#unblock(outcome, [flight.execution.slot])) return { kind: 'failed', op };
    }
  }

  /** Runs the execution on; the slot it waits for if it is blocked. */
  #advance(flight: Flight, stop: Stopper | undefined, isAside = false): 'failed' | 'paused' | 'done' | number {
    const { port } = this.machine;
    const { execution } = flight;
    // On real tables one operation can be thousands of acts; tiny ones show the same.
    const isFine = this.geometry.name === 'tiny' && (flight.isResumed || flight.label % this.#settings.fineEvery === 0);
    // Who made way, or waits now, has not been looked at since: laws that judge every act must not see it where it was.
    if (isFine) this.#narrowMoved(flight.label);
    const problem = this.#guarded(flight, () => execution.run(isFine ? this.#finely(flight.label, stop) : stop));
    if (this.failure !== undefined) return 'failed';
    if (problem !== undefined) return this.#court.accuse(this.#moment(), problem) ? 'done' : 'failed';
    const { outcome } = execution;
    this.#moved.add(flight.label);
    if (outcome.kind === 'blocked') return outcome.slot;
    if (outcome.kind === 'paused') flight.at = { class: port.pointClass, object: port.pointObject };
    // While it only makes way for another nobody looks; who waited is looked at next.
    if (isAside && outcome.kind === 'paused') return 'paused';
    this.#narrowMoved(flight.label);
    if (outcome.kind === 'done') return this.#complete(flight, outcome.reply) ? 'done' : 'failed';
    this.#court.marks.paused(flight);
    this.#court.narrow(flight.label, this.#moment());
    return this.#court.judge(this.#moment()) ? 'paused' : 'failed';
  }

  /** Looks how far those have come who have run on, apart from `running`. */
  #narrowMoved(running: Label): void {
    for (const label of this.#moved) if (label !== running) this.#court.narrow(label, this.#moment());
    this.#moved.clear();
  }

  /** Judges at every act on the way. */
  #finely(label: Label, stop: Stopper | undefined): Stopper {
    return () => (this.#court.isStirred && !this.#court.judge(this.#moment({ act: label }))) || stop?.() === true;
  }

  /** The one who is waited for goes on until it has given a lock back. False: a law broke, or the waiting goes in a circle. */
  #unblock(slot: number, chain: readonly number[]): boolean {
    const holder = [...this.#flights.values()].find(({ execution }) => execution.slot === slot);
    if (holder === undefined || chain.includes(slot)) {
      const sentence =
        holder === undefined ? 'a lock is held by nobody who runs' : 'operations wait for each other in a circle';
      const mechanism = mechanismOf((holder ?? this.#flightIn(chain[0])).op.kind);
      return this.#court.accuse(this.#moment(), { invariant: 'LOCK', mechanism, field: 'lock', sentence });
    }
    const outcome = this.#advance(holder, afterUnlock(this.machine.port, holder.at), true);
    if (outcome === 'failed') return false;
    return typeof outcome === 'number' ? this.#unblock(outcome, [...chain, slot]) : true;
  }

  #flightIn(slot: number | undefined): Flight {
    return present(
      [...this.#flights.values()].find(({ execution }) => execution.slot === slot),
      'who waits is in flight',
    );
  }

  /** Runs machine code; what it throws is a problem: a wild access (XEN) or a failed assertion (CRASH). */
  #guarded(flight: Flight, run: () => unknown): Problem | undefined {
    try {
      run();
      return undefined;
    } catch (error) {
      return thrown(error, flight.op);
    }
  }

  #logs(): Logs {
    if (this.#flights.size === 0) return NO_LOGS;
    const logs = new Map<Label, readonly Logged[]>();
    for (const { label, execution } of this.#flights.values()) logs.set(label, execution.log);
    return logs;
  }

  #moment({ returned, act, problems = [] }: Partial<Moment> = {}): Moment {
    return { candidates: this.#candidates, logs: this.#logs(), step: this.#step, returned, act, problems };
  }

  #complete(flight: Flight, reply: Reply): boolean {
    const { label, agent, op, execution, before, alone } = flight;
    const answer = this.#candidates.complete(label, this.#logs(), reply);
    this.machine.finish(execution);
    this.#flights.delete(label);
    this.#replies.set(label, reply);
    if (label !== BOOT_LABEL) this.operations += 1;
    const isRefused = 'reason' in answer;
    if (isRefused && this.#candidates.overflowed) {
      this.abandoned = true;
      return true;
    }
    const expected = answer.expected;
    const returned: Returned = {
      agent,
      op,
      reply,
      expected,
      log: execution.log,
      failures: execution.call.failures ?? NO_FAILURES,
      worst: execution.worst,
      before,
      alone,
    };
    if (label !== BOOT_LABEL) {
      this.#settings.onReturn(returned, this.state);
      this.#semantic.add(semanticHash(returned, this.state));
    }
    this.#court.marks.returned(returned, { reach: this.#court.reach, flights: this.flights });
    // What booting came to is judged once, at its end.
    if (label === BOOT_LABEL && !isRefused) return true;
    const problems = isRefused ? [refused(answer, returned)] : lostToNobody(returned);
    if (!this.#court.judge(this.#moment({ returned, problems }))) return false;
    if (this.#candidates.overflowed) {
      this.abandoned = true;
      return true;
    }
    const isDue = this.#flights.size === 0 && this.operations > 0 && this.operations % this.#settings.auditEvery === 0;
    return isDue ? this.#court.audit(this.#moment()) : true;
  }
}
