// What must hold of the log of writes, judged on the bitmap's bytes, on the words that were written, and on what the hardware would
// let the domain write. A log that could not have a page for its bitmap promises nothing any more.
// A first reader may skip `isShared`.

import type { Mfn } from '#abi/address.ts';
import { p2mTypes } from '#abi/hap.ts';
import { RIGHT } from '#abi/rights.ts';
import { frameRoles } from '#abi/roles.ts';
import type { Machine } from '#impl/machine.ts';
import { and } from '#lib/bits.ts';
import type { State } from '#model/state.ts';
import { wordAt } from '#model/words.ts';
import type { AlwaysLaw, Problem } from '../harness/law.ts';
import type { View } from '../harness/view.ts';
import { bitmapOf } from './log-abstract.ts';

const RAM = frameRoles.indexOf('ram');
const FOREIGN = p2mTypes.indexOf('foreign');

const isLogged = ({ f }: Machine, id: number): boolean => f.domLogDirty.get(id) !== 0 && f.dirtyFailed.get(id) === 0;

/** Domains whose writes are logged without loss, with the gfns that are marked; mostly none. */
function logged(m: Machine): ReadonlyMap<number, ReadonlySet<number>> {
  let found: Map<number, ReadonlySet<number>> | undefined;
  for (let id = 0; id < m.geometry.capacity.domains; id += 1)
    if (isLogged(m, id)) (found ??= new Map()).set(id, new Set(bitmapOf(m, id).gfns));
  return found ?? NOBODY;
}

const NOBODY: ReadonlyMap<number, ReadonlySet<number>> = new Map();

/** The gfn of a frame of RAM whose writes are logged and that is not marked; -1: it is no such frame. */
function unmarked(m: Machine, marked: ReturnType<typeof logged>, mfn: number): number {
  if (mfn >= m.geometry.frameCount || m.f.frameRole.get(mfn) !== RAM) return -1;
  const gfn = m.f.m2p.getWide(mfn) - 1;
  return gfn < 0 || marked.get(m.f.frameOwner.get(mfn) - 1)?.has(gfn) !== false ? -1 : gfn;
}

/** Whether others may write the frame: by a grant (noted when that ends), or as foreign (a device model says so itself). */
function isShared({ machine: { f }, reach }: View, mfn: number): boolean {
  for (const { type } of reach.leavesOf(mfn)) if (type === FOREIGN) return true;
  for (let key = 0; key < f.activeMfn.length; key += 1)
    if (f.activeMfn.get(key) === mfn && f.activeHostWrite.get(key) + f.activeDeviceWrite.get(key) > 0) return true;
  return false;
}

/** Whether a word, by its key, holds something else than it did. */
function isOther({ f, geometry }: Machine, before: State, key: number): boolean {
  const { lo, hi } = wordAt(before, Math.floor(key / geometry.wordsPerFrame) as Mfn, key % geometry.wordsPerFrame);
  return f.memory.get(2 * key) !== lo || f.memory.get(2 * key + 1) !== hi;
}

/** Who writes marks, whoever it is. */
export const writesAreMarked: AlwaysLaw = {
  kind: 'always',
  id: 'memory/writesAreMarked',
  invariant: 'LOG',
  statement:
    'With nothing in flight, RAM that was written while writes are logged is marked, unless others may write it still.',
  judge: (view: View): Problem | undefined => {
    const { machine, quiescent, touched, returned } = view;
    if (!quiescent || returned?.alone !== true) return undefined;
    const marked = logged(machine);
    if (marked.size === 0) return undefined;
    for (const key of touched.words) {
      const mfn = Math.floor(key / machine.geometry.wordsPerFrame);
      if (marked.has(machine.f.frameOwner.get(mfn) - 1)) view.looks?.('memory');
      const gfn = unmarked(machine, marked, mfn);
      if (gfn < 0 || !isOther(machine, returned.before, key) || isShared(view, mfn)) continue;
      const sentence = `gfn ${gfn} of d${machine.f.frameOwner.get(mfn) - 1} was written and is not marked`;
      return { invariant: 'LOG', mechanism: 'memory', field: 'log.marked', sentence };
    }
    return undefined;
  },
};

/** What is not marked would be noticed. */
export const unmarkedFramesAreProtected: AlwaysLaw = {
  kind: 'always',
  id: 'memory/unmarkedFramesAreProtected',
  invariant: 'LOG',
  statement:
    'With nothing in flight, no table and no processor lets a domain whose writes are logged write RAM that is not marked, unless a call about the log is unfinished.',
  judge: (view: View): Problem | undefined => {
    const { machine, quiescent, reach, returned, audit, touched } = view;
    if (!quiescent) return undefined;
    const marked = logged(machine);
    if (marked.size === 0) return undefined;
    const isAboutLog =
      audit || returned?.op.kind === 'memory.logDirty' || returned?.op.kind === 'memory.enableLogDirty';
    const all = isAboutLog ? [Array.from({ length: machine.geometry.frameCount }, (_, mfn) => mfn)] : [];
    for (const frames of [...all, touched.frames, reach.changed])
      for (const mfn of frames) {
        const gfn = unmarked(machine, marked, mfn);
        if (gfn < 0) continue;
        const owner = machine.f.frameOwner.get(mfn) - 1;
        // Between the parts of a preempted call the domain is paused, and what was cleared is protected in the last part.
        if (machine.f.dirtyAction.get(owner) !== 0) continue;
        view.looks?.('memory');
        for (const ways of [reach.leavesOf(mfn), reach.cachedOf(mfn)])
          for (const way of ways) {
            if (way.domain !== owner || and(way.rights, RIGHT.write) === 0) continue;
            const sentence = `d${owner} can write gfn ${gfn} unnoticed: it is not marked`;
            return { invariant: 'LOG', mechanism: 'memory', field: 'log.protected', sentence };
          }
      }
    return undefined;
  },
};

export const logLaws: readonly AlwaysLaw[] = [writesAreMarked, unmarkedFramesAreProtected];
