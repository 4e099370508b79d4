// Sequences for Xen: traces on machines that suit it, drawn by the general generators. Steps are adapted to what Xen can be
// asked (statuses of grants stay in the calls, nothing is interleaved, nothing fails by fate), or left out with a reason;
// what is left runs in lockstep on model and implementation, and every reply and state is kept for the comparison.

import type { DomId } from '#abi/address.ts';
import type { Agent } from '#abi/agents.ts';
import { geometries } from '#abi/geometry.ts';
import type { Op } from '#abi/operation.ts';
import type { Reply } from '#abi/reply.ts';
import {
  type ActStep,
  type DomainSetup,
  type Header,
  isAct,
  type Step,
  type Trace,
  TRACE_VERSION,
} from '#abi/trace.ts';
import { Prng } from '#lib/prng.ts';
import type { State } from '#model/state.ts';
import { type Driven, drive } from '#properties/harness/generate.ts';
import type { AlwaysLaw, Failure } from '#properties/harness/law.ts';
import { Lockstep } from '#properties/harness/lockstep.ts';
import { answersFrom, operandOfGfn, resolveOp } from '#properties/harness/resolve.ts';
import type { Returned } from '#properties/harness/view.ts';
import { clean } from '#properties/harness/subject.ts';
import { unasked } from './limits.ts';

/** One step as it was done: the operation with its numbers, what the model answers, and how it stands then. */
export interface Moment {
  readonly step: ActStep;
  readonly agent: Agent;
  readonly op: Op<'concrete'>;
  readonly reply: Reply;
  readonly state: State;
}

/** A sequence: its trace, how the machine stands at the start, and its steps. */
export interface Sequence {
  readonly trace: Trace;
  readonly boot: State;
  readonly moments: readonly Moment[];
  /** Steps left out, by reason. */
  readonly skipped: Readonly<Record<string, number>>;
  readonly failure: Failure | undefined;
}

const geometry = geometries.x86;

/** RAM from a table's beginning, across its border, or scattered; in a share of domains one superpage as well. */
function ram(prng: Prng, pages: number): { readonly ram: DomainSetup['ram']; readonly end: number } {
  const first = prng.pick([0, 0, 0, 508, 1024]);
  const small = Array.from({ length: pages }, (_, i) => ({ path: pathOf(first + i), order: 0 }));
  const isLarge = prng.chance(1, 12);
  return { ram: isLarge ? [...small, { path: pathOf(4096), order: 9 }] : small, end: first + pages };
}

function pathOf(gfn: number): readonly number[] {
  const operand = operandOfGfn(geometry, gfn);
  return 'path' in operand ? operand.path : [0];
}

function guest(prng: Prng, id: number): DomainSetup {
  const { ram: extents, end } = ram(prng, 5 + prng.below(6));
  const pages = extents.reduce((sum, { order }) => sum + 2 ** order, 0);
  return {
    id: id as DomId,
    kind: 'hvm',
    vcpus: 1,
    maxPages: prng.chance(1, 3) ? pages : pages + prng.pick([4, 8, 16]),
    poolFrames: 40,
    grantFrames: prng.pick([1, 1, 1, 2]),
    ram: extents,
    ...(prng.chance(9, 10) ? { grantsAt: pathOf(end) } : {}),
    on: [id < 3 || prng.chance(1, 2) ? id - 1 : -1],
  };
}

const control: DomainSetup = {
  id: 0 as DomId,
  kind: 'control',
  vcpus: 1,
  maxPages: 16,
  poolFrames: 8,
  grantFrames: 1,
  ram: [],
  on: [-1],
};

/** A machine like Xen's here: AMD's nested tables, freed frames erased, guests beside the control domain. */
export const machineWith = (guests: readonly DomainSetup[]): Header => ({
  version: TRACE_VERSION,
  geometry: 'x86',
  vendor: 'amd',
  width: {},
  pcpus: 3,
  iommus: [],
  flush: 'eager',
  scrub: 'always',
  scrubAt: 'free',
  superpages: true,
  domains: [control, ...guests],
});

/** Such a machine with two or three guests. */
export const headerOf = (prng: Prng): Header =>
  machineWith(Array.from({ length: 2 + prng.below(2) }, (_, i) => guest(prng, i + 1)));

/** A step that Xen can be asked: no schedule, and grant statuses where Xen puts them. */
function adapted({ label, agent, op }: ActStep): ActStep {
  const isBatch = 'results' in op;
  return { label, agent, op: isBatch ? { ...op, results: { in: 'null' } } : op };
}

/** `laws`: which judge the run. `without`: a rule that does not count. */
export interface Ways {
  readonly laws?: readonly AlwaysLaw[];
  readonly without?: string | undefined;
}

/** A lockstep run that only takes steps that Xen can be asked. */
class Run implements Driven {
  readonly #run: Lockstep;
  readonly boot: State;
  readonly flights = [];
  readonly moments: Moment[] = [];
  readonly skipped: Record<string, number> = {};
  #log: Returned['log'] = [];
  /** What comes after cannot be compared. */
  #isOver = false;

  readonly #without: string | undefined;

  constructor(header: Header, { laws = [], without }: Ways) {
    this.#without = without;
    const onReturn = ({ log }: Pick<Returned, 'log'>): void => void (this.#log = log);
    this.#run = new Lockstep({ subject: clean, header, settings: { laws, onReturn } });
    this.boot = this.#run.state;
  }

  get header(): Header {
    return this.#run.header;
  }

  get state(): State {
    return this.#run.state;
  }

  get operations(): number {
    return this.#run.operations;
  }

  get failure(): Failure | undefined {
    return this.#run.failure;
  }

  handedOut(label: number, index: number): number | undefined {
    return this.#run.handedOut(label, index);
  }

  finish(): void {
    this.#run.finish();
  }

  #skip(reason: string): { readonly kind: 'skipped' } {
    this.skipped[reason] = (this.skipped[reason] ?? 0) + 1;
    return { kind: 'skipped' };
  }

  #end(reason: string): { readonly kind: 'skipped' } {
    this.#isOver = true;
    return this.#skip(reason);
  }

  apply(given: Step): { readonly kind: string; readonly reply?: Reply } {
    if (!isAct(given) || this.#isOver) return { kind: 'skipped' };
    const step = adapted(given);
    const context = { geometry, label: step.label, ...answersFrom((label) => this.#run.replyOf(label)) };
    const concrete = resolveOp(step.op, context);
    const reason = unasked({ state: this.state, agent: step.agent, op: concrete }, this.#without);
    if (reason !== undefined) return this.#skip(reason);
    const { kind, reply } = this.#run.apply(step);
    if (kind !== 'returned' || reply === undefined) return { kind };
    if (reply.status === 'gone') return this.#skip('vCPUs that do not run');
    if (this.#log.some(({ choice }) => choice.kind === 'failed'))
      return this.#end('resources that the model has less of: the sequence ends');
    const isStopped = step.agent.kind === 'vcpu' && this.state.domains.get(step.agent.domain)?.crashed === true;
    if (isStopped) return this.#end('calls that stop their caller, who hears nothing: the sequence ends');
    this.moments.push({ step, agent: step.agent, op: concrete, reply, state: this.state });
    return { kind, reply };
  }
}

const sequenceOf = (run: Run): Sequence => ({
  trace: { header: run.header, steps: run.moments.map(({ step }) => step) },
  boot: run.boot,
  moments: run.moments,
  skipped: run.skipped,
  failure: run.failure,
});

/** A sequence of `length` operations. */
export function drawSequence(seed: number, length: number, ways: Ways = {}): Sequence {
  const prng = new Prng(seed);
  const run = new Run(headerOf(prng.fork()), ways);
  drive(run, { kind: 'seeds', header: 0, steps: prng.next(), length });
  return sequenceOf(run);
}

/** The sequence that a trace is. Steps that cannot be asked are left out. */
export function replaySequence(trace: Trace, ways: Ways = {}): Sequence {
  const run = new Run(trace.header, ways);
  drive(run, { kind: 'trace', trace });
  return sequenceOf(run);
}
