// Walking over the arguments of any operation by its field table: what resolution, description and absurd values share.
// Lists are walked through; the rest are operands, numbered in declared order.

import { invariant, present } from '#lib/invariant.ts';
import type { DomId, GrantRef, PcpuId, VcpuId, Word } from './address.ts';
import type { Field, Fields } from './field.ts';
import type { Buffer, Extents, Operands, Phase } from './operand.ts';
import { declarationOf, type Op, type OpKind } from './operation.ts';

/** The type of value behind each type of field that is not a list. */
interface OperandValues<P extends Phase> extends Operands<P> {
  readonly buffer: Buffer<P>;
  readonly extents: Extents<P>;
  readonly domain: DomId;
  readonly ref: GrantRef;
  readonly vcpu: VcpuId;
  readonly pcpu: PcpuId;
  readonly int: number;
  readonly quad: Word;
  readonly oneOf: string;
}

type OperandType = keyof OperandValues<Phase>;

/** A field that is not a list. */
export type OperandField = Exclude<Field, { readonly type: 'list' }>;

/** One argument, not a list: its declaration, its name there, and its number among all operands of the operation. */
export type Operand<P extends Phase> = {
  readonly [T in OperandType]: {
    readonly type: T;
    readonly field: T extends 'int' | 'oneOf' ? Extract<Field, { readonly type: T }> : OperandField;
    readonly name: string;
    readonly position: number;
    readonly value: OperandValues<P>[T];
  };
}[OperandType];

/** The arguments of an operation or of a list's element, whatever they are. */
export type Loose = Readonly<Record<string, unknown>>;

/** The fields of `kind`. */
export const fieldsOf = (kind: OpKind): Fields => present(declarationOf(kind), `${kind} is declared`).fields;

/** The operation `kind` with arguments that suit its fields: the one place where that is asserted to the compiler. */
export function opWith<P extends Phase>(kind: OpKind, args: Loose): Op<P> {
  // Name by name: what is spread and then added to has a hidden class of its own in V8, and slows down all who read it.
  const op: Record<string, unknown> = {};
  for (const name in args) op[name] = args[name];
  op['kind'] = kind;
  return op as unknown as Op<P>;
}

/** Its arguments by name, without regard to their types. */
export const argumentsOf = (op: Op<Phase>): Loose => op as unknown as Loose;

/** A value together with its declaration. */
export const operand = <P extends Phase>(
  field: OperandField,
  value: unknown,
  at: { readonly name: string; readonly position: number },
): Operand<P> => ({ type: field.type, field, name: at.name, position: at.position, value }) as unknown as Operand<P>;

/** The elements of a list argument. */
export function elementsOf(value: unknown): readonly Loose[] {
  invariant(Array.isArray(value), 'an argument declared as a list is a list');
  return value as readonly Loose[];
}

/** What is done with each operand. */
type Visit<P extends Phase> = (operand: Operand<P>) => unknown;

interface Counter {
  next: number;
}

function mapFields<P extends Phase>(fields: Fields, args: Loose, walk: { counter: Counter; visit: Visit<P> }): Loose {
  const mapped: Record<string, unknown> = {};
  for (const [name, field] of Object.entries(fields)) {
    const value = args[name];
    if (field.type === 'list') mapped[name] = elementsOf(value).map((element) => mapFields(field.of, element, walk));
    else {
      mapped[name] = walk.visit(operand<P>(field, value, { name, position: walk.counter.next }));
      walk.counter.next += 1;
    }
  }
  return mapped;
}

/** `op` with every operand replaced by what `change` makes of it; phases may differ (resolution). */
export const mapOperands = <P extends Phase, Q extends Phase = P>(
  op: Op<P>,
  change: (operand: Operand<P>) => Operand<Q>['value'],
): Op<Q> =>
  opWith<Q>(op.kind, mapFields<P>(fieldsOf(op.kind), argumentsOf(op), { counter: { next: 0 }, visit: change }));

/** All operands of `op` in declared order, those in lists included. */
export function operandsOf<P extends Phase>(op: Op<P>): readonly Operand<P>[] {
  const found: Operand<P>[] = [];
  mapFields<P>(fieldsOf(op.kind), argumentsOf(op), { counter: { next: 0 }, visit: (one) => found.push(one) });
  return found;
}
