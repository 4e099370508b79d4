// The union of everything agents can do, routed in two steps: mechanism, then kind.
// Operations are data and total: a bad call is a value with a reply, never an operation that may not be called.

import type { Declaration, OpsOf } from './field.ts';
import { grantsOps } from './grants.ts';
import { hapOps } from './hap.ts';
import { memoryOps } from './memory.ts';
import type { Phase } from './operand.ts';
import { pagingOps } from './paging.ts';
import { pvOps } from './pv.ts';
import type { Status } from './reply.ts';
import { tlbOps } from './tlb.ts';

/** All operation tables by mechanism, in reading order. */
export const opTables = {
  memory: memoryOps,
  paging: pagingOps,
  pv: pvOps,
  hap: hapOps,
  tlb: tlbOps,
  grants: grantsOps,
} as const;

/** The mechanisms that this version has, in reading order. */
export type Mechanism = keyof typeof opTables;

export const mechanisms = Object.keys(opTables) as readonly Mechanism[];

/** An operation in phase `P`. */
export type Op<P extends Phase> = { [M in Mechanism]: OpsOf<(typeof opTables)[M], P> }[Mechanism];

export type OpKind = Op<'symbolic'>['kind'];

const declarations: ReadonlyMap<string, Declaration> = new Map(
  Object.values(opTables).flatMap((table) => Object.entries(table as Readonly<Record<string, Declaration>>)),
);

/** Every operation kind, in reading order. */
export const opKinds = [...declarations.keys()] as readonly OpKind[];

/** The declaration of `kind`, or undefined for an unknown operation. */
export const declarationOf = (kind: string): Declaration | undefined => declarations.get(kind);

/** What any call can be answered with: by agents that may not make it, and by domains that no longer run. */
const always = ['EPERM', 'gone'] as const satisfies readonly Status[];

/** Every status that an operation of this kind can answer with. */
export const repliesOf = (kind: OpKind): readonly Status[] => [...(declarations.get(kind)?.replies ?? []), ...always];

/** Every status that an element of such a batch can have; none: it is no batch. */
export const elementRepliesOf = (kind: OpKind): readonly Status[] => declarations.get(kind)?.elements ?? [];

const mechanismByKind = Object.fromEntries(
  mechanisms.flatMap((mechanism) => Object.keys(opTables[mechanism]).map((kind) => [kind, mechanism])),
) as Readonly<Record<OpKind, Mechanism>>;

/** The mechanism of an operation: the part of its kind before the dot. */
export const mechanismOf = (kind: OpKind): Mechanism => mechanismByKind[kind];
