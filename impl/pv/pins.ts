// Pins: a guest has a frame looked through as a table and kept so, whether or not a root leads to it.
// A first reader may skip nothing. Source: Xen arch/x86/mm.c (do_mmuext_op, MMUEXT_PIN_L1_TABLE to MMUEXT_UNPIN_TABLE).

import type { Machine } from '../machine.ts';
import { putReference } from '../memory/frames.ts';
import { isAlive } from '../memory/target.ts';
import type { Step } from '../port.ts';
import { codeOfLevel } from './entry.ts';
import { getPage, isOwned, running } from './frames.ts';
import type { Outcome } from './parked.ts';
import { putPageAndType, putType, type Stopped } from './release.ts';
import { getType } from './types.ts';

/** Whose frame is pinned, and by whom. */
export interface Pinning {
  /** Its id, and in which life the call has found it. */
  readonly owner: number;
  readonly life: number;
  readonly caller: number;
  readonly frame: number;
}

/** Pins a frame as a table of `level`. What is pinned while its owner is torn down is let go of again at once. */
export function* pin(m: Machine, level: number, { owner, life, caller, frame }: Pinning): Step<Outcome> {
  if (level > m.geometry.levels) return undefined;
  if (!(yield* getPage(m, frame, owner, life))) return 'EINVAL';
  const errno = yield* getType(m, frame, codeOfLevel(level));
  if (errno !== undefined) {
    // A table that was left partial needs the reference until it is let go of.
    if (running(m).parked !== frame) yield* putReference(m, frame);
    return errno;
  }
  yield* m.port.point('reference', 'frame');
  const isPinned = m.f.framePinned.get(frame) !== 0;
  const isKept = !isPinned && (owner === caller || isAlive(m, owner));
  if (isKept) m.f.framePinned.set(frame, 1);
  else yield* putPageAndType(m, frame);
  return isPinned ? 'EINVAL' : undefined;
}

/** Takes a pin away. */
export function* unpin(m: Machine, { owner, life, frame }: Pinning): Step<Outcome> {
  if (!(yield* getPage(m, frame, owner, life))) return 'EINVAL';
  yield* m.port.point('reference', 'frame');
  const isPinned = m.f.framePinned.get(frame) !== 0;
  m.f.framePinned.set(frame, 0);
  const stopped = isPinned ? yield* putPageAndType(m, frame) : undefined;
  yield* putReference(m, frame);
  if (stopped !== undefined) return 'onwards';
  return isPinned ? undefined : 'EINVAL';
}

/** Takes the pin of a frame of a dying domain away, if it has one and is still that domain's. */
export function* dropPin(m: Machine, mfn: number, dom: number): Step<Stopped | undefined> {
  yield* m.port.point('reference', 'frame');
  if (!isOwned(m, mfn, dom) || m.f.framePinned.get(mfn) === 0) return undefined;
  m.f.framePinned.set(mfn, 0);
  const stopped = yield* putType(m, mfn);
  // What is left partial has a reference by itself, and the pin's goes in any case.
  yield* putReference(m, mfn);
  return stopped;
}
