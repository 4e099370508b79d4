// Which segment descriptors a paravirtual guest may have its processors use. Present ones are for ring 3; of system descriptors only call gates
// may be there, made for ring 0 so that using one traps, with the ring that the guest meant kept in the selector.
// A first reader may skip the bits. Source: Xen arch/x86/pv/descriptor-tables.c (check_descriptor), asm/desc.h.

import { and, bit, field, hasAll, or, without } from '#lib/bits.ts';
import type { Machine } from '../machine.ts';
import type { Entry } from './entry.ts';
import { tableOf } from './frames.ts';

const PRESENT = bit(15);
const NO_SYSTEM = bit(12);
const RING = or(bit(13), bit(14));
const CALL_GATE = 12;
const FLAT_KERNEL_CS = 0xe033;

/** Words of the GDT that guests may fill. */
export const gdtEntriesMax = ({ geometry }: Machine): number => geometry.capacity.gdtFrames * geometry.wordsPerFrame;

function isGateTarget(m: Machine, selector: number): boolean {
  return hasAll(selector, 4) || selector === FLAT_KERNEL_CS || field(selector, 3, 13) < gdtEntriesMax(m);
}

/** The descriptor as it has to be; undefined: it is refused. */
export function fitDescriptor(m: Machine, entry: Entry): Entry | undefined {
  const { lo, hi } = entry;
  const kind = field(hi, 8, 4);
  if (!hasAll(hi, PRESENT)) return entry;
  if (hasAll(hi, NO_SYSTEM)) return { lo, hi: or(hi, RING) };
  if (kind === 0) return entry;
  if (kind !== CALL_GATE || !isGateTarget(m, field(lo, 16, 16)) || and(hi, 0xff) !== 0) return undefined;
  return { lo: or(lo, 3 * bit(16)), hi: without(hi, RING) };
}

/** Descriptors of a frame that have to be changed, as they have to be; undefined: one is refused. */
export function fitDescriptors(
  m: Machine,
  mfn: number,
  owner: number,
): readonly (Entry & { readonly index: number })[] | undefined {
  const changed: (Entry & { readonly index: number })[] = [];
  for (let index = 0; index < m.geometry.wordsPerFrame; index += 1) {
    const lo = m.port.peek(tableOf(owner), { mfn, index });
    const { hi } = m.port;
    const fit = fitDescriptor(m, { lo, hi });
    if (fit === undefined) return undefined;
    if (fit.lo !== lo || fit.hi !== hi) changed.push({ index, lo: fit.lo, hi: fit.hi });
  }
  return changed;
}
