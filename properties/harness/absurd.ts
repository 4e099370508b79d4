// Absurd but well-formed operations, from the field tables alone: what a caller does who knows the vocabulary and nothing of
// the machine. Numbers come from a small hot pool, in which collisions are frequent, or from a large cold one. The
// generator draws a share of its steps from here, so a new operation is exercised before anybody writes a plan for it.

import { type DomId, domId, DOMID_INVALID, DOMID_SELF } from '#abi/address.ts';
import { type Loose, fieldsOf, opWith } from '#abi/fields.ts';
import type { Field, Fields } from '#abi/field.ts';
import { grantFlags } from '#abi/grants.ts';
import type { Buffer, Extents, FrameOperand, GfnOperand, HandedOut, Label, Literal } from '#abi/operand.ts';
import { type Op, type OpKind, opKinds } from '#abi/operation.ts';
import { tableFlags } from '#abi/paging.ts';
import { frameRoles } from '#abi/roles.ts';
import { unreachable } from '#lib/invariant.ts';
import type { Prng } from '#lib/prng.ts';

/** Where absurd values come from. */
interface Source {
  readonly prng: Prng;
  /** Steps whose numbers may be named. */
  readonly labels: readonly Label[];
}

const HOT_DOMAINS: readonly DomId[] = [...[0, 1, 2, 3].map(domId), DOMID_SELF];
const COLD_DOMAINS: readonly DomId[] = [...[4, 255, 0x7ff1, 0x7fff, 0xffff].map(domId), DOMID_INVALID];
const HOT_FLAGS = [
  grantFlags.permitAccess,
  grantFlags.permitAccess + grantFlags.readOnly,
  grantFlags.acceptTransfer,
  grantFlags.transitive,
  grantFlags.invalid,
];

const HOT_ENTRIES = [
  tableFlags.present,
  tableFlags.present + tableFlags.write,
  tableFlags.present + tableFlags.write + tableFlags.user,
  tableFlags.present + tableFlags.write + tableFlags.superpage,
  tableFlags.present + tableFlags.noExecute,
];

/** Whether the next value is hot: seven times in eight. */
const hot = ({ prng }: Source): boolean => prng.chance(7, 8);

/** An integer in 0..max, small or near a power of two or near the end. */
function number(source: Source, max: number): number {
  const { prng } = source;
  if (hot(source)) return prng.below(Math.min(max, 3) + 1);
  const near = prng.chance(1, 4) ? max - prng.below(2) : 2 ** prng.below(53) - prng.below(2);
  return Math.max(0, Math.min(max, near));
}

const int = (source: Source, min: number, max: number): number => min + number(source, max - min);

const domain = (source: Source): DomId => source.prng.pick(hot(source) ? HOT_DOMAINS : COLD_DOMAINS);

const hotPath = ({ prng }: Source): readonly number[] => Array.from({ length: 1 + prng.below(3) }, () => prng.below(4));

const gfn = (source: Source): GfnOperand => {
  if (hot(source))
    return source.prng.chance(1, 5) ? { at: hotPath(source), of: domain(source) } : { path: hotPath(source) };
  return source.prng.chance(1, 2)
    ? { path: Array.from({ length: source.prng.below(5) }, () => number(source, 0xffff)) }
    : { raw: number(source, 2 ** 52 - 1) };
};

const handedOut = (source: Source): HandedOut =>
  source.labels.length > 0 && hot(source)
    ? { step: source.prng.pick(source.labels), index: source.prng.below(3) }
    : { raw: number(source, 0xffff_ffff) };

const start = (source: Source): HandedOut => {
  if (source.prng.chance(1, 2)) return { raw: 0 };
  return source.labels.length > 0 && source.prng.chance(1, 2)
    ? { step: source.prng.pick(source.labels), index: 0 }
    : { raw: number(source, 0xffff_ffff) };
};

function literal(source: Source): Literal {
  const { prng } = source;
  switch (prng.below(5)) {
    case 0:
      return { as: 'word', lo: number(source, 0xffff_ffff), hi: number(source, 0xffff_ffff) };
    case 1:
      return { as: 'gfn', gfn: gfn(source) };
    case 2:
      return {
        as: 'grantEntry',
        flags: hot(source) ? prng.pick(HOT_FLAGS) : number(source, 0xffff),
        domain: domain(source),
        gfn: gfn(source),
      };
    case 3:
      return {
        as: 'tableEntry',
        flags: hot(source) ? prng.pick(HOT_ENTRIES) : number(source, 0xffff),
        gfn: gfn(source),
      };
  }
  return { as: 'fresh' };
}

const buffer = (source: Source): Buffer<'symbolic'> => {
  if (!hot(source)) return { in: source.prng.pick(['hypervisor', 'nonCanonical', 'null'] as const) };
  const offset = hot(source) ? 8 * source.prng.below(4) : number(source, 0xffff);
  return { in: 'guest', gfn: gfn(source), offset };
};

const extents = (source: Source): Extents<'symbolic'> =>
  source.prng.chance(2, 3)
    ? { by: 'value', gfns: Array.from({ length: source.prng.below(4) }, () => gfn(source)) }
    : { by: 'buffer', buffer: buffer(source), count: number(source, 0xffff) };

function frame(source: Source): FrameOperand {
  const { prng } = source;
  switch (prng.below(4)) {
    case 0:
      return { raw: number(source, 2 ** 52 - 1) };
    case 1:
      return { special: prng.pick(frameRoles), domain: domain(source), index: number(source, 0xffff) };
    case 2:
      return handedOut(source);
  }
  return { domain: domain(source), gfn: gfn(source) };
}

function value(field: Field, source: Source): unknown {
  const { prng } = source;
  switch (field.type) {
    case 'int':
      return int(source, field.min, field.max);
    case 'oneOf':
      return prng.pick(field.values);
    case 'list':
      return Array.from({ length: prng.below(Math.min(field.max, hot(source) ? 3 : 16) + 1) }, () =>
        values(field.of, source),
      );
    case 'gfn':
      return gfn(source);
    case 'frame':
      return frame(source);
    case 'handle':
      return handedOut(source);
    case 'start':
      return start(source);
    case 'word':
      return literal(source);
    case 'quad':
      return { lo: number(source, 0xffff_ffff), hi: number(source, 0xffff_ffff) };
    case 'buffer':
      return buffer(source);
    case 'extents':
      return extents(source);
    case 'domain':
      return domain(source);
    case 'ref':
      return number(source, 0xffff_ffff);
    case 'vcpu':
      return number(source, 0xffff);
    case 'pcpu':
      return hot(source) ? prng.below(4) - 1 : number(source, 0xffff);
    default:
      return unreachable(field);
  }
}

const values = (fields: Fields, source: Source): Loose =>
  Object.fromEntries(Object.entries(fields).map(([name, field]) => [name, value(field, source)]));

/** A random operation of `kind` (absent: of any), with any well-formed arguments; `labels` are steps it may refer to. */
export function absurdOp(prng: Prng, kind?: OpKind, labels: readonly Label[] = []): Op<'symbolic'> {
  const chosen = kind ?? prng.pick(opKinds);
  return opWith<'symbolic'>(chosen, values(fieldsOf(chosen), { prng, labels }));
}
