// What a processor asks of memory. A guest without paging names guest-physical bytes: {gfn, offset}.
// An access may lie anywhere and straddle words and frames; sizes are 1..8 bytes.
// `via` lets fate choose among the answers a cache holds: 0 the newest, counting back; past the oldest: a fresh walk.

import { gfnField, offsetField, type OpsOf } from './field.ts';
import type { Phase } from './operand.ts';

const sizeField = { type: 'int', min: 1, max: 8 } as const;
const viaField = { type: 'int', min: 0, max: 15 } as const;
const wordField = { type: 'word' } as const;

export const pagingOps = {
  'paging.read': {
    says: 'reads {size} bytes at {gfn}+{offset}',
    fields: { gfn: gfnField, offset: offsetField, size: sizeField, via: viaField },
  },
  'paging.write': {
    says: 'writes {value} ({size} bytes) at {gfn}+{offset}',
    fields: { gfn: gfnField, offset: offsetField, size: sizeField, value: wordField, via: viaField },
  },
  'paging.compareExchange': {
    says: 'replaces {expected} by {value} ({size} bytes) at {gfn}+{offset}',
    fields: {
      gfn: gfnField,
      offset: offsetField,
      size: sizeField,
      expected: wordField,
      value: wordField,
      via: viaField,
    },
  },
  'paging.fetch': {
    says: 'fetches {size} bytes of code at {gfn}+{offset}',
    fields: { gfn: gfnField, offset: offsetField, size: sizeField, via: viaField },
  },
} as const;

export type PagingOp<P extends Phase> = OpsOf<typeof pagingOps, P>;
