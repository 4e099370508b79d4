// Frames cleared and copied for a paravirtual guest. They are used as writable memory as long as that takes, so no table is written.
// A first reader may skip it. Source: Xen arch/x86/mm.c (do_mmuext_op, MMUEXT_CLEAR_PAGE, MMUEXT_COPY_PAGE).

import type { Principal } from '#abi/acts.ts';
import type { DomId } from '#abi/address.ts';
import type { Errno } from '#abi/reply.ts';
import type { Machine } from '../machine.ts';
import { putReference } from '../memory/frames.ts';
import type { Step } from '../port.ts';
import { WRITABLE } from './entry.ts';
import { getPage } from './frames.ts';
import { putPageAndType } from './release.ts';
import { getType } from './types.ts';

const nameOf = (owner: DomId): Principal => ({ domain: owner, purpose: 'guest' });

/** A frame of `owner`'s, held and used as writable memory; false: it cannot be. */
function* getWritable(m: Machine, mfn: number, owner: DomId): Step<boolean> {
  if (!(yield* getPage(m, mfn, owner))) return false;
  if ((yield* getType(m, mfn, WRITABLE)) === undefined) return true;
  yield* putReference(m, mfn);
  return false;
}

/** Zeros in all words of a frame. */
export function* clearPage(m: Machine, owner: DomId, mfn: number): Step<Errno | undefined> {
  if (!(yield* getWritable(m, mfn, owner))) return 'EINVAL';
  yield* m.port.point('store', 'guest');
  for (let index = 0; index < m.geometry.wordsPerFrame; index += 1)
    m.port.poke(nameOf(owner), { mfn, index, lo: 0, hi: 0 });
  yield* putPageAndType(m, mfn);
  return undefined;
}

/** The words of frame `source` in frame `mfn`. */
export function* copyPage(
  m: Machine,
  owner: DomId,
  { source, mfn }: { readonly source: number; readonly mfn: number },
): Step<Errno | undefined> {
  if (!(yield* getPage(m, source, owner))) return 'EINVAL';
  const isTaken = yield* getWritable(m, mfn, owner);
  if (isTaken) {
    yield* m.port.point('copyTo', 'guest');
    for (let index = 0; index < m.geometry.wordsPerFrame; index += 1) {
      const lo = m.port.peek(nameOf(owner), { mfn: source, index });
      m.port.poke(nameOf(owner), { mfn, index, lo, hi: m.port.hi });
    }
    yield* putPageAndType(m, mfn);
  }
  yield* putReference(m, source);
  return isTaken ? undefined : 'EINVAL';
}
