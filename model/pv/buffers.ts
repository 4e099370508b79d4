// Arrays of words in the memory of a paravirtual guest, as its calls fetch and store them. The hypervisor runs on the guest's own
// tables, those of its kernel, and reads and writes where they lead like any supervisor, by what the processor remembers too: an
// element is one access. Its own part of the address space is out of bounds, whatever it has mapped there.
// A first reader may skip `piecesOf`. Sources: Xen asm/x86_64/uaccess.h (access_ok), arch/x86/usercopy.c (copy_to_guest_ll),
// asm/guest_access.h (guest_handle_subrange_okay).

import type { Mfn, Word } from '#abi/address.ts';
import type { Agent } from '#abi/agents.ts';
import { bytesPerFrame, framesPerLeaf, tableEntries, type Geometry } from '#abi/geometry.ts';
import type { Buffer } from '#abi/operand.ts';
import { RIGHT } from '#abi/rights.ts';
import { at, type Cut } from '../cut.ts';
import { isCanonicalPage, PAGES, wrappedPage } from '../paging/context.ts';
import { translateLinear } from '../paging/linear.ts';
import { bytesOf, readBytes, wordOf, writeBytes, type Piece } from '../words.ts';

/** An element of an array in a guest's memory. Its number may be below 0: addresses wrap at the end of the 64 bits. */
export interface Element {
  readonly buffer: Buffer<'concrete'>;
  readonly index: number;
}

/** Bytes of a machine frame. */
interface Run {
  readonly mfn: Mfn;
  readonly offset: number;
  readonly count: number;
}

/** The linear pieces of an element: of one page, or of two. */
function piecesOf(geometry: Geometry, { buffer, index }: Element): readonly Piece[] {
  if (buffer.in !== 'guest') return [];
  const size = bytesPerFrame(geometry);
  const from = buffer.offset + index * 8;
  const frames = Math.floor(from / size);
  const offset = from - frames * size;
  const page = wrappedPage(buffer.gfn + frames);
  const count = Math.min(8, size - offset);
  const head: Piece = { gfn: page, offset, count };
  return count === 8 ? [head] : [head, { gfn: (page + 1) % PAGES, offset: 0, count: 8 - count }];
}

/** Whether an array may begin with this element: below the hole in the middle of the addresses, or beyond the hypervisor's part. */
export function isAccessible(geometry: Geometry, element: Element): boolean {
  const [first] = piecesOf(geometry, element);
  if (first === undefined) return false;
  const { from, count } = geometry.rootSlots;
  const beyond = (tableEntries(geometry) - from - count) * framesPerLeaf(geometry, geometry.levels);
  return first.gfn >= PAGES - beyond || (first.gfn < PAGES / 2 && isCanonicalPage(geometry, first.gfn));
}

/** Where the bytes of an element lie; undefined: it cannot be read, or written. */
function locate(
  cut: Cut,
  agent: Agent,
  of: Element & { readonly write: boolean },
): { readonly cut: Cut; readonly runs: readonly Run[] | undefined } {
  const { geometry } = cut.state;
  const pieces = piecesOf(geometry, of);
  const isThere = isAccessible(geometry, of) && pieces.every(({ gfn }) => isCanonicalPage(geometry, gfn));
  if (agent.kind !== 'vcpu' || !isThere) return { cut, runs: undefined };
  const attempt = { kind: of.write ? 'write' : 'read', privilege: 'supervisor', ac: 'set' } as const;
  const need = of.write ? RIGHT.write : RIGHT.read;
  const runs: Run[] = [];
  let now = cut;
  for (const { gfn: page, offset, count } of pieces) {
    const { cut: after, linear } = translateLinear(now, agent, { page, attempt, need });
    now = after;
    if (linear.kind !== 'found') return { cut: now, runs: undefined };
    runs.push({ mfn: linear.mfn, offset, count });
  }
  return { cut: now, runs };
}

/** Fetches an element; undefined: a fault. */
export function fetchDirect(
  cut: Cut,
  agent: Agent,
  from: Element,
): { readonly cut: Cut; readonly word: Word | undefined } {
  const { cut: after, runs } = locate(cut, agent, { ...from, write: false });
  return { cut: after, word: runs && wordOf(runs.flatMap((run) => readBytes(after.state, run, run.count))) };
}

/** Stores an element, all of it or nothing. */
export function storeDirect(
  cut: Cut,
  agent: Agent,
  to: Element & { readonly word: Word },
): { readonly cut: Cut; readonly ok: boolean } {
  const { cut: after, runs } = locate(cut, agent, { ...to, write: true });
  if (runs === undefined) return { cut: after, ok: false };
  const bytes = bytesOf(to.word, 8);
  let { state } = after;
  let done = 0;
  for (const run of runs) {
    state = writeBytes(state, { ...run, author: undefined }, bytes.slice(done, done + run.count));
    done += run.count;
  }
  return { cut: at(after, state), ok: true };
}
