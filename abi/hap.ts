// The bits of nested page-table entries, as data. Predicates over them (present, leaf, reserved) are written twice: in
// model/hap and in impl/hap. Sources: Intel SDM vol. 3C, "EPT Translation Mechanism", tables of EPT entry formats;
// software bits as in Xen asm/hvm/vmx/vmcs.h, ept_entry_t.
//
//   63      58 57  56 55 54   52 51                 12 11 10 9 8 7 6 5  3 2 1 0
//  |         |  access |        |     frame number   |  | xu|D|A|S|I|mt |X|W|R|
//
//   S superpage (leaf above level 1), I ignore PAT, mt memory type; bits 52..61 are ignored by hardware: software keeps
//   the p2m type there (52..57) and what access was left of it (58..61).
//
// NPT has the entries of long mode. Sources: AMD64 APM vol. 2, "Page-Translation-Table Entry Fields", "Nested Paging"; software
// bits as in Xen arch/x86/mm/p2m-pt.c, p2m_type_to_flags.
//
//   63 62   59 58   52 51                 12 11   9 8 7 6 5 4  3 2 1 0
//  |NX|       | type  |     frame number    |      |G|S|D|A|cd|wt|U|W|P|
//
//   U user: every access of a guest counts as one, so it must be set at each level. S superpage (leaf above level 1, where
//   bit 12 belongs to the memory type, not to the frame number); at level 1 bit 7 belongs to the memory type. In entries
//   that lead to a table G is reserved from level 3 on, and so is S where there are no superpages. cd, wt: memory type.

import type { Declaration } from './field.ts';
import type { OpsOf } from './field.ts';
import type { Phase } from './operand.ts';

/** Bit numbers in the low and high half of an EPT entry. */
export const eptBits = {
  read: 0,
  write: 1,
  execute: 2,
  memoryTypeFrom: 3,
  memoryTypeCount: 3,
  ignorePat: 6,
  superpage: 7,
  accessed: 8,
  dirty: 9,
  frameFrom: 12,
  /** In the high half: first bit and width of the p2m type. */
  typeFrom: 52 - 32,
  typeCount: 6,
  /** In the high half: first bit and width of the access that was left. */
  accessFrom: 58 - 32,
  accessCount: 4,
} as const;

/** Bit numbers in the low and high half of an NPT entry. */
export const nptBits = {
  present: 0,
  write: 1,
  user: 2,
  /** In a leaf: not cached. */
  cacheDisable: 4,
  accessed: 5,
  dirty: 6,
  superpage: 7,
  global: 8,
  frameFrom: 12,
  /** In a superpage leaf: the first bit of the frame number belongs to the memory type. */
  superpageMemoryType: 12,
  /** The lowest level at which an entry that leads to a table must not have bit `global`. */
  globalReservedFrom: 3,
  /** In the high half: no execution. */
  noExecute: 63 - 32,
  /** In the high half: first bit and width of the p2m type. */
  typeFrom: 52 - 32,
  typeCount: 7,
} as const;

/** Memory types of leaves (Intel SDM vol. 3A, memory types): uncacheable for devices, write-back for everything else. */
export const EPT_UNCACHEABLE = 0;
export const EPT_WRITE_BACK = 6;

/** P2M types by their code in the software bits (names after Xen asm/p2m.h, p2m_type_t). */
export const p2mTypes = [
  'none',
  'ramRw',
  'ramRo',
  'ramLogDirty',
  'mmioDirect',
  'foreign',
  'grantRw',
  'grantRo',
  'populateOnDemand',
] as const;

/** What a gfn means: nothing, RAM (of some kind), a device, another domain's frame, a granted frame, RAM that is to come when it is used. */
export type P2mType = (typeof p2mTypes)[number];

/**
 * Rights an entry of each type gives the guest, as tables are written: read, write, execute, in both formats. What such an
 * entry may give is said apart from this (model/entitlement.ts). Sources: Xen mm/p2m-ept.c,
 * ept_p2m_type_to_flags; mm/p2m-pt.c, p2m_type_to_flags.
 */
export const p2mRights: Readonly<Record<P2mType, string>> = {
  none: '',
  ramRw: 'rwx',
  ramRo: 'rx',
  ramLogDirty: 'rx',
  mmioDirect: 'rwx',
  foreign: 'rw',
  grantRw: 'rw',
  grantRo: 'r',
  populateOnDemand: '',
};

/** What can be left of the rights of an entry, by its code in the software bits (Xen mem_access.h, p2m_access_t). */
export const p2mAccesses = ['n', 'r', 'w', 'rw', 'x', 'rx', 'wx', 'rwx', 'rx2rw', 'n2rwx'] as const;

/** Those rights alone; the last two give way: `rx2rw` at the first write, `n2rwx` at the first use. */
export type P2mAccess = (typeof p2mAccesses)[number];

/** Everything that the type gives: what is not restricted, and all that entries of NPT know. */
export const UNRESTRICTED: P2mAccess = 'rwx';

/**
 * Rights that each leaves, as tables are written. What may be reached is said apart from this (model/entitlement.ts). Source: Xen
 * mm/p2m-ept.c, ept_p2m_type_to_flags.
 */
export const p2mAccessRights: Readonly<Record<P2mAccess, string>> = {
  n: '',
  r: 'r',
  w: 'w',
  rw: 'rw',
  x: 'x',
  rx: 'rx',
  wx: 'wx',
  rwx: 'rwx',
  rx2rw: 'rx',
  n2rwx: '',
};

/** Nested paging has no calls of its own in this vocabulary. */
export const hapOps = {} as const satisfies Readonly<Record<string, Declaration>>;

export type HapOp<P extends Phase> = OpsOf<typeof hapOps, P>;
