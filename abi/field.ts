// Operations are declared as tables of fields. From one table follow the types of both phases, decoding, resolution,
// description, shrinking of arguments and absurd values, so a new operation is one row here and the arms that the
// compiler then asks for in model, implementation and generators.

import type { DomId, GrantRef, PcpuId, VcpuId, Word } from './address.ts';
import type { Buffer, Extents, Operands, Phase } from './operand.ts';
import type { Status } from './reply.ts';

/** The declaration of one argument. `int` ranges bound what a trace may hold, not what is legal. */
export type Field =
  | {
      readonly type:
        'gfn' | 'frame' | 'handle' | 'start' | 'word' | 'buffer' | 'extents' | 'domain' | 'ref' | 'vcpu' | 'pcpu';
    }
  /** `absent`: what a trace that leaves the field out means. */
  | { readonly type: 'int'; readonly min: number; readonly max: number; readonly absent?: number }
  /** 64 bits as they stand in a register, the same in every phase. */
  | { readonly type: 'quad' }
  | { readonly type: 'oneOf'; readonly values: readonly string[]; readonly absent?: string }
  | { readonly type: 'list'; readonly of: Fields; readonly max: number };

/** The arguments of one operation by name. */
export interface Fields {
  readonly [name: string]: Field;
}

interface Plain {
  readonly domain: DomId;
  readonly ref: GrantRef;
  readonly vcpu: VcpuId;
  readonly pcpu: PcpuId;
  readonly int: number;
  readonly quad: Word;
}

/** The value of a field in phase `P`. */
export type Value<F extends Field, P extends Phase> = F extends {
  readonly type: 'oneOf';
  readonly values: readonly (infer V)[];
}
  ? V
  : F extends { readonly type: 'list'; readonly of: infer R extends Fields }
    ? readonly Arguments<R, P>[]
    : F['type'] extends keyof Plain
      ? Plain[F['type']]
      : F['type'] extends keyof Operands<P>
        ? Operands<P>[F['type']]
        : F['type'] extends 'buffer'
          ? Buffer<P>
          : F['type'] extends 'extents'
            ? Extents<P>
            : never;

/** The arguments that `R` declares, in phase `P`. */
export type Arguments<R extends Fields, P extends Phase> = { readonly [K in keyof R]: Value<R[K], P> };

/** One operation: its sentence, its answers and its arguments. Who hears its reply is the same for all (reply.ts, agents.ts). */
export interface Declaration {
  /** A sentence with arguments in braces. */
  readonly says: string;
  /** What the caller can hear, besides what any call can be answered with (operation.ts). */
  readonly replies: readonly Status[];
  /** What it can hear of an element of a batch. */
  readonly elements?: readonly Status[];
  readonly fields: Fields;
}

/** The union of operations that a table declares, in phase `P`. */
export type OpsOf<T extends Readonly<Record<string, Declaration>>, P extends Phase> = {
  readonly [K in keyof T & string]: { readonly kind: K } & Arguments<T[K]['fields'], P>;
}[keyof T & string];

export const gfnField = { type: 'gfn' } as const;
export const domainField = { type: 'domain' } as const;
export const startField = { type: 'start' } as const;
export const extentsField = { type: 'extents' } as const;
export const bufferField = { type: 'buffer' } as const;
export const orderField = { type: 'int', min: 0, max: 63 } as const;
export const countField = { type: 'int', min: 0, max: 64 } as const;
export const offsetField = { type: 'int', min: 0, max: 0xffff } as const;
