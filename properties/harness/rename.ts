// Edits of whole traces that shrinking and certification share: mapping every operand and agent, and embedding a trace of the
// x86 geometry into the tiny one. gfns are paths of table indices, so an embedding is a renumbering per level.
// A first reader may skip `embedInTiny`.

import type { Agent } from '#abi/agents.ts';
import { DOMID_CONTROL, type DomId, type GrantRef, type PcpuId, type VcpuId } from '#abi/address.ts';
import { mapOperands, type Operand } from '#abi/fields.ts';
import { geometries } from '#abi/geometry.ts';
import type { Buffer, Extents, FrameOperand, GfnOperand, Literal } from '#abi/operand.ts';
import type { Op } from '#abi/operation.ts';
import { isAct, type DomainSetup, type Header, type Step, type Trace } from '#abi/trace.ts';

/** What to make of each name in a trace; absent: nothing changes. */
export interface Renaming {
  readonly domain?: (id: DomId) => DomId;
  readonly vcpu?: (vcpu: VcpuId) => VcpuId;
  readonly pcpu?: (pcpu: PcpuId) => PcpuId;
  readonly ref?: (ref: GrantRef) => GrantRef;
  readonly gfn?: (gfn: GfnOperand) => GfnOperand;
  /** Plain numbers, by the name of their field; offsets of buffers under `offset`. */
  readonly int?: (value: number, name: string) => number;
}

const same = <T>(value: T): T => value;

/** The frame at a place moves with the place. */
function gfnIn(value: GfnOperand, { gfn = same, domain = same }: Renaming): GfnOperand {
  if (!('at' in value)) return gfn(value);
  const place = gfn({ path: value.at });
  return 'path' in place ? { at: place.path, of: domain(value.of) } : value;
}

function literal(value: Literal, to: Renaming): Literal {
  if (value.as === 'gfn' || value.as === 'tableEntry') return { ...value, gfn: gfnIn(value.gfn, to) };
  return value.as === 'grantEntry'
    ? { ...value, gfn: gfnIn(value.gfn, to), domain: (to.domain ?? same)(value.domain) }
    : value;
}

function buffer(value: Buffer<'symbolic'>, to: Renaming): Buffer<'symbolic'> {
  const { int = same } = to;
  return value.in === 'guest' ? { ...value, gfn: gfnIn(value.gfn, to), offset: int(value.offset, 'offset') } : value;
}

const extents = (value: Extents<'symbolic'>, to: Renaming): Extents<'symbolic'> =>
  value.by === 'value'
    ? { ...value, gfns: value.gfns.map((gfn) => gfnIn(gfn, to)) }
    : { ...value, buffer: buffer(value.buffer, to) };

function frame(value: FrameOperand, to: Renaming): FrameOperand {
  const { domain = same } = to;
  if ('gfn' in value) return { domain: domain(value.domain), gfn: gfnIn(value.gfn, to) };
  return 'special' in value ? { ...value, domain: domain(value.domain) } : value;
}

function operandIn(one: Operand<'symbolic'>, to: Renaming): Operand<'symbolic'>['value'] {
  switch (one.type) {
    case 'domain':
      return (to.domain ?? same)(one.value);
    case 'vcpu':
      return (to.vcpu ?? same)(one.value);
    case 'pcpu':
      return (to.pcpu ?? same)(one.value);
    case 'ref':
      return (to.ref ?? same)(one.value);
    case 'gfn':
      return gfnIn(one.value, to);
    case 'int':
      return (to.int ?? same)(one.value, one.name);
    case 'word':
      return literal(one.value, to);
    case 'buffer':
      return buffer(one.value, to);
    case 'extents':
      return extents(one.value, to);
    case 'frame':
      return frame(one.value, to);
    case 'handle':
    case 'start':
    case 'oneOf':
    case 'quad':
      return one.value;
  }
}

/** `op` with its names changed. */
export const renameOp = (op: Op<'symbolic'>, to: Renaming): Op<'symbolic'> =>
  mapOperands<'symbolic'>(op, (one) => operandIn(one, to));

/** `agent` with its names changed. */
export function renameAgent(agent: Agent, to: Renaming): Agent {
  const { domain = same, vcpu = same } = to;
  if (agent.kind === 'vcpu') return { ...agent, domain: domain(agent.domain), vcpu: vcpu(agent.vcpu) };
  return agent.kind === 'deviceModel'
    ? { ...agent, domain: domain(agent.domain), serves: domain(agent.serves) }
    : agent;
}

const renameStep = (step: Step, to: Renaming): Step =>
  isAct(step) ? { ...step, agent: renameAgent(step.agent, to), op: renameOp(step.op, to) } : step;

const pathIn = (path: readonly number[], to: Renaming): readonly number[] => {
  const renamed = (to.gfn ?? same)({ path });
  return 'path' in renamed ? renamed.path : path;
};

function renameSetup(setup: DomainSetup, to: Renaming): DomainSetup {
  const { grantsAt, rootAt, ...rest } = setup;
  const id = (to.domain ?? same)(setup.id);
  return {
    ...rest,
    id,
    kind: id === DOMID_CONTROL ? 'control' : setup.kind === 'control' ? 'hvm' : setup.kind,
    ram: setup.ram.map(({ path, order }) => ({ path: pathIn(path, to), order: (to.int ?? same)(order, 'order') })),
    ...(grantsAt === undefined ? {} : { grantsAt: pathIn(grantsAt, to) }),
    ...(rootAt === undefined ? {} : { rootAt: pathIn(rootAt, to) }),
  };
}

/** `header` with its names changed; of domains that come to have the same id, the first stays. */
export function renameHeader(header: Header, to: Renaming): Header {
  const domains = header.domains.map((setup) => renameSetup(setup, to));
  const isFirst = (setup: DomainSetup, i: number): boolean => domains.findIndex(({ id }) => id === setup.id) === i;
  return { ...header, domains: domains.filter(isFirst) };
}

/** `trace` with its names changed everywhere. */
export const renameTrace = (trace: Trace, to: Renaming): Trace => ({
  header: renameHeader(trace.header, to),
  steps: trace.steps.map((step) => renameStep(step, to)),
});

/** `trace` with names changed in its steps only. */
export const renameSteps = (trace: Trace, to: Renaming): Trace => ({
  ...trace,
  steps: trace.steps.map((step) => renameStep(step, to)),
});

/** Every gfn path that occurs in `trace`, in order of first use, without repetition. */
export function pathsIn(trace: Trace): readonly (readonly number[])[] {
  const paths = new Map<string, readonly number[]>();
  const gfn = (operand: GfnOperand): GfnOperand => {
    if ('path' in operand) paths.set(operand.path.join('.'), operand.path);
    return operand;
  };
  renameTrace(trace, { gfn });
  return [...paths.values()];
}

/** A smaller number that keeps its place in a frame of tiny's four words. */
function shorter(value: number, name: string): number {
  const bytes = 8 * geometries.tiny.wordsPerFrame;
  if (name.toLowerCase().endsWith('offset'))
    return value < bytes ? value : (value % 8) + 8 * (Math.floor(value / 8) % 4);
  if (name === 'length') return value === 8 * geometries.x86.wordsPerFrame ? bytes : Math.min(value, bytes);
  const isOrder = name.toLowerCase().endsWith('order');
  return isOrder && value === geometries.x86.bitsPerLevel ? geometries.tiny.bitsPerLevel : value;
}

/**
 * `trace` on the tiny geometry. compact: table indices are numbered anew per level in ascending order, so that different
 * ones stay different where four entries suffice; otherwise they wrap.
 */
export function embedInTiny(trace: Trace, compact: boolean): Trace {
  const { levels, bitsPerLevel } = geometries.tiny;
  const digits = Array.from({ length: levels }, (_, level) =>
    [...new Set(pathsIn(trace).map((path) => path.at(-1 - level) ?? 0))].toSorted((a, b) => a - b),
  );
  const fit = (digit: number, level: number): number => {
    const rank = digits[level]?.indexOf(digit) ?? -1;
    return (compact && rank >= 0 ? rank : digit) % 2 ** bitsPerLevel;
  };
  const gfn = (operand: GfnOperand): GfnOperand => {
    if (!('path' in operand)) return operand;
    const path = operand.path.slice(-levels);
    return { path: path.map((digit, i) => fit(digit, path.length - 1 - i)) };
  };
  return renameTrace({ ...trace, header: { ...trace.header, geometry: 'tiny', width: {} } }, { gfn, int: shorter });
}
