// Arrays of 64-bit words in a guest's memory, as hypercalls fetch and store them: any byte address, also across frames. Of a vCPU
// with paging on the address is linear, and its pages are looked for in the guest's tables first.
// Buffers may lie in the caller's own RAM and hypervisor pages and in foreign entries, never in granted ones; what is stored
// to read-only RAM is dropped silently. The hypervisor looks every frame up anew and uses it in the same act. In the memory of paravirtual
// guests it reads and writes by the guest's own tables (pv/copy.ts).
// A first reader may skip the byte arithmetic. Sources: Xen arch/x86/hvm/hvm.c (__hvm_copy), xen/guest_access.h.

import type { Principal } from '#abi/acts.ts';
import type { DomId, Word } from '#abi/address.ts';
import { bytesPerFrame } from '#abi/geometry.ts';
import type { Buffer } from '#abi/operand.ts';
import { lookup } from '../hap/table.ts';
import type { Machine } from '../machine.ts';
import type { Step } from '../port.ts';
import { walkGuest, type Sought } from '../paging/guest-walk.ts';
import { hasControl } from '../paging/registers.ts';
import { inTables, isCanonical, PAGES, wrapped } from '../paging/pages.ts';
import { runningOf } from '../paging/step.ts';
import { markGfn } from './dirty-log.ts';
import { isRamType } from './p2m.ts';
import { demand, isOnDemand } from './pod-demand.ts';
import { fetchRaw, isNameable, storeRaw } from '../pv/copy.ts';
import { byteOf, withByte } from './bytes.ts';
import { isParavirtual } from './target.ts';

/** Element `index` of an array of words of `domain`. */
export interface Element {
  readonly domain: DomId;
  readonly buffer: Buffer<'concrete'>;
  readonly index: number;
}

/** A word to be stored there; `done`: parts of the operation complete by then, for the log (the element if absent). */
export interface Stored extends Element {
  readonly lo: number;
  readonly hi: number;
  readonly done?: number;
}

const BYTES = 8;

/** Where a byte of an element lies in the machine. */
interface Place {
  readonly mfn: number;
  readonly index: number;
  /** Its place in the word: 0..7. */
  readonly byte: number;
  readonly readOnly: boolean;
  /** Which page of the element it is in, 0 or 1, and where that lies. */
  readonly page: number;
  readonly gfn: number;
}

/** The gfns of the page that an element begins in and of that after it; undefined: a fault. */
type Pages = readonly [number | undefined, number | undefined];

/** Where an element begins: its frame, and the byte in it. Elements before an array's beginning are counted below 0. */
function beginOf(m: Machine, { buffer, index }: Element): { readonly first: number; readonly offset: number } {
  if (buffer.in !== 'guest') return { first: 0, offset: 0 };
  const size = bytesPerFrame(m.geometry);
  const at = buffer.offset + index * BYTES;
  const frames = Math.floor(at / size);
  // Addresses are 64 bits and wrap.
  return { first: wrapped(buffer.gfn + frames), offset: at - frames * size };
}

/** The frame that an element begins in, and whether it reaches into the next. */
function spanOf(m: Machine, of: Element): { readonly first: number; readonly isCrossing: boolean } {
  const { first, offset } = beginOf(m, of);
  return { first, isCrossing: offset + BYTES > bytesPerFrame(m.geometry) };
}

/** Where the pages of an element lie in the guest: what a vCPU with paging on names has to be translated. */
function* pagesOf(m: Machine, who: Principal, of: Element & { readonly write: boolean }): Step<Pages> {
  const { first, isCrossing } = spanOf(m, of);
  const agent = m.port.current?.call.agent;
  const key = agent?.kind === 'vcpu' ? runningOf(m, agent).key : -1;
  if (key < 0 || !hasControl(m, key, 'paging')) return [first, first + 1];
  const sought = { key, dom: of.domain, write: of.write };
  const start = yield* translated(m, who, { ...sought, page: first });
  return [start, isCrossing ? yield* translated(m, who, { ...sought, page: first + 1 }) : undefined];
}

/** The gfn behind a linear frame. */
function* translated(m: Machine, who: Principal, sought: Sought): Step<number | undefined> {
  const page = sought.page % PAGES;
  if (!isCanonical(m, page)) return undefined;
  const gfn = yield* walkGuest(m, who, { ...sought, page: inTables(m, page) });
  return gfn < 0 ? undefined : gfn;
}

/** Byte `i` of an element in a frame that a hypercall of the domain may use as its buffer; undefined: a fault. */
function placeOf(m: Machine, of: Element, pages: Pages, i: number): Place | undefined {
  const { domain, buffer } = of;
  if (buffer.in !== 'guest') return undefined;
  const size = bytesPerFrame(m.geometry);
  const at = beginOf(m, of).offset + i;
  const page = at < size ? 0 : 1;
  const gfn = pages[page];
  const found = gfn === undefined ? undefined : lookup(m, domain, gfn);
  if (gfn === undefined || found === undefined) return undefined;
  const { mfn, type } = found;
  const isOwn = isRamType(type) && m.f.frameOwner.get(mfn) === domain + 1;
  if (!isOwn && type !== 'foreign') return undefined;
  const offset = at % size;
  return { mfn, index: Math.floor(offset / BYTES), byte: offset % BYTES, readOnly: type === 'ramRo', page, gfn };
}

/**
 * The act of a fetch or a store is about to happen, and nothing that it needs is on demand any more. The second page is not asked for
 * as long as the first is not there. What could not be populated faults, and so does a page that was populated and has been
 * reclaimed for the other one: each is asked for once, or the two would be so for ever.
 */
function* approach(m: Machine, of: Element, pages: Pages, pointClass: 'copyFrom' | 'copyTo'): Step<void> {
  const asked: number[] = [];
  const { isCrossing } = spanOf(m, of);
  for (;;) {
    yield* m.port.point(pointClass, 'guest');
    const needed = isCrossing && placeOf(m, of, pages, 0) !== undefined ? pages : [pages[0]];
    const gfn = needed.find((one) => one !== undefined && !asked.includes(one) && isOnDemand(m, of.domain, one));
    if (gfn === undefined) return;
    asked.push(gfn);
    yield* demand(m, of.domain, gfn);
  }
}

/** Whether an element is a word of one frame: the ordinary case. */
const isAligned = ({ buffer }: Element): boolean => buffer.in === 'guest' && buffer.offset % BYTES === 0;

function store(m: Machine, who: Principal, { mfn, index, readOnly }: Place, { lo, hi }: Word): void {
  if (!readOnly) m.port.poke(who, { mfn, index, lo, hi });
}

/**
 * Fetches a word of a guest into the port's `lo` and `hi`; false: a fault. The fetch is one act, whatever it took to find the word:
 * nobody changes half of it meanwhile.
 */
export function* fetchWord(m: Machine, who: Principal, from: Element): Step<boolean> {
  if (isParavirtual(m, from.domain)) return isNameable(m, from) && (yield* fetchRaw(m, who, from));
  if (from.buffer.in !== 'guest') return false;
  const pages = yield* pagesOf(m, who, { ...from, write: false });
  yield* approach(m, from, pages, 'copyFrom');
  let lo = 0;
  let hi = 0;
  for (let i = 0; i < BYTES; i += 1) {
    const place = placeOf(m, from, pages, i);
    if (place === undefined) return false;
    m.port.peek(who, place);
    if (isAligned(from)) return true;
    const value = byteOf(place.byte, m.port.lo, m.port.hi);
    lo = withByte(0, lo, { i, value });
    hi = withByte(1, hi, { i, value });
  }
  m.port.lo = lo;
  m.port.hi = hi;
  return true;
}

/** Stores a word to a guest; false: refused, or a fault, which leaves the bytes before it written. */
export function* storeWord(m: Machine, who: Principal, to: Stored): Step<boolean> {
  if (m.port.fails('copyBack')) {
    m.port.refuse('copyBack', to.done ?? to.index);
    return false;
  }
  if (isParavirtual(m, to.domain)) return isNameable(m, to) && (yield* storeRaw(m, who, to));
  if (to.buffer.in !== 'guest') return false;
  const pages = yield* pagesOf(m, who, { ...to, write: true });
  yield* approach(m, to, pages, 'copyTo');
  const { isStored, written } = storeBytes(m, who, to, pages);
  for (const gfn of written) yield* markGfn(m, to.domain, gfn);
  return isStored;
}

/** Stores what can be stored, at once; and the gfns that were written. */
function storeBytes(m: Machine, who: Principal, to: Stored, pages: Pages): { isStored: boolean; written: number[] } {
  const { lo, hi } = to;
  const written: number[] = [];
  let last = -1;
  for (let i = 0; i < BYTES; i += 1) {
    const place = placeOf(m, to, pages, i);
    if (place === undefined) return { isStored: false, written };
    if (place.page !== last && !place.readOnly) written.push(place.gfn);
    last = place.page;
    if (isAligned(to)) {
      store(m, who, place, { lo, hi });
      return { isStored: true, written };
    }
    m.port.peek(who, place);
    const at = { i: place.byte, value: byteOf(i, lo, hi) };
    store(m, who, place, { lo: withByte(0, m.port.lo, at), hi: withByte(1, m.port.hi, at) });
  }
  return { isStored: true, written };
}
