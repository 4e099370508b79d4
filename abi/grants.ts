// Grant tables, version 1: how a domain lets another one map or copy its frames.
// Sources: Xen public/grant_table.h (flags, entry layout, status codes), common/grant_table.c (which code when).
//
//   entry (8 bytes):  63        32 31      16 15           0
//                    |  frame     |  domid   |  flags      |

import { bufferField, countField, domainField, gfnField, offsetField, startField, type OpsOf } from './field.ts';
import type { Phase } from './operand.ts';

/** Bits of an entry's flags (GTF_*). The low two bits are the entry's kind. */
export const grantFlags = {
  kindMask: 3,
  invalid: 0,
  permitAccess: 1,
  acceptTransfer: 2,
  transitive: 3,
  readOnly: 4,
  reading: 8,
  writing: 16,
  subPage: 256,
} as const;

/** Bits of a map request (GNTMAP_*). */
export const mapFlags = {
  device: 1,
  host: 2,
  readOnly: 4,
  applicationMap: 8,
  containsPte: 16,
  /** The lowest of three bits that are left to guests in the entry. */
  available: 0x1_0000,
} as const;

/** Status codes (GNTST_*) by name. */
export const grantStatus = {
  okay: 0,
  generalError: -1,
  badDomain: -2,
  badGntref: -3,
  badHandle: -4,
  badVirtAddr: -5,
  badDevAddr: -6,
  noDeviceSpace: -7,
  permissionDenied: -8,
  badPage: -9,
  badCopyArg: -10,
  addressTooBig: -11,
  eagain: -12,
  noSpace: -13,
} as const;

export type GrantStatus = keyof typeof grantStatus;

const refField = { type: 'ref' } as const;
const bySide = { type: 'oneOf', values: ['gfn', 'ref'] } as const;
const lengthField = { type: 'int', min: 0, max: 0xffff } as const;
/** Of a paravirtual guest: the bytes of an address below its frame. For others an address is a gfn. */
const belowField = { type: 'int', min: 0, max: 0xfff, absent: 0 } as const;

/** Batches of all grant operations hold at most this many elements in a trace. */
const BATCH_MAX = 16;

export const grantsOps = {
  'grants.map': {
    says: 'maps {elements}, statuses to {results}, from {start}',
    replies: ['ok', 'preempted', 'E2BIG', 'EFAULT'],
    elements: ['okay', 'generalError', 'badDomain', 'badGntref', 'badPage', 'noSpace'],
    fields: {
      elements: {
        type: 'list',
        max: BATCH_MAX,
        of: {
          flags: { type: 'int', min: 0, max: 0x7_ffff },
          domain: domainField,
          ref: refField,
          gfn: gfnField,
          offset: belowField,
        },
      },
      results: bufferField,
      start: startField,
    },
  },
  'grants.unmap': {
    says: 'unmaps {elements}, statuses to {results}, from {start}',
    replies: ['ok', 'E2BIG', 'EFAULT'],
    elements: ['okay', 'generalError', 'badHandle', 'badDevAddr'],
    fields: {
      elements: {
        type: 'list',
        max: BATCH_MAX,
        of: {
          handle: { type: 'handle' },
          gfn: gfnField,
          dev: { type: 'oneOf', values: ['none', 'mapped', 'wrong'] },
          offset: belowField,
        },
      },
      results: bufferField,
      start: startField,
    },
  },
  /** unmap_and_replace: what is mapped at the second address comes to where the grant was. All zero: nothing does. */
  'grants.replace': {
    says: 'replaces mappings {elements}, statuses to {results}, from {start}',
    replies: ['ok', 'E2BIG', 'EFAULT'],
    elements: ['okay', 'generalError', 'badHandle'],
    fields: {
      elements: {
        type: 'list',
        max: BATCH_MAX,
        of: { handle: { type: 'handle' }, gfn: gfnField, newGfn: gfnField, offset: belowField, newOffset: belowField },
      },
      results: bufferField,
      start: startField,
    },
  },
  'grants.copy': {
    says: 'copies {elements}, statuses to {results}, from {start}',
    replies: ['ok', 'preempted', 'E2BIG', 'EFAULT'],
    elements: ['okay', 'generalError', 'badDomain', 'badGntref', 'badPage', 'badCopyArg', 'permissionDenied'],
    fields: {
      elements: {
        type: 'list',
        max: BATCH_MAX,
        of: {
          sourceBy: bySide,
          sourceDomain: domainField,
          sourceRef: refField,
          sourceGfn: gfnField,
          sourceOffset: offsetField,
          destBy: bySide,
          destDomain: domainField,
          destRef: refField,
          destGfn: gfnField,
          destOffset: offsetField,
          length: lengthField,
        },
      },
      results: bufferField,
      start: startField,
    },
  },
  'grants.query': {
    says: 'asks for the grant table size of {target}',
    replies: ['okay', 'badDomain', 'permissionDenied'],
    fields: { target: domainField },
  },
  'grants.setupTable': {
    says: 'sets {target} up with {frames} grant frames, list to {list}',
    replies: ['okay', 'generalError', 'badDomain', 'badVirtAddr', 'permissionDenied'],
    fields: { target: domainField, frames: countField, list: bufferField },
  },
} as const;

export type GrantsOp<P extends Phase> = OpsOf<typeof grantsOps, P>;
