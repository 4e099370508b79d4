// Operands, agents' points and failures in words. The phrases for operations stand with their declarations; here is what
// all operations share. A first reader may skip this file.

import { hasAll, without } from '#lib/bits.ts';
import { unreachable } from '#lib/invariant.ts';
import { type DomId, DOMID_INVALID, DOMID_SELF, INVALID_GFN, type Word } from './address.ts';
import type { Failure, FailureClass } from './failures.ts';
import type { Operand } from './fields.ts';
import { grantFlags } from './grants.ts';
import type { Buffer, Extents, FrameOperand, GfnOperand, HandedOut, Literal, Phase } from './operand.ts';
import { tableFlags } from './paging.ts';
import type { ObjectKind, Pause, PointClass } from './points.ts';
import { tagLabel } from './tags.ts';

/** 1st, 2nd, 3rd, 4th ... 11th ... 21st. */
export function ordinal(n: number): string {
  const teen = Math.floor(n / 10) % 10 === 1;
  const ending = teen ? undefined : (['th', 'st', 'nd', 'rd'] as const)[n % 10];
  return `${n}${ending ?? 'th'}`;
}

const hex = (n: number): string => `0x${n.toString(16)}`;

/** A 64-bit word: its origin if it is a tag, else its value. */
export function describeWord(word: Word): string {
  const label = tagLabel(word);
  if (label !== undefined) return `the tag of step ${label}`;
  return word.hi === 0 ? hex(word.lo) : `${hex(word.hi)}_${word.lo.toString(16).padStart(8, '0')}`;
}

/** A domain as its grammar wants it: `d1`, `itself`. */
export const describeDomain = (domain: DomId): string => {
  if (domain === DOMID_SELF) return 'itself';
  return domain === DOMID_INVALID ? 'no domain' : `d${domain}`;
};

/** The digits of a path, root first; the empty path is 0. */
export const describePath = (path: readonly number[]): string => (path.length === 0 ? '0' : path.join('.'));

const describeGfn = (gfn: GfnOperand | number): string => {
  const number = typeof gfn === 'number' ? gfn : 'raw' in gfn ? gfn.raw : undefined;
  if (number === INVALID_GFN) return 'an invalid gfn';
  if (number !== undefined) return `gfn ${hex(number)}`;
  if (typeof gfn !== 'object' || 'raw' in gfn) return 'a gfn';
  if ('path' in gfn) return `gfn ${describePath(gfn.path)}`;
  return `the frame at gfn ${describePath(gfn.at)} of ${describeDomain(gfn.of)}`;
};

function describeFrame(frame: FrameOperand | number): string {
  if (typeof frame === 'number') return `mfn ${hex(frame)}`;
  if ('raw' in frame) return `mfn ${hex(frame.raw)}`;
  if ('special' in frame) return `${frame.special} frame ${frame.index} of ${describeDomain(frame.domain)}`;
  if ('step' in frame) return `frame ${frame.index} from step ${frame.step}`;
  return `the frame behind ${describeGfn(frame.gfn)} of ${describeDomain(frame.domain)}`;
}

const describeHandle = (handle: HandedOut | number): string => {
  if (typeof handle === 'number') return `handle ${handle}`;
  if ('raw' in handle) return `handle ${handle.raw}`;
  return handle.index === 0 ? `handle from step ${handle.step}` : `handle ${handle.index} from step ${handle.step}`;
};

const describeStart = (start: HandedOut | number): string => {
  if (typeof start === 'object' && 'step' in start) return `where step ${start.step} stopped`;
  const element = typeof start === 'number' ? start : start.raw;
  return element === 0 ? 'the start' : `element ${element}`;
};

const NAMED_FLAGS = [
  ['readOnly', 'read-only'],
  ['reading', 'in use for reading'],
  ['writing', 'in use for writing'],
  ['subPage', 'part of a page'],
] as const;

/** A version-1 grant entry by its flags. Bits without a name are shown as a number. */
function describeGrant(flags: number, domain: string, gfn: string): string {
  const kinds = [
    `an unused grant entry with ${gfn} for ${domain}`,
    `a grant of ${gfn} to ${domain}`,
    `an offer to take a frame for ${gfn} from ${domain}`,
    `a transitive grant of ${gfn} to ${domain}`,
  ];
  const said = NAMED_FLAGS.filter(([name]) => hasAll(flags, grantFlags[name]));
  const rest = said.reduce((left, [name]) => without(left, grantFlags[name]), without(flags, grantFlags.kindMask));
  const notes = [...said.map(([, words]) => words), ...(rest === 0 ? [] : [`flags ${hex(rest)}`])];
  return `${kinds[flags % 4] ?? ''}${notes.length === 0 ? '' : ` (${notes.join(', ')})`}`;
}

const TABLE_FLAGS = [
  ['present', 'present'],
  ['write', 'writable'],
  ['user', 'user'],
  ['accessed', 'accessed'],
  ['dirty', 'dirty'],
  ['superpage', 'superpage'],
  ['global', 'global'],
  ['noExecute', 'no execution'],
] as const;

/** An entry of a guest's tables by its flags. Bits without a name are shown as a number. */
function describeTableEntry(flags: number, gfn: string): string {
  const said = TABLE_FLAGS.filter(([name]) => hasAll(flags, tableFlags[name]));
  const rest = said.reduce((left, [name]) => without(left, tableFlags[name]), flags);
  const notes = [...said.map(([, words]) => words), ...(rest === 0 ? [] : [`flags ${hex(rest)}`])];
  return `a table entry for ${gfn}${notes.length === 0 ? '' : ` (${notes.join(', ')})`}`;
}

function describeLiteral(literal: Literal | Word): string {
  if (!('as' in literal)) return describeWord(literal);
  switch (literal.as) {
    case 'fresh':
      return 'a fresh tag';
    case 'word':
      return describeWord(literal);
    case 'gfn':
      return `the number of ${describeGfn(literal.gfn)}`;
    case 'grantEntry':
      return describeGrant(literal.flags, describeDomain(literal.domain), describeGfn(literal.gfn));
    case 'tableEntry':
      return describeTableEntry(literal.flags, describeGfn(literal.gfn));
    default:
      return unreachable(literal);
  }
}

function describeBuffer(buffer: Buffer<Phase>): string {
  switch (buffer.in) {
    case 'guest':
      return `${describeGfn(buffer.gfn)}+${buffer.offset}`;
    case 'hypervisor':
      return 'hypervisor memory';
    case 'nonCanonical':
      return 'a non-canonical address';
    case 'null':
      return 'a null pointer';
    default:
      return unreachable(buffer);
  }
}

const describeExtents = (extents: Extents<Phase>): string =>
  extents.by === 'value'
    ? `[${extents.gfns.map(describeGfn).join(', ')}]`
    : `${extents.count} gfns listed at ${describeBuffer(extents.buffer)}`;

/** One operand, without its name. */
export function describeOperand(one: Operand<Phase>): string {
  switch (one.type) {
    case 'gfn':
      return describeGfn(one.value);
    case 'frame':
      return describeFrame(one.value);
    case 'handle':
      return describeHandle(one.value);
    case 'start':
      return describeStart(one.value);
    case 'word':
      return describeLiteral(one.value);
    case 'quad':
      return describeWord(one.value);
    case 'buffer':
      return describeBuffer(one.value);
    case 'extents':
      return describeExtents(one.value);
    case 'domain':
      return describeDomain(one.value);
    case 'pcpu':
      return one.value < 0 ? `${one.value} (nowhere)` : `${one.value}`;
    case 'int':
    case 'oneOf':
    case 'ref':
    case 'vcpu':
      return `${one.value}`;
    default:
      return unreachable(one);
  }
}

const pointWords: Readonly<Record<PointClass, string>> = {
  load: 'load from',
  store: 'store to',
  compareExchange: 'compare-exchange on',
  copyFrom: 'copy from',
  copyTo: 'copy to',
  lock: 'locking of',
  unlock: 'unlocking of',
  flush: 'flush of',
  allocate: 'allocation from',
  free: 'freeing of',
  scrub: 'scrubbing of',
  reference: 'reference to',
};

const objectWords: Readonly<Record<ObjectKind, string>> = {
  table: 'a table',
  guest: 'guest memory',
  grantEntry: 'a grant entry',
  active: 'an active entry',
  maptrack: 'a maptrack entry',
  frame: 'a frame',
  heap: 'the heap',
  pool: 'a pool',
  domain: 'a domain',
  p2mLock: 'a P2M lock',
  grantLock: 'a grant table lock',
  activeLock: 'an active entry lock',
  maptrackLock: 'a maptrack lock',
  heapLock: 'the heap lock',
  domainLock: 'a domain lock',
  pageLock: 'a page lock',
  cache: 'a cache',
};

/** Where an operation pauses: `before the 1st store to a table`. */
export const describePause = (pause: Pause): string =>
  `before the ${ordinal(pause.nth)} ${pointWords[pause.class]} ${objectWords[pause.object]}`;

const failureWords: Readonly<Record<FailureClass, string>> = {
  heap: 'heap request',
  pool: 'pool request',
  iommuTable: 'IOMMU table request',
  maptrack: 'maptrack request',
  iommuOperation: 'IOMMU operation',
  copyBack: 'copy-back',
  compareExchange: 'compare-exchange',
  lateInvalidation: 'late invalidation',
  logDirty: 'request for a page of a bitmap',
};

/** What fails: `the 2nd heap request`. */
export const describeFailure = (failure: Failure): string =>
  `the ${ordinal(failure.nth)} ${failureWords[failure.class]}`;
