// Simpler arguments for shrinking, from the field tables: numbers halved and counted down, lists cut, paths shortened,
// literals replaced by fresh tags. Every candidate is smaller by `measure`, so any search that only moves to candidates ends.
// What is simplest: 0 or the declared minimum, the empty path, DOMID_SELF, a fresh tag, a null buffer, no extents, the first name.

import { field, hasAll, high21, low32, pow2 } from '#lib/bits.ts';
import { unreachable } from '#lib/invariant.ts';
import { type DomId, DOMID_SELF } from './address.ts';
import {
  argumentsOf,
  elementsOf,
  fieldsOf,
  type Loose,
  operand,
  type Operand,
  type OperandField,
  opWith,
} from './fields.ts';
import type { Field, Fields } from './field.ts';
import type { Buffer, Extents, FrameOperand, GfnOperand, HandedOut, Literal } from './operand.ts';
import type { Op } from './operation.ts';

type Symbolic = Operand<'symbolic'>;

// Numbers. Sizes are kept small so that sums stay exact: a number itself up to a bound, beyond it its length in bits.

const EXACT_MAX = 4096;

const bitLength = (n: number): number => (high21(n) === 0 ? 32 - Math.clz32(low32(n)) : 64 - Math.clz32(high21(n)));

const numberSize = (n: number): number => (n <= EXACT_MAX ? n : EXACT_MAX + bitLength(n));

/** Smaller numbers, best first: 0, half, one less. */
function* simplerNumbers(n: number): Iterable<number> {
  if (n <= 0) return;
  yield 0;
  if (n >= 4) yield Math.floor(n / 2);
  if (n >= 2 && n <= EXACT_MAX) yield n - 1;
}

/** Lists with elements removed (all, halves, each one), then with one element replaced. */
function* simplerLists<T>(list: readonly T[], simplerElements: (element: T) => Iterable<T>): Iterable<readonly T[]> {
  for (let chunk = list.length; chunk >= 1; chunk = Math.floor(chunk / 2))
    for (let from = 0; from < list.length; from += chunk) yield list.toSpliced(from, chunk);
  for (const [i, element] of list.entries())
    for (const simpler of simplerElements(element)) yield list.with(i, simpler);
}

const sum = <T>(list: readonly T[], size: (element: T) => number): number =>
  list.reduce((total, element) => total + 1 + size(element), 0);

// Operands.

const RAW = 1024;

const gfnSize = (gfn: GfnOperand): number => {
  if ('path' in gfn) return sum(gfn.path, numberSize);
  return 'raw' in gfn ? RAW + numberSize(gfn.raw) : 2 + sum(gfn.at, numberSize) + numberSize(gfn.of);
};

function* simplerGfns(gfn: GfnOperand): Iterable<GfnOperand> {
  if ('path' in gfn) for (const path of simplerLists(gfn.path, simplerNumbers)) yield { path };
  else if ('at' in gfn) {
    yield { path: gfn.at };
    for (const at of simplerLists(gfn.at, simplerNumbers)) yield { at, of: gfn.of };
    for (const of of simplerNumbers(gfn.of)) yield { at: gfn.at, of: of as DomId };
  } else {
    yield { path: [] };
    for (const raw of simplerNumbers(gfn.raw)) yield { raw };
  }
}

const frameSize = (frame: FrameOperand): number => {
  if ('raw' in frame) return numberSize(frame.raw);
  return 'gfn' in frame ? gfnSize(frame.gfn) : 0;
};

function* simplerFrames(frame: FrameOperand): Iterable<FrameOperand> {
  if ('raw' in frame) for (const raw of simplerNumbers(frame.raw)) yield { raw };
  else if ('gfn' in frame) for (const gfn of simplerGfns(frame.gfn)) yield { ...frame, gfn };
}

/** A handle that a step handed out says more than a number, so only numbers get simpler. */
const handleSize = (handle: HandedOut): number => ('raw' in handle ? 1 + numberSize(handle.raw) : 0);

/** A batch from its start is simpler than a continuation. */
const startSize = (start: HandedOut): number => ('raw' in start ? numberSize(start.raw) : 1);

function* simplerHandedOut(number: HandedOut): Iterable<HandedOut> {
  if ('raw' in number) for (const raw of simplerNumbers(number.raw)) yield { raw };
}

function literalSize(literal: Literal): number {
  switch (literal.as) {
    case 'fresh':
      return 0;
    case 'word':
      return 1 + numberSize(literal.lo) + numberSize(literal.hi);
    case 'gfn':
      return 1 + gfnSize(literal.gfn);
    case 'grantEntry':
      return 1 + numberSize(literal.flags) + domainSize(literal.domain) + gfnSize(literal.gfn);
    case 'tableEntry':
      return 1 + flagsSize(literal.flags) + gfnSize(literal.gfn);
    default:
      return unreachable(literal);
  }
}

function* simplerLiterals(literal: Literal): Iterable<Literal> {
  if (literal.as === 'fresh') return;
  yield { as: 'fresh' };
  if (literal.as === 'word') {
    for (const lo of simplerNumbers(literal.lo)) yield { ...literal, lo };
    for (const hi of simplerNumbers(literal.hi)) yield { ...literal, hi };
    return;
  }
  for (const gfn of simplerGfns(literal.gfn)) yield { ...literal, gfn };
  if (literal.as === 'gfn') return;
  if (literal.as === 'tableEntry') {
    for (const flags of simplerFlags(literal.flags)) yield { ...literal, flags };
    return;
  }
  for (const flags of simplerNumbers(literal.flags)) yield { ...literal, flags };
  for (const domain of simplerDomains(literal.domain)) yield { ...literal, domain };
}

/** How many flags are set. */
const flagsSize = (flags: number): number =>
  Array.from({ length: 16 }, (_, at) => field(flags, at, 1)).reduce((all, one) => all + one, 0);

/** Sets of flags with one flag less. */
function* simplerFlags(flags: number): Iterable<number> {
  for (let at = 15; at >= 0; at -= 1) if (hasAll(flags, pow2(at))) yield flags - pow2(at);
}

const bufferSize = (buffer: Buffer<'symbolic'>): number => {
  if (buffer.in === 'null') return 0;
  return buffer.in === 'guest' ? 2 + numberSize(buffer.offset) + gfnSize(buffer.gfn) : 1;
};

function* simplerBuffers(buffer: Buffer<'symbolic'>): Iterable<Buffer<'symbolic'>> {
  if (buffer.in === 'null') return;
  yield { in: 'null' };
  if (buffer.in !== 'guest') return;
  for (const offset of simplerNumbers(buffer.offset)) yield { ...buffer, offset };
  for (const gfn of simplerGfns(buffer.gfn)) yield { ...buffer, gfn };
}

const extentsSize = (extents: Extents<'symbolic'>): number =>
  extents.by === 'value' ? sum(extents.gfns, gfnSize) : 2 + numberSize(extents.count) + bufferSize(extents.buffer);

function* simplerExtents(extents: Extents<'symbolic'>): Iterable<Extents<'symbolic'>> {
  if (extents.by === 'value') {
    for (const gfns of simplerLists(extents.gfns, simplerGfns)) yield { by: 'value', gfns };
    return;
  }
  yield { by: 'value', gfns: [] };
  yield { by: 'value', gfns: [{ path: [] }] };
  for (const count of simplerNumbers(extents.count)) yield { ...extents, count };
  for (const buffer of simplerBuffers(extents.buffer)) yield { ...extents, buffer };
}

const domainSize = (domain: DomId): number => (domain === DOMID_SELF ? 0 : 1 + numberSize(domain));

function* simplerDomains(domain: DomId): Iterable<DomId> {
  if (domain === DOMID_SELF) return;
  yield DOMID_SELF;
  for (const id of simplerNumbers(domain)) yield id as DomId;
}

function operandSize(one: Symbolic): number {
  switch (one.type) {
    case 'int':
      return numberSize(one.value - one.field.min);
    case 'oneOf':
      return one.field.values.indexOf(one.value);
    case 'gfn':
      return gfnSize(one.value);
    case 'frame':
      return frameSize(one.value);
    case 'handle':
      return handleSize(one.value);
    case 'start':
      return startSize(one.value);
    case 'word':
      return literalSize(one.value);
    case 'quad':
      return numberSize(one.value.lo) + numberSize(one.value.hi);
    case 'buffer':
      return bufferSize(one.value);
    case 'extents':
      return extentsSize(one.value);
    case 'domain':
      return domainSize(one.value);
    case 'ref':
    case 'vcpu':
    case 'pcpu':
      return numberSize(Math.abs(one.value));
    default:
      return unreachable(one);
  }
}

function* simplerOperands(one: Symbolic): Iterable<Symbolic['value']> {
  switch (one.type) {
    case 'int':
      for (const above of simplerNumbers(one.value - one.field.min)) yield one.field.min + above;
      return;
    case 'oneOf':
      if (one.value !== one.field.values[0]) yield one.field.values[0] ?? one.value;
      return;
    case 'gfn':
      return yield* simplerGfns(one.value);
    case 'frame':
      return yield* simplerFrames(one.value);
    case 'start':
      if ('step' in one.value) yield { raw: 0 };
      return yield* simplerHandedOut(one.value);
    case 'handle':
      return yield* simplerHandedOut(one.value);
    case 'word':
      return yield* simplerLiterals(one.value);
    case 'quad':
      for (const lo of simplerNumbers(one.value.lo)) yield { lo, hi: one.value.hi };
      for (const hi of simplerNumbers(one.value.hi)) yield { lo: one.value.lo, hi };
      return;
    case 'buffer':
      return yield* simplerBuffers(one.value);
    case 'extents':
      return yield* simplerExtents(one.value);
    case 'domain':
      return yield* simplerDomains(one.value);
    case 'ref':
    case 'vcpu':
    case 'pcpu':
      return yield* simplerNumbers(Math.abs(one.value));
    default:
      return unreachable(one);
  }
}

// Whole operations.

const asOperand = (field: OperandField, value: unknown): Symbolic =>
  operand<'symbolic'>(field, value, { name: '', position: 0 });

const valueSize = (field: Field, value: unknown): number =>
  field.type === 'list'
    ? sum(elementsOf(value), (element) => argumentsSize(field.of, element))
    : operandSize(asOperand(field, value));

const argumentsSize = (fields: Fields, args: Loose): number =>
  Object.entries(fields).reduce((total, [name, field]) => total + valueSize(field, args[name]), 0);

function* simplerRecords(fields: Fields, args: Loose): Iterable<Loose> {
  for (const [name, field] of Object.entries(fields)) {
    const simpler =
      field.type === 'list'
        ? simplerLists(elementsOf(args[name]), (element) => simplerRecords(field.of, element))
        : simplerOperands(asOperand(field, args[name]));
    for (const value of simpler) yield { ...args, [name]: value };
  }
}

/** How complicated the arguments of `op` are: a small integer that every candidate of `simplerArguments` lowers. */
export const measure = (op: Op<'symbolic'>): number => argumentsSize(fieldsOf(op.kind), argumentsOf(op));

/** The same operation with one argument simpler, best candidates of each argument first. Finite, and may be empty. */
export function* simplerArguments(op: Op<'symbolic'>): Iterable<Op<'symbolic'>> {
  for (const args of simplerRecords(fieldsOf(op.kind), argumentsOf(op))) yield opWith<'symbolic'>(op.kind, args);
}
