// Generation fused to execution: the next step is chosen by looking at the live model, applied at once, and recorded, so one
// run of the model serves generation and checking. How a run generates is its profile (profile.ts) and its schedule
// (schedule.ts). A first reader may begin at `drive`.

import { callerOf, type Agent } from '#abi/agents.ts';
import type { DomId, VcpuId } from '#abi/address.ts';
import { fieldsOf } from '#abi/fields.ts';
import { tableEntries } from '#abi/geometry.ts';
import { UNRESTRICTED } from '#abi/hap.ts';
import { mechanismOf, type Mechanism, type Op, type OpKind } from '#abi/operation.ts';
import type { Label } from '#abi/operand.ts';
import type { Reply } from '#abi/reply.ts';
import { isAct, type ActStep, type Header, type Step, type Trace } from '#abi/trace.ts';
import { Prng } from '#lib/prng.ts';
import { linearContext } from '#model/paging/context.ts';
import { isOnDemand } from '#model/pod.ts';
import type { Entry, State } from '#model/state.ts';
import { absurdOp } from './absurd.ts';
import { isBuilding, urgent } from '../paging/register-generators.ts';
import { Gen, type Mood } from './decisions.ts';
import { focusOn } from './focus.ts';
import { headerOf } from './headers.ts';
import { domainsNamed } from './marks.ts';
import type { Leaves } from './points.ts';
import { needs, profileOf, type Profile } from './profile.ts';
import { Schedule } from './schedule.ts';

/** Where steps come from: two seeds and a number of completed operations, or a trace as it stands. */
export type Source = Seeded | Fixed;

/** `recorded` is left by the run: what was done, and the index of the failing step. */
interface Recorded {
  recorded?: Trace;
  failedAt?: number;
}

export interface Seeded extends Recorded {
  readonly kind: 'seeds';
  readonly header: number;
  readonly steps: number;
  readonly length: number;
  /** Draws all kinds of operations with equal weights, to measure what the settings bring. */
  readonly isUniform?: boolean;
}

export interface Fixed extends Recorded {
  readonly kind: 'trace';
  readonly trace: Trace;
}

/** The run that is driven: what `drive` needs of a lockstep run. */
export interface Driven {
  readonly header: Header;
  readonly state: State;
  readonly operations: number;
  readonly failure: { readonly step: number } | undefined;
  readonly flights: readonly { readonly label: Label; readonly agent: Agent; readonly op: Op<'concrete'> }[];
  apply: (step: Step) => { readonly kind: string; readonly reply?: Reply };
  finish: () => void;
  handedOut: (label: Label, index: number) => number | undefined;
}

const NO_MECHANISMS: ReadonlySet<Mechanism> = new Set();

type AnyOp = Op<'symbolic'>;

/** The header of a source. */
export const headerFor = (source: Source): Header =>
  source.kind === 'trace' ? source.trace.header : headerOf(new Prng(source.header));

/** The operation taken up again where it was preempted. */
const continued = ({ label, op }: ActStep): AnyOp => ('start' in op ? { ...op, start: { step: label, index: 0 } } : op);

/** Whether operations of this kind are plain accesses. */
const isAccess = (kind: OpKind): boolean => 'via' in fieldsOf(kind);

/** Whether operations of this kind answer in memory that the caller names. */
const isAnswering = (kind: OpKind): boolean => Object.values(fieldsOf(kind)).some(({ type }) => type === 'buffer');

/** A kind of operation that a run uses, and how often. */
interface Weighted {
  readonly kind: OpKind;
  readonly weight: number;
  readonly isPlain: boolean;
  readonly isAnswering: boolean;
}

/** Whether using what an entry says may have the hypervisor decide. */
const isGuarded = (entry: Entry | undefined): boolean =>
  entry !== undefined && (entry.type === 'ramLogDirty' || entry.access !== UNRESTRICTED);

/** One generated run. */
class Driver {
  readonly #run: Driven;
  readonly #prng: Prng;
  readonly #gen: Gen;
  readonly #profile: Profile;
  readonly #schedule: Schedule;
  readonly #kinds: readonly Weighted[];
  readonly #steps: Step[] = [];
  /** Preempted calls that nobody has taken up yet. */
  readonly #pending: { agent: Agent; op: AnyOp }[] = [];
  /** Completed plain accesses. */
  #plain = 0;

  constructor(run: Driven, source: Seeded) {
    this.#run = run;
    this.#prng = new Prng(source.steps);
    this.#profile = profileOf(this.#prng.fork(), source.isUniform);
    this.#kinds = [...this.#profile.weights]
      .filter(([, weight]) => weight > 0)
      .map(([kind, weight]) => ({ kind, weight, isPlain: isAccess(kind), isAnswering: isAnswering(kind) }));
    this.#schedule = new Schedule(this.#prng.fork());
    const { weights } = this.#profile;
    // Who cannot load roots or turn controls builds tables in vain.
    const mayPage = weights.get('paging.setRoot') !== 0 && weights.get('paging.setControl') !== 0;
    this.#gen = new Gen({ prng: this.#prng.fork(), state: run.state, pcpus: run.header.pcpus, mayPage });
  }

  /** Steps until `length` operations are completed, a law is broken, or too many steps have done nothing. */
  drive(length: number): Step[] {
    const run = this.#run;
    while (run.failure === undefined && run.operations < length && this.#steps.length < 3 * length) this.#step();
    return this.#steps;
  }

  #step(): void {
    const label = this.#steps.length;
    const resumed = this.#schedule.toResume(this.#run.flights, this.#run.state);
    if (resumed !== undefined) {
      this.#apply({ label, ...resumed });
      return;
    }
    const { agent, op } = this.#choose();
    const paused = this.#run.flights.length;
    this.#apply({
      label,
      agent,
      op,
      ...this.#schedule.onStart(op, {
        paused,
        contested: this.#isContested(agent, op),
        leaves: this.#leaves(agent, op),
      }),
    });
  }

  /** What an access may leave its guest for; with paging on its gfn is not known beforehand. */
  #leaves(agent: Agent, op: AnyOp): Leaves {
    const { state } = this.#run;
    const domain = state.domains.get(callerOf(agent) ?? -1);
    if (domain === undefined) return undefined;
    if (domain.kind === 'pv') {
      // A paravirtual guest's root is looked at by the hypervisor.
      const isWrite = 'via' in op && 'value' in op && op.as !== 'user';
      return op.kind === 'paging.setRoot' || (isWrite && domain.writesTables) ? 'tables' : undefined;
    }
    if (!('via' in op) || !('path' in op.gfn)) return undefined;
    const isLinear = linearContext(state, agent) !== undefined;
    const size = tableEntries(state.geometry);
    const gfn = op.gfn.path.reduce((sum, index) => sum * size + index, 0);
    const leaves = isLinear
      ? domain.pod.entries.length > 0 || domain.log.on || domain.watch.listens
      : isOnDemand(domain, gfn) || isGuarded(domain.p2m.get(gfn));
    return leaves ? 'memory' : undefined;
  }

  /** Whether a vCPU that is free to act, not the caller's own, runs in a domain that the operation is about. */
  #isContested(agent: Agent, op: AnyOp): boolean {
    const named = domainsNamed(agent, op);
    return this.#gen
      .callers()
      .some(
        ({ domain, vcpu }) =>
          named.has(domain) && !(agent.kind === 'vcpu' && agent.domain === domain && agent.vcpu === vcpu),
      );
  }

  #apply(step: Step): void {
    this.#steps.push(step);
    const { kind, reply } = this.#run.apply(step);
    if (kind === 'returned' && step.pause !== undefined) this.#schedule.missed();
    if (kind !== 'returned' || reply === undefined) return;
    const started = isAct(step) ? step : this.#steps[step.resume];
    if (started === undefined || !isAct(started)) return;
    if (isAccess(started.op.kind)) this.#plain += 1;
    if (started.op.kind === 'grants.map') this.#noteHandles(started);
    if (reply.status === 'preempted') this.#pending.push({ agent: started.agent, op: continued(started) });
  }

  #noteHandles({ label, agent }: ActStep): void {
    const mapper = callerOf(agent);
    if (mapper === undefined) return;
    for (let index = 0; ; index += 1) {
      const handle = this.#run.handedOut(label, index);
      if (handle === undefined || index > 16) return;
      this.#gen.handed.push({ step: label, index, handle, mapper });
    }
  }

  #choose(): { agent: Agent; op: AnyOp } {
    const gen = this.#gen;
    gen.begin(this.#mood(), this.#run.state);
    const { flights } = this.#run;
    gen.busy = flights.map(({ agent }) => agent);
    gen.focus = focusOn(flights, gen.state);
    if (this.#pending.length > 0 && this.#prng.chance(2, 3)) {
      const [taken] = this.#pending.splice(this.#prng.below(this.#pending.length), 1);
      if (taken !== undefined) return taken;
    }
    gen.probes = this.#mayProbe() && this.#prng.chance(1, 2);
    if (gen.probes && gen.mood === 'absurd') gen.mood = 'legal';
    const kind = this.#kind();
    if (gen.mood === 'absurd') return { agent: this.#someone(kind), op: absurdOp(this.#prng, kind, this.#labels()) };
    const op = this.#profile.generators[kind](gen);
    return { agent: gen.bends() && gen.share(40) ? this.#someone(kind) : gen.agent, op };
  }

  /** Steps that handed something out lately. */
  #labels(): Label[] {
    return this.#gen.handed.slice(-8).map(({ step }) => step);
  }

  #mood(): Mood {
    const { legal, near } = this.#profile.temper;
    const drawn = this.#prng.below(100);
    if (drawn < legal) return 'legal';
    return drawn < legal + near ? 'near' : 'absurd';
  }

  /**
   * A kind by weight, and unless the step is absurd one that is possible now. Plain accesses stay under two in five; they
   * come more often while some processor may remember too much, and some are kept for probing what stands paused.
   */
  #kind(): OpKind {
    const isStale = this.#gen.state.domains.some(({ stale }) => stale.length > 0);
    const { probes } = this.#gen;
    // While entries of guests' tables have changed lately, whatever walks them comes more often: accesses and calls alike.
    const walkFactor = this.#gen.changers().length > 0 ? 2 : 1;
    const hasRoom = this.#hasRoom(isStale || walkFactor > 1 ? 36 : 30);
    const plainFactor = probes ? 1 : !hasRoom ? 0 : isStale ? 5 : walkFactor;
    // A guest that is to use paging builds its tables before anything else.
    const builds = !probes && isBuilding(this.#gen) && this.#hasRoom(38);
    const register = probes ? undefined : urgent(this.#gen);
    // What stands paused is rather met by its own: operations on memory are most in any case.
    const met = this.#mechanismsInFlight();
    const weights = this.#kinds.map(({ kind, weight: usual, isPlain, isAnswering: answers }) => {
      const weight = !isPlain && met.has(mechanismOf(kind)) ? usual * 4 : usual;
      if (builds && kind === 'paging.write') return weight * 6;
      if (kind === register) return weight * 10;
      if (isPlain) return weight * plainFactor;
      // What processors pick up of their own accord while an operation stands paused is a probe, too.
      if (probes) return kind === 'tlb.fill' ? weight : 0;
      return answers ? weight * walkFactor : weight;
    });
    for (;;) {
      const at = this.#drawn(weights);
      if (at === undefined) return 'memory.reservation';
      const { kind } = this.#kinds[at] as Weighted;
      if (this.#gen.mood === 'absurd' || needs[kind]?.(this.#gen) !== false) return kind;
      weights[at] = 0;
    }
  }

  #mechanismsInFlight(): ReadonlySet<Mechanism> {
    const { flights } = this.#run;
    if (flights.length === 0) return NO_MECHANISMS;
    return new Set(flights.map(({ op }) => mechanismOf(op.kind)).filter((one) => one !== 'memory'));
  }

  /** An index by these weights; undefined: none has any. */
  #drawn(weights: readonly number[]): number | undefined {
    let total = 0;
    for (const weight of weights) total += weight;
    if (total === 0) return undefined;
    let left = this.#prng.below(total);
    return weights.findIndex((weight) => (left -= weight) < 0);
  }

  /** Whether plain accesses may be as many as so many per cent of all operations. */
  #hasRoom(percent: number): boolean {
    return 100 * (this.#plain + 1) <= percent * (this.#run.operations + 1);
  }

  /** Whether there is an operation in flight to be probed, and somebody who could do it. */
  #mayProbe(): boolean {
    const { focus } = this.#gen;
    if (this.#run.flights.length === 0 || !this.#hasRoom(40)) return false;
    if (!this.#kinds.some(({ isPlain, weight }) => isPlain && weight > 0)) return false;
    return this.#gen.callers().some(({ domain }) => focus.domains.has(domain));
  }

  /** Any agent, mostly of the kind that could make such a call. */
  #someone(kind: OpKind): Agent {
    const { domains, vcpusPerDomain } = this.#gen.geometry.capacity;
    const anyone: Agent = {
      kind: 'vcpu',
      domain: this.#prng.below(domains) as DomId,
      vcpu: this.#prng.below(vcpusPerDomain) as VcpuId,
    };
    if (this.#prng.chance(1, 4)) {
      const domain = this.#prng.below(domains) as DomId;
      const serves = this.#prng.below(domains) as DomId;
      const deviceModel: Agent = { kind: 'deviceModel', domain, serves };
      return this.#prng.pick([anyone, deviceModel, { kind: 'toolstack' }, { kind: 'fate' }, { kind: 'background' }]);
    }
    if (mechanismOf(kind) === 'tlb') return { kind: 'fate' };
    if (kind === 'memory.scrub') return { kind: 'background' };
    if (mechanismOf(kind) === 'memory' && this.#prng.chance(1, 2)) return { kind: 'toolstack' };
    this.#gen.asVcpu();
    return this.#prng.chance(1, 6) ? anyone : this.#gen.agent;
  }
}

/** Runs `source` on `run`, to its end or the first broken law; leaves the trace on the value and answers it. */
export function drive(run: Driven, source: Source): Trace {
  const steps = source.kind === 'trace' ? source.trace.steps : new Driver(run, source).drive(source.length);
  if (source.kind === 'trace') for (const step of steps) if (run.failure === undefined) run.apply(step);
  if (run.failure === undefined) run.finish();
  const trace: Trace = { header: run.header, steps };
  source.recorded = trace;
  if (run.failure !== undefined) source.failedAt = run.failure.step;
  return trace;
}
