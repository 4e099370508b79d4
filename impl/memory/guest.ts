// Arrays of 64-bit words in a guest's memory, as hypercalls fetch and store them: any byte address, also across frames.
// Buffers may lie in the caller's own RAM and hypervisor pages and in foreign entries, never in granted ones; what is stored
// to read-only RAM is dropped silently. The hypervisor looks every frame up anew and uses it in the same act.
// A first reader may skip the byte arithmetic. Sources: Xen arch/x86/hvm/hvm.c (__hvm_copy), xen/guest_access.h.

import type { Principal } from '#abi/acts.ts';
import type { DomId } from '#abi/address.ts';
import { bytesPerFrame } from '#abi/geometry.ts';
import type { Buffer } from '#abi/operand.ts';
import { field, withField } from '#lib/bits.ts';
import { lookup } from '../hap/table.ts';
import type { Machine } from '../machine.ts';
import type { Step } from '../port.ts';
import { isRamType } from './p2m.ts';

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
}

/** Byte `i` of an element in a frame that a hypercall of the domain may use as its buffer; undefined: a fault. */
function placeOf(m: Machine, { domain, buffer, index }: Element, i: number): Place | undefined {
  if (buffer.in !== 'guest') return undefined;
  const size = bytesPerFrame(m.geometry);
  const at = buffer.offset + index * BYTES + i;
  const found = lookup(m, domain, buffer.gfn + Math.floor(at / size));
  if (found === undefined) return undefined;
  const { mfn, type } = found;
  const isOwn = isRamType(type) && m.f.frameOwner.get(mfn) === domain + 1;
  if (!isOwn && type !== 'foreign') return undefined;
  const offset = at % size;
  return { mfn, index: Math.floor(offset / BYTES), byte: offset % BYTES, readOnly: type === 'ramRo' };
}

/** Whether an element is a word of one frame: the ordinary case. */
const isAligned = ({ buffer }: Element): boolean => buffer.in === 'guest' && buffer.offset % BYTES === 0;

/** `half` of a word, 0 low or 1 high, with byte `i` of the whole word replaced if it lies there. */
const withByte = (half: number, word: number, at: { readonly i: number; readonly value: number }): number =>
  Math.floor(at.i / 4) === half ? withField(word, (at.i % 4) * 8, 8, at.value) : word;

const byteOf = (i: number, lo: number, hi: number): number => field(i < 4 ? lo : hi, (i % 4) * 8, 8);

function store(m: Machine, who: Principal, to: Place & { readonly lo: number; readonly hi: number }): void {
  if (to.readOnly) return;
  m.port.poke(who, to);
}

/** Fetches a word of a guest into the port's `lo` and `hi`; false: a fault. One act: nobody changes half of it meanwhile. */
export function* fetchWord(m: Machine, who: Principal, from: Element): Step<boolean> {
  if (from.buffer.in !== 'guest') return false;
  yield* m.port.point('copyFrom', 'guest');
  let lo = 0;
  let hi = 0;
  for (let i = 0; i < BYTES; i += 1) {
    const place = placeOf(m, from, i);
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
  if (to.buffer.in !== 'guest') return false;
  yield* m.port.point('copyTo', 'guest');
  const { lo, hi } = to;
  for (let i = 0; i < BYTES; i += 1) {
    const place = placeOf(m, to, i);
    if (place === undefined) return false;
    if (isAligned(to)) {
      store(m, who, { ...place, lo, hi });
      return true;
    }
    m.port.peek(who, place);
    const at = { i: place.byte, value: byteOf(i, lo, hi) };
    store(m, who, { ...place, lo: withByte(0, m.port.lo, at), hi: withByte(1, m.port.hi, at) });
  }
  return true;
}
