// Ways of making a trace simpler other than removing steps: whole objects gone, a plainer machine, no schedule, names merged,
// arguments simplified. Each is a list of candidates in a fixed order; `isSmaller` is the measure by which every one of them
// must shrink, so that any search that only moves to candidates ends.
// A first reader may skip the edits of headers.

import { agentKinds } from '#abi/agents.ts';
import type { DomId, GrantRef, PcpuId, VcpuId } from '#abi/address.ts';
import type { GfnOperand } from '#abi/operand.ts';
import { measure, simplerArguments } from '#abi/simpler.ts';
import { isAct, type DomainSetup, type Header, type Policies, type Step, type Trace } from '#abi/trace.ts';
import { vendors } from '#abi/vendor.ts';
import { embedInTiny, pathsIn, renameAgent, renameOp, renameSteps, renameTrace, type Renaming } from './rename.ts';

const sum = (numbers: readonly number[]): number => numbers.reduce((total, one) => total + one, 0);

/** The plainest policies. */
const PLAIN: Policies = { flush: 'eager', scrub: 'always', scrubAt: 'free', superpages: false };

const policyNames = Object.keys(PLAIN) as readonly (keyof Policies)[];

const pathSize = (path: readonly number[] | undefined): number =>
  path === undefined ? 0 : 1 + path.length + sum(path);

function setupSize(setup: DomainSetup): number {
  const ram = setup.ram.map(({ path, order }) => 2 + order + pathSize(path));
  const placed = setup.on.filter((pcpu) => pcpu >= 0).length;
  const paged = setup.rootAt === undefined ? 0 : 20 + pathSize(setup.rootAt);
  return (
    100 + setup.id + 10 * setup.vcpus + setup.grantFrames + sum(ram) + 2 * pathSize(setup.grantsAt) + paged + placed
  );
}

function headerSize(header: Header): number {
  const policies = policyNames.filter((name) => header[name] !== PLAIN[name]).length;
  const machine = (header.geometry === 'x86' ? 100_000 : 0) + header.pcpus + 10 * header.iommus.length;
  const vendor = header.vendor === undefined ? 0 : 1 + vendors.indexOf(header.vendor);
  const optional = (header.pvPcids === undefined ? 0 : 1) + (header.pvLinear === undefined ? 0 : 1);
  return machine + vendor + optional + policies + Object.keys(header.width).length + sum(header.domains.map(setupSize));
}

function scheduleSize(step: Step): number {
  const pause = step.pause === undefined ? 0 : 10 + step.pause.nth;
  if (!isAct(step)) return 1 + pause;
  const failures = sum((step.failures ?? []).map(({ nth }) => 10 + nth));
  return pause + failures + (step.preempt === undefined ? 0 : 10 + step.preempt);
}

function argumentsSize(step: Step): number {
  if (!isAct(step)) return 0;
  const { agent } = step;
  const place = agent.kind === 'vcpu' ? agent.domain + agent.vcpu : 0;
  return measure(step.op) + agentKinds.indexOf(agent.kind) + place;
}

/** How big a trace is: steps, then the machine, then the schedule, then arguments. */
export const sizeOf = (trace: Trace): readonly [number, number, number, number] => [
  trace.steps.length,
  headerSize(trace.header),
  sum(trace.steps.map(scheduleSize)),
  sum(trace.steps.map(argumentsSize)),
];

/** Whether `a` is strictly smaller than `b`: the measure of all shrinking. */
export function isSmaller(a: Trace, b: Trace): boolean {
  const sizes = sizeOf(b);
  for (const [i, size] of sizeOf(a).entries()) {
    const other = sizes[i] ?? 0;
    if (size !== other) return size < other;
  }
  return false;
}

const mentions = (step: Step, id: DomId): boolean => {
  if (!isAct(step)) return false;
  let found = false;
  const domain = (one: DomId): DomId => {
    found ||= one === id;
    return one;
  };
  renameAgent(step.agent, { domain });
  renameOp(step.op, { domain });
  return found;
};

const without = (trace: Trace, isGone: (step: Step) => boolean): Trace => {
  const gone = new Set(trace.steps.filter(isGone).map(({ label }) => label));
  const isLeft = (step: Step): boolean => !gone.has(step.label) && (isAct(step) || !gone.has(step.resume));
  return { ...trace, steps: trace.steps.filter(isLeft) };
};

/** Whole domains, vCPUs and kinds of operations gone. */
export function* withoutObjects(trace: Trace): Iterable<Trace> {
  const { header, steps } = trace;
  for (const { id } of header.domains.toReversed()) {
    const rest = { ...trace, header: { ...header, domains: header.domains.filter((setup) => setup.id !== id) } };
    yield without(rest, (step) => mentions(step, id));
    yield rest;
  }
  const acts = steps.filter(isAct);
  for (const kind of new Set(acts.map(({ op }) => op.kind)))
    yield without(trace, (step) => isAct(step) && step.op.kind === kind);
  for (const agent of new Set(acts.map((act) => JSON.stringify(act.agent))))
    yield without(trace, (step) => isAct(step) && JSON.stringify(step.agent) === agent);
}

function* simplerRam(ram: DomainSetup['ram']): Iterable<DomainSetup['ram']> {
  for (let chunk = ram.length; chunk >= 1; chunk = Math.floor(chunk / 2))
    for (let from = 0; from < ram.length; from += chunk) yield ram.toSpliced(from, chunk);
  for (const [i, extent] of ram.entries()) if (extent.order > 0) yield ram.with(i, { ...extent, order: 0 });
}

function* simplerSetups(setup: DomainSetup): Iterable<DomainSetup> {
  for (const ram of simplerRam(setup.ram)) yield { ...setup, ram };
  const { grantsAt, ...ungranted } = setup;
  if (grantsAt !== undefined) yield ungranted;
  const { rootAt, ...unpaged } = setup;
  if (rootAt !== undefined) yield unpaged;
  if (setup.grantFrames > 0) yield { ...setup, grantFrames: setup.grantFrames - 1 };
  if (setup.vcpus > 1) yield { ...setup, vcpus: setup.vcpus - 1, on: setup.on.slice(0, setup.vcpus - 1) };
  for (const [vcpu, pcpu] of setup.on.entries()) if (pcpu >= 0) yield { ...setup, on: setup.on.with(vcpu, -1) };
}

/** A plainer machine. */
export function* simplerHeaders(trace: Trace): Iterable<Trace> {
  const { header } = trace;
  const on = (change: Partial<Header>): Trace => ({ ...trace, header: { ...header, ...change } });
  if (header.geometry === 'x86') {
    yield embedInTiny(trace, true);
    yield embedInTiny(trace, false);
  }
  const { vendor, ...rest } = header;
  if (vendor !== undefined) yield { ...trace, header: rest };
  const { pvPcids, ...withoutPcids } = header;
  if (pvPcids !== undefined) yield { ...trace, header: withoutPcids };
  const { pvLinear, ...withoutLinear } = header;
  if (pvLinear !== undefined) yield { ...trace, header: withoutLinear };
  yield on({ ...PLAIN, width: {} });
  for (const name of policyNames) yield on({ [name]: PLAIN[name] });
  yield on({ width: {} });
  for (const name of Object.keys(header.width))
    yield on({ width: Object.fromEntries(Object.entries(header.width).filter(([other]) => other !== name)) });
  if (header.iommus.length > 0) yield on({ iommus: [] });
  if (header.pcpus > 1) yield on({ pcpus: header.pcpus - 1 });
  for (const [i, setup] of header.domains.entries())
    for (const simpler of simplerSetups(setup)) yield on({ domains: header.domains.with(i, simpler) });
}

const withStep = (trace: Trace, at: number, step: Step): Trace => ({ ...trace, steps: trace.steps.with(at, step) });

function* simplerSchedule(step: Step): Iterable<Step> {
  const { pause, ...running } = step;
  if (pause !== undefined) {
    yield running;
    for (let nth = 1; nth < Math.min(pause.nth, 4); nth += 1) yield { ...step, pause: { ...pause, nth } };
  }
  if (!isAct(step)) return;
  const { failures, ...lucky } = step;
  if (failures !== undefined) {
    yield lucky;
    for (const [i, failure] of failures.entries())
      if (failure.nth > 1) yield { ...step, failures: failures.with(i, { ...failure, nth: 1 }) };
  }
  const { preempt, ...whole } = step;
  if (preempt !== undefined) yield whole;
  if (preempt !== undefined && preempt > 1) yield { ...step, preempt: preempt - 1 };
}

/** No pauses, failures and preemptions, or earlier ones, in the step `at`. */
export function* simplerSteps(trace: Trace, at: number): Iterable<Trace> {
  const step = trace.steps[at];
  if (step !== undefined) for (const simpler of simplerSchedule(step)) yield withStep(trace, at, simpler);
}

/** Simpler arguments of the step `at`, or a plainer agent. */
export function* simplerOps(trace: Trace, at: number): Iterable<Trace> {
  const step = trace.steps[at];
  if (step === undefined || !isAct(step)) return;
  for (const op of simplerArguments(step.op)) yield withStep(trace, at, { ...step, op });
}

/** Values of each name that occur, descending. */
function namesIn(trace: Trace): { domains: DomId[]; vcpus: VcpuId[]; pcpus: PcpuId[]; refs: GrantRef[] } {
  const domains = new Set<DomId>();
  const vcpus = new Set<VcpuId>();
  const pcpus = new Set<PcpuId>();
  const refs = new Set<GrantRef>();
  const note =
    <T>(into: Set<T>) =>
    (one: T): T => {
      into.add(one);
      return one;
    };
  renameTrace(trace, { domain: note(domains), vcpu: note(vcpus), pcpu: note(pcpus), ref: note(refs) });
  const down = <T extends number>(set: Set<T>): T[] => [...set].toSorted((a, b) => b - a);
  return { domains: down(domains), vcpus: down(vcpus), pcpus: down(pcpus), refs: down(refs) };
}

/** Every pair of a value and a smaller one in use, and one less than the smallest use of it. */
function* smallerPairs<T extends number>(descending: readonly T[]): Iterable<readonly [T, T]> {
  for (const from of descending)
    for (const to of [...descending.toReversed(), (from - 1) as T]) if (to < from && to >= 0) yield [from, to];
}

const replacing =
  <T>(from: T, to: T) =>
  (one: T): T =>
    one === from ? to : one;

const weightOf = (path: readonly number[]): number => pathSize(path);

function* mergedGfns(trace: Trace): Iterable<Trace> {
  const paths = pathsIn(trace).toSorted((a, b) => weightOf(b) - weightOf(a));
  for (const from of paths)
    for (const to of paths.toReversed()) {
      if (weightOf(to) >= weightOf(from)) continue;
      const name = from.join('.');
      const gfn = (one: GfnOperand): GfnOperand => ('path' in one && one.path.join('.') === name ? { path: to } : one);
      yield renameTrace(trace, { gfn });
      yield renameSteps(trace, { gfn });
    }
}

/** A name replaced by a smaller one in use, everywhere. */
export function* mergedNames(trace: Trace): Iterable<Trace> {
  const names = namesIn(trace);
  const renamings: Renaming[] = [
    ...[...smallerPairs(names.domains)].map(([from, to]): Renaming => ({ domain: replacing(from, to) })),
    ...[...smallerPairs(names.vcpus)].map(([from, to]): Renaming => ({ vcpu: replacing(from, to) })),
    ...[...smallerPairs(names.pcpus)].map(([from, to]): Renaming => ({ pcpu: replacing(from, to) })),
    ...[...smallerPairs(names.refs)].map(([from, to]): Renaming => ({ ref: replacing(from, to) })),
  ];
  for (const renaming of renamings) yield renameTrace(trace, renaming);
  yield* mergedGfns(trace);
}
