// What a processor asks of memory, and the registers that say how. A vCPU whose paging is off names guest-physical bytes:
// {gfn, offset}. With paging on the same operand is a linear frame, and the guest's own tables lead from it to a gfn.
// An access may lie anywhere and straddle words and frames; sizes are 1..8 bytes.
// `via` lets fate choose among the answers caches hold: 0 the newest, counting back; past the oldest: a fresh walk.
// `as` matters with paging on: who accesses, and whether EFLAGS.AC lifts SMAP.
// Guests are in long mode. Sources: Intel SDM vol. 3A, "Paging"; vol. 2, "MOV - Move to/from Control Registers".
//
//   63 62   52 51                 12 11  9 8 7 6 5 4 3 2 1 0
//  |NX|       |     frame number    |     |G|S|D|A|c|t|U|W|P|
//
//   S superpage (leaf above level 1, where bit 12 belongs to the memory type and the bits from 13 to the frame are reserved)

import { gfnField, offsetField, type OpsOf } from './field.ts';
import type { Phase } from './operand.ts';

/** Who accesses: a supervisor, one with EFLAGS.AC set, a user. */
export const privileges = ['supervisor', 'supervisorAc', 'user'] as const;

export type Privilege = (typeof privileges)[number];

/** CR0.PG, CR0.WP, EFER.NXE, CR4.PGE, CR4.PCIDE, CR4.SMEP and CR4.SMAP; the register of a vCPU holds one bit for each. */
export const controls = ['paging', 'writeProtect', 'executeDisable', 'globalPages', 'pcids', 'smep', 'smap'] as const;

export type Control = (typeof controls)[number];

/** Process-context identifiers have 12 bits. */
export const PCIDS = 4096;

/** Bits of a guest's table entry, as the flags of the literal `tableEntry` have them: 0..11 as they stand, 12..15 at 60..63. */
export const tableFlags = {
  present: 0x1,
  write: 0x2,
  user: 0x4,
  accessed: 0x20,
  dirty: 0x40,
  superpage: 0x80,
  global: 0x100,
  noExecute: 0x8000,
} as const;

const sizeField = { type: 'int', min: 1, max: 8 } as const;
const viaField = { type: 'int', min: 0, max: 15 } as const;
const wordField = { type: 'word' } as const;
const asField = { type: 'oneOf', values: privileges, absent: 'supervisor' } as const;

export const pagingOps = {
  'paging.read': {
    says: 'reads {size} bytes at {gfn}+{offset}{as}',
    replies: ['ok', 'violation', 'pageFault', 'generalProtection', 'invalidOpcode', 'ERESTART'],
    fields: { gfn: gfnField, offset: offsetField, size: sizeField, via: viaField, as: asField },
  },
  'paging.write': {
    says: 'writes {value} ({size} bytes) at {gfn}+{offset}{as}',
    replies: ['ok', 'violation', 'pageFault', 'generalProtection', 'invalidOpcode', 'ERESTART'],
    fields: { gfn: gfnField, offset: offsetField, size: sizeField, value: wordField, via: viaField, as: asField },
  },
  'paging.compareExchange': {
    says: 'replaces {expected} by {value} ({size} bytes) at {gfn}+{offset}{as}',
    replies: ['ok', 'violation', 'pageFault', 'generalProtection', 'invalidOpcode', 'ERESTART'],
    fields: {
      gfn: gfnField,
      offset: offsetField,
      size: sizeField,
      expected: wordField,
      value: wordField,
      via: viaField,
      as: asField,
    },
  },
  'paging.fetch': {
    says: 'fetches {size} bytes of code at {gfn}+{offset}{as}',
    replies: ['ok', 'violation', 'pageFault', 'generalProtection', 'invalidOpcode', 'ERESTART'],
    fields: { gfn: gfnField, offset: offsetField, size: sizeField, via: viaField, as: asField },
  },
  'paging.setControl': {
    says: 'turns {control} {to}',
    replies: ['ok', 'generalProtection'],
    fields: { control: { type: 'oneOf', values: controls }, to: { type: 'oneOf', values: ['off', 'on'] } },
  },
  /** MOV to CR3. `keep`: bit 63, which with PCIDs on keeps what is remembered. */
  'paging.setRoot': {
    says: 'loads its root, {gfn} under PCID {pcid}, {flush}',
    replies: ['ok', 'generalProtection'],
    fields: {
      gfn: gfnField,
      pcid: { type: 'int', min: 0, max: PCIDS - 1 },
      flush: { type: 'oneOf', values: ['flushing', 'keeping'] },
    },
  },
} as const;

export type PagingOp<P extends Phase> = OpsOf<typeof pagingOps, P>;

/** Operations that touch bytes. */
export type AccessOp<P extends Phase> = Extract<PagingOp<P>, { readonly via: number }>;
