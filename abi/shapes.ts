// The shapes of stored traces and cases. Arguments of operations follow from the field tables; the rest is written next to
// the interfaces it mirrors, and the compiler compares the keys. Bounds are those of the representation, not of legality:
// a trace may well name a domain, processor or frame that does not exist.

import { unreachable } from '#lib/invariant.ts';
import type { Word } from './address.ts';
import type { Agent } from './agents.ts';
import { type Case, CASE_VERSION, type EngineName, engines, type Poke } from './case.ts';
import { type Failure, failureClasses } from './failures.ts';
import type { Field, Fields } from './field.ts';
import { geometries, type Widths } from './geometry.ts';
import { memoryOps } from './memory.ts';
import type { Buffer, Extents, GfnOperand, Literal } from './operand.ts';
import { declarationOf, opKinds } from './operation.ts';
import { objectKinds, type Pause, pointClasses } from './points.ts';
import { frameRoles } from './roles.ts';
import {
  type CasesOf,
  flag,
  int,
  list,
  oneOf,
  record,
  type RecordShape,
  type Shape,
  tagged,
  untagged,
} from './shape.ts';
import { LABEL_MAX } from './tags.ts';
import {
  type ActStep,
  type DomainSetup,
  type Header,
  type IommuUnit,
  type ResumeStep,
  type Trace,
  TRACE_VERSION,
} from './trace.ts';
import { vendors } from './vendor.ts';

const u16 = int(0, 0xffff);
const u32 = int(0, 0xffff_ffff);
/** Steps of a trace, pokes of a case, and lists of gfns at most. */
const STEPS_MAX = 1_000_000;
const LIST_MAX = 4096;
/** Digits of a gfn path; more than any geometry has levels. */
const PATH_MAX = 8;

const frameNumber = int(0, 2 ** 52 - 1);
const label = int(0, LABEL_MAX);
const word = record<Word>({ lo: u32, hi: u32 });
const path = list(u16, PATH_MAX);
const raw = record({ raw: frameNumber });
const handedOut = record({ step: label, index: u16 });
const pcpu = int(-1, 0xffff);

const gfn = untagged(
  ['path', record<Extract<GfnOperand, { path: unknown }>>({ path })],
  ['raw', raw],
  ['at', record<Extract<GfnOperand, { at: unknown }>>({ at: path, of: u16 })],
);

const frame = untagged(
  ['raw', raw],
  ['special', record({ special: oneOf('frame role', frameRoles), domain: u16, index: u16 })],
  ['step', handedOut],
  ['gfn', record({ domain: u16, gfn })],
);

const number = untagged(['step', handedOut], ['raw', record({ raw: u32 })]);

const literals: CasesOf<Literal, 'as'> = {
  fresh: {},
  word: { lo: u32, hi: u32 },
  gfn: { gfn },
  grantEntry: { flags: u16, domain: u16, gfn },
  tableEntry: { flags: u16, gfn },
};

const buffers: CasesOf<Buffer<'symbolic'>, 'in'> = {
  guest: { gfn, offset: u16 },
  hypervisor: {},
  nonCanonical: {},
  null: {},
};

const buffer = tagged('in', 'kind of address', buffers);

const extents: CasesOf<Extents<'symbolic'>, 'by'> = {
  value: { gfns: list(gfn, LIST_MAX) },
  buffer: { buffer, count: u16 },
};

const operands = {
  gfn,
  frame,
  handle: number,
  start: number,
  word: tagged('as', 'literal', literals),
  buffer,
  extents: tagged('by', 'way to pass extents', extents),
  domain: u16,
  ref: u32,
  vcpu: u16,
  pcpu,
} as const;

/** The shape of an argument as a trace stores it. */
function shapeOf(field: Field, name: string): Shape {
  switch (field.type) {
    case 'int':
      return int(field.min, field.max, field.absent);
    case 'quad':
      return word;
    case 'oneOf':
      return oneOf(name, field.values, field.absent);
    case 'list':
      return list(record(shapesOf(field.of)), field.max);
    case 'gfn':
    case 'frame':
    case 'handle':
    case 'start':
    case 'word':
    case 'buffer':
    case 'extents':
    case 'domain':
    case 'ref':
    case 'vcpu':
    case 'pcpu':
      return operands[field.type];
    default:
      return unreachable(field);
  }
}

const shapesOf = (fields: Fields): Readonly<Record<string, Shape>> =>
  Object.fromEntries(Object.entries(fields).map(([name, field]) => [name, shapeOf(field, name)]));

const op = tagged(
  'kind',
  'operation',
  Object.fromEntries(opKinds.map((kind) => [kind, shapesOf(declarationOf(kind)?.fields ?? {})])),
);

const agents: CasesOf<Agent, 'kind'> = {
  vcpu: { domain: u16, vcpu: u16 },
  device: { device: u16, requester: u16 },
  deviceModel: { domain: u16, serves: u16 },
  toolstack: {},
  background: {},
  fate: {},
};

const pause = record<Pause>({
  class: oneOf('point class', pointClasses),
  object: oneOf('object kind', objectKinds),
  nth: int(1, 0xffff),
});

const failure = record<Failure>({ class: oneOf('failure class', failureClasses), nth: int(1, 0xffff) });

const act = record<ActStep>(
  {
    label,
    agent: tagged('kind', 'agent', agents),
    op,
    pause,
    failures: list(failure, 64),
    preempt: int(1, 0xffff),
  },
  ['pause', 'failures', 'preempt'],
);

const step = untagged(['op', act], ['resume', record<ResumeStep>({ label, resume: label, pause }, ['pause'])]);

const counterWidth = int(1, 32);
const width = record<Widths>(
  {
    refCount: counterWidth,
    typeCount: counterWidth,
    linear: counterWidth,
    pages: counterWidth,
    pin: counterWidth,
    tlbClock: counterWidth,
    asid: counterWidth,
    asidGeneration: counterWidth,
  },
  ['refCount', 'typeCount', 'linear', 'pages', 'pin', 'tlbClock', 'asid', 'asidGeneration'],
);

const iommu = record<IommuUnit>({
  kind: oneOf('kind of IOMMU', ['vtd', 'amdvi']),
  levels: int(1, 6),
  coherent: flag,
  superpages: flag,
});

const created = shapesOf(memoryOps['memory.createDomain'].fields);
const pooled = shapesOf(memoryOps['memory.setPool'].fields);
const populated = shapesOf(memoryOps['memory.populate'].fields);

const domain = record<DomainSetup>(
  {
    id: u16,
    kind: oneOf('kind of domain', ['control', 'hvm', 'pv']),
    vcpus: created['vcpus'] ?? u16,
    maxPages: created['maxPages'] ?? u16,
    poolFrames: pooled['frames'] ?? u16,
    grantFrames: created['grantFrames'] ?? u16,
    ram: list(record({ path, order: populated['order'] ?? u16 }), LIST_MAX),
    grantsAt: path,
    rootAt: path,
    on: list(pcpu, 64),
  },
  ['grantsAt', 'rootAt'],
);

const geometry = oneOf('geometry', Object.keys(geometries));

const header = record<Header>(
  {
    version: int(TRACE_VERSION, TRACE_VERSION),
    geometry,
    vendor: oneOf('vendor', vendors),
    pvPcids: oneOf('PCIDs of paravirtual guests', ['on']),
    pvLinear: oneOf('linear tables of paravirtual guests', ['on']),
    width,
    pcpus: int(1, 64),
    iommus: list(iommu, 16),
    flush: oneOf('flush policy', ['eager', 'lazy']),
    scrub: oneOf('scrub policy', ['always', 'dying']),
    scrubAt: oneOf('time of scrubbing', ['free', 'later']),
    superpages: flag,
    domains: list(domain, 64),
  },
  ['vendor', 'pvPcids', 'pvLinear'],
);

/** A whole trace. */
export const traceShape: RecordShape = record<Trace>({ header, steps: list(step, STEPS_MAX) });

const poke = record<Poke>({ mfn: int(0, 2 ** 40 - 1), index: int(0, 511), word });

const caseOf = (engine: EngineName): Readonly<Record<keyof Omit<Case, 'engine'>, Shape>> => ({
  version: int(CASE_VERSION, CASE_VERSION),
  geometry,
  registers: record(shapesOf(engines[engine].registers)),
  access: record(shapesOf(engines[engine].access)),
  image: list(poke, STEPS_MAX),
});

/** A case; what its registers and access hold depends on the engine. */
export const caseShape: Shape = tagged('engine', 'engine', {
  ept: caseOf('ept'),
  native: caseOf('native'),
  vmx: caseOf('vmx'),
  svm: caseOf('svm'),
} satisfies Record<EngineName, unknown>);
