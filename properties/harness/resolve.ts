// Symbolic operands to numbers. An operation is resolved once, when its step starts, for both sides. A trace moves to
// another geometry by resolving its paths there; raw numbers stay what they are. What dangles becomes a fixed invalid
// value, so no cut of a trace is ever ill-formed.

import {
  type Gfn,
  type GrantHandle,
  gfn as gfnOf,
  INVALID_GFN,
  INVALID_MFN,
  type Mfn,
  mfn as mfnOf,
  type Word,
} from '#abi/address.ts';
import { mapOperands, type Operand } from '#abi/fields.ts';
import { type Geometry, gfnCount, tableEntries } from '#abi/geometry.ts';
import type { Buffer, Extents, FrameOperand, GfnOperand, HandedOut, Label, Literal } from '#abi/operand.ts';
import type { Op } from '#abi/operation.ts';
import type { Reply } from '#abi/reply.ts';
import { freshTag } from '#abi/tags.ts';
import { high21, low32 } from '#lib/bits.ts';
import { unreachable } from '#lib/invariant.ts';

/** What a handle resolves to if no completed step handed it out: all ones, which no maptrack reaches. */
export const DANGLING_HANDLE: GrantHandle = 0xffff_ffff as GrantHandle;
/** What a continuation resolves to if its step was not preempted: beyond every batch. */
export const DANGLING_START = 0xffff_ffff;

/** What resolution needs to know about the run so far. */
export interface Context {
  readonly geometry: Geometry;
  /** The label of the step that is resolved. */
  readonly label: Label;
  /** The index-th number that the reply to step `label` handed out; undefined if it has none (yet). */
  readonly handedOut: (label: Label, index: number) => number | undefined;
  /**
   * How many elements step `label` had done when it was preempted; undefined if it was not. Absent: `handedOut` is asked
   * for the continuation too, which is only right while no reply has both numbers and a continuation (`grants.map` has).
   */
  readonly stoppedAt?: (label: Label) => number | undefined;
  /** The frame that an operand means at this time; undefined or absent: none. `step` and `raw` are not asked for. */
  readonly frameAt?: (frame: FrameOperand) => Mfn | undefined;
}

/** The numbers that a reply handed out: of its elements in order, then its own. */
export const numbersIn = (reply: Reply): readonly number[] => [
  ...reply.elements.flatMap((element) => element.out),
  ...reply.out,
];

/** The two questions of a context, answered from the replies to completed steps. */
export const answersFrom = (
  replyTo: (label: Label) => Reply | undefined,
): Required<Pick<Context, 'handedOut' | 'stoppedAt'>> => ({
  handedOut: (label, index) => {
    const reply = replyTo(label);
    return reply === undefined ? undefined : numbersIn(reply)[index];
  },
  stoppedAt: (label) => {
    const reply = replyTo(label);
    return reply?.status === 'preempted' ? reply.done : undefined;
  },
});

/** The gfn at `path`: root first, digits wrap, missing leading digits are 0, surplus leading digits are dropped. */
export function gfnOfPath(geometry: Geometry, path: readonly number[]): Gfn {
  const entries = tableEntries(geometry);
  return gfnOf(path.slice(-geometry.levels).reduce((number, digit) => number * entries + (digit % entries), 0));
}

/** The operand that means `gfn` in `geometry`: a path of full length if the tables reach it, else the raw number. */
export function operandOfGfn(geometry: Geometry, gfn: number): GfnOperand {
  if (gfn >= gfnCount(geometry)) return { raw: gfn };
  const entries = tableEntries(geometry);
  const path = Array.from(
    { length: geometry.levels },
    (_, i) => Math.floor(gfn / entries ** (geometry.levels - 1 - i)) % entries,
  );
  return { path };
}

/** A gfn operand as a number. */
function resolveGfn(operand: GfnOperand, { geometry, frameAt }: Context): Gfn {
  if ('path' in operand) return gfnOfPath(geometry, operand.path);
  if ('raw' in operand) return gfnOf(Math.min(operand.raw, INVALID_GFN));
  const mfn = frameAt?.({ domain: operand.of, gfn: { path: operand.at } });
  return mfn === undefined ? INVALID_GFN : gfnOf(mfn);
}

/** A version-1 grant entry (layout: abi/grants.ts). Of a frame beyond 32 bits it keeps the low ones. */
const grantEntry = (flags: number, domain: number, frame: number): Word => ({
  lo: (flags % 0x1_0000) + (domain % 0x1_0000) * 0x1_0000,
  hi: low32(frame),
});

/** An entry of a guest's tables (layout: abi/paging.ts). Of a frame beyond 40 bits it keeps the low ones. */
const tableEntry = (flags: number, frame: number): Word => ({
  lo: (flags % 0x1000) + (frame % 0x10_0000) * 0x1000,
  hi: (Math.floor(frame / 0x10_0000) % 0x10_0000) + Math.floor(flags / 0x1000) * 0x1000_0000,
});

function resolveLiteral(literal: Literal, context: Context, position: number): Word {
  switch (literal.as) {
    case 'fresh':
      return freshTag(context.label, position);
    case 'word':
      return { lo: literal.lo, hi: literal.hi };
    case 'gfn': {
      const gfn = resolveGfn(literal.gfn, context);
      return { lo: low32(gfn), hi: high21(gfn) };
    }
    case 'grantEntry':
      return grantEntry(literal.flags, literal.domain, resolveGfn(literal.gfn, context));
    case 'tableEntry':
      return tableEntry(literal.flags, resolveGfn(literal.gfn, context));
    default:
      return unreachable(literal);
  }
}

const resolveBuffer = (buffer: Buffer<'symbolic'>, context: Context): Buffer<'concrete'> =>
  buffer.in === 'guest' ? { ...buffer, gfn: resolveGfn(buffer.gfn, context) } : buffer;

const resolveExtents = (extents: Extents<'symbolic'>, context: Context): Extents<'concrete'> =>
  extents.by === 'value'
    ? { by: 'value', gfns: extents.gfns.map((one) => resolveGfn(one, context)) }
    : { ...extents, buffer: resolveBuffer(extents.buffer, context) };

function resolveFrame(frame: FrameOperand, context: Context): Mfn {
  if ('raw' in frame) return mfnOf(Math.min(frame.raw, INVALID_MFN));
  if ('step' in frame) {
    const number = context.handedOut(frame.step, frame.index);
    return number === undefined ? INVALID_MFN : mfnOf(number);
  }
  if ('special' in frame && frame.special === 'mmio') return mfnOf(context.geometry.frameCount + frame.index);
  return context.frameAt?.(frame) ?? INVALID_MFN;
}

const resolveHandle = (handle: HandedOut, context: Context): GrantHandle =>
  ('raw' in handle ? handle.raw : (context.handedOut(handle.step, handle.index) ?? DANGLING_HANDLE)) as GrantHandle;

function resolveStart(start: HandedOut, context: Context): number {
  if ('raw' in start) return start.raw;
  const { stoppedAt, handedOut } = context;
  const done = stoppedAt === undefined ? handedOut(start.step, start.index) : stoppedAt(start.step);
  return done ?? DANGLING_START;
}

function resolveOperand(one: Operand<'symbolic'>, context: Context): Operand<'concrete'>['value'] {
  switch (one.type) {
    case 'gfn':
      return resolveGfn(one.value, context);
    case 'frame':
      return resolveFrame(one.value, context);
    case 'handle':
      return resolveHandle(one.value, context);
    case 'start':
      return resolveStart(one.value, context);
    case 'word':
      return resolveLiteral(one.value, context, one.position);
    case 'buffer':
      return resolveBuffer(one.value, context);
    case 'extents':
      return resolveExtents(one.value, context);
    case 'domain':
    case 'ref':
    case 'vcpu':
    case 'pcpu':
    case 'int':
    case 'oneOf':
    case 'quad':
      return one.value;
    default:
      return unreachable(one);
  }
}

/** `op` as both sides execute it. Total: what dangles becomes an invalid value. */
export const resolveOp = (op: Op<'symbolic'>, context: Context): Op<'concrete'> =>
  mapOperands<'symbolic', 'concrete'>(op, (one) => resolveOperand(one, context));
