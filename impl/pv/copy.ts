// Copies between the hypervisor and the memory of a paravirtual guest, at linear addresses that the guest gives. The hypervisor runs on
// the tables of the guest's kernel, so its own accesses go where they lead: one access of a supervisor for each word, by what the
// processor remembers as well. What keeps a guest from naming the hypervisor's own memory, which is mapped there too, is a check of
// its own, made for each word or once for an array that is gone through in order.
// A first reader may skip `piecesOf`. Sources: Xen asm/x86_64/uaccess.h (__addr_ok, access_ok, array_access_ok), asm/guest_access.h
// (guest_handle_subrange_okay, __copy_from_guest_offset), arch/x86/usercopy.c.

import type { Principal } from '#abi/acts.ts';
import { bytesPerFrame, framesPerLeaf, tableEntries } from '#abi/geometry.ts';
import type { Buffer } from '#abi/operand.ts';
import { RIGHT } from '#abi/rights.ts';
import type { Machine } from '../machine.ts';
import { readRuns, writeRuns, type Run } from '../paging/hardware.ts';
import { translateLinear } from '../paging/linear-walker.ts';
import { inTables, isCanonical, PAGES, wrapped } from '../paging/pages.ts';
import { runningOf } from '../paging/step.ts';
import type { Step } from '../port.ts';
import { indexIn, isXenSlot } from './entry.ts';
import { ownWindow } from './window.ts';

/** A word of an array at a guest's address. Before the array's beginning numbers are below 0: addresses are 64 bits and wrap. */
export interface Element {
  readonly buffer: Buffer<'concrete'>;
  readonly index: number;
}

const BYTES = 8;

interface Piece {
  readonly page: number;
  readonly offset: number;
  readonly count: number;
}

/** The byte address of an element, as a page and an offset; page -1: it is none. */
function addressOf(m: Machine, { buffer, index }: Element): { readonly page: number; readonly offset: number } {
  if (buffer.in !== 'guest') return { page: -1, offset: 0 };
  const size = bytesPerFrame(m.geometry);
  const at = buffer.offset + index * BYTES;
  const page = wrapped(buffer.gfn + Math.floor(at / size));
  return { page, offset: at - size * Math.floor(at / size) };
}

/** Its bytes in the one or two pages that it lies in. */
function piecesOf(m: Machine, of: Element): readonly Piece[] {
  const { page, offset } = addressOf(m, of);
  const count = Math.min(BYTES, bytesPerFrame(m.geometry) - offset);
  const rest = { page: (page + 1) % PAGES, offset: 0, count: BYTES - count };
  return count === BYTES ? [{ page, offset, count }] : [{ page, offset, count }, rest];
}

/**
 * Whether a guest may name an element: it lies in the lower half, or above what is the hypervisor's in the upper one. What follows it in order
 * meets the hole between the halves before anything of the hypervisor's.
 */
export function isNameable(m: Machine, of: Element): boolean {
  const { page } = addressOf(m, of);
  if (page < 0) return false;
  const { levels, rootSlots } = m.geometry;
  const slot = framesPerLeaf(m.geometry, levels);
  const end = PAGES - (tableEntries(m.geometry) - rootSlots.from - rootSlots.count) * slot;
  const isLower = page < (tableEntries(m.geometry) / 2) * slot;
  return isLower || page >= end;
}

/** Where the bytes lie; undefined: the access faults. */
function translate(m: Machine, who: Principal, of: Element & { readonly write: boolean }): readonly Run[] | undefined {
  const agent = m.port.current?.call.agent;
  if (of.buffer.in !== 'guest' || agent?.kind !== 'vcpu') return undefined;
  const pieces = piecesOf(m, of);
  if (!pieces.every(({ page }) => isCanonical(m, page))) return undefined;
  const access = of.write ? RIGHT.write : RIGHT.read;
  const wanted = of.write ? 'write' : 'read';
  const as = { by: 'supervisorAc', told: 'supervisorAc', access, wanted, via: 0 } as const;
  const runs: Run[] = [];
  for (const { page: linear, offset, count } of pieces) {
    const page = inTables(m, linear);
    if (isXenSlot(m, m.geometry.levels, indexIn(m, m.geometry.levels, page))) {
      runs.push({ mfn: ownWindow(m, who, { page, offset, write: of.write }), offset, count });
      continue;
    }
    const outcome = translateLinear(m, { ...runningOf(m, agent), ...as, page });
    if (outcome.kind !== 'found') return undefined;
    runs.push({ mfn: outcome.mfn, offset, count });
  }
  return runs;
}

/** Fetches a word into the port's `lo` and `hi`, wherever it is; false: a fault. */
export function* fetchRaw(m: Machine, who: Principal, from: Element): Step<boolean> {
  yield* m.port.point('copyFrom', 'guest');
  const runs = translate(m, who, { ...from, write: false });
  if (runs === undefined) return false;
  const { lo, hi } = readRuns(m, runs);
  m.port.lo = lo;
  m.port.hi = hi;
  return true;
}

/** Stores a word, wherever that is; false: a fault, and nothing is stored. */
export function* storeRaw(
  m: Machine,
  who: Principal,
  to: Element & { readonly lo: number; readonly hi: number },
): Step<boolean> {
  yield* m.port.point('copyTo', 'guest');
  const runs = translate(m, who, { ...to, write: true });
  if (runs === undefined) return false;
  writeRuns(m, runs, { lo: to.lo, hi: to.hi });
  return true;
}
