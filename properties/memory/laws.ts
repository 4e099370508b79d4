// What must hold of frames, judged on the implementation's frame table and on the contents of memory.
// A first reader may skip the recounts and read the statements.

import type { Mfn } from '#abi/address.ts';
import { p2mTypes, UNRESTRICTED } from '#abi/hap.ts';
import { frameRoles } from '#abi/roles.ts';
import { lookup } from '#impl/hap/table.ts';
import { frameOf } from '#model/state.ts';
import { and } from '#lib/bits.ts';
import { holdsOfPins } from '../grants/holds.ts';
import { isDirect } from '../harness/direct-reach.ts';
import type { AlwaysLaw, Problem } from '../harness/law.ts';
import type { View } from '../harness/view.ts';
import { contentsProblem } from './abstract.ts';
import { claimLaws } from './claim-laws.ts';
import { logLaws } from './log-laws.ts';
import { usesByTables } from '../pv/uses.ts';
import { podLaws } from './pod-laws.ts';

/** A frame on the heap has no owner, no references and stands in nobody's map. */
export const freeFramesAreNobodys: AlwaysLaw = {
  kind: 'always',
  id: 'memory/freeFramesAreNobodys',
  invariant: 'FREE',
  statement: 'A frame on the heap has no owner and no references.',
  judge: ({ machine, touched, looks }: View): Problem | undefined => {
    const { f, geometry } = machine;
    for (const mfn of touched.frames) {
      if (mfn >= geometry.frameCount || frameRoles[f.frameRole.get(mfn)] !== 'free') continue;
      looks?.('memory');
      const refs = f.frameRefs.get(mfn);
      if (refs === 0 && f.frameOwner.get(mfn) === 0 && f.frameAllocated.get(mfn) === 0) continue;
      const sentence = `frame ${mfn} lies on the heap with ${refs} references and owner ${f.frameOwner.get(mfn) - 1}`;
      return { invariant: 'FREE', mechanism: 'memory', field: 'frame.free', sentence };
    }
    return undefined;
  },
};

/** What a new owner finds in a frame is what the model says it may find: zeros, unless the policy lets contents stay. */
export const newFramesTellNothing: AlwaysLaw = {
  kind: 'always',
  id: 'memory/newFramesTellNothing',
  invariant: 'LEAK',
  statement: 'A frame handed over holds nothing but what the scrub policy lets its new owner see.',
  judge: ({ machine, touched, returned, candidates, quiescent, explained, looks }: View): Problem | undefined => {
    if (!quiescent || !explained() || returned === undefined) return undefined;
    const [state] = candidates();
    if (state === undefined) return undefined;
    for (const mfn of touched.frames) {
      const now = frameOf(state, mfn as Mfn);
      if (now.role === 'free' || now.incarnation === frameOf(returned.before, mfn as Mfn).incarnation) continue;
      looks?.('memory');
      const problem = contentsProblem(machine, state, mfn);
      if (problem !== undefined)
        return { ...problem, invariant: 'LEAK', mechanism: 'memory', field: `leak.${now.role}` };
    }
    return undefined;
  },
};

/** A scrubbed frame is clean in every word. */
export const erasedFramesAreErased: AlwaysLaw = {
  kind: 'always',
  id: 'memory/erasedFramesAreErased',
  invariant: 'LEAK',
  statement: 'A frame that was scrubbed for the last time holds zeros.',
  judge: ({ machine, returned, candidates, quiescent, explained, looks }: View): Problem | undefined => {
    if (!quiescent || !explained() || returned === undefined) return undefined;
    const [state] = candidates();
    if (state === undefined) return undefined;
    for (const { choice } of returned.log) {
      if (choice.kind !== 'scrub' || frameOf(state, choice.mfn).role !== 'free' || frameOf(state, choice.mfn).dirty)
        continue;
      looks?.('memory');
      const problem = contentsProblem(machine, state, choice.mfn);
      if (problem !== undefined) return { ...problem, invariant: 'LEAK', mechanism: 'memory', field: 'leak.scrub' };
    }
    return undefined;
  },
};

/** At rest a frame's references are its owner's own, those of foreign entries, and those of grant uses. */
export const referencesEqualUses: AlwaysLaw = {
  kind: 'always',
  id: 'memory/referencesEqualUses',
  invariant: 'REF',
  statement:
    'With nothing in flight, the references of a RAM, shared-info or grant frame equal its owner, its foreign entries, its grant uses and those of paravirtual tables.',
  judge: ({ machine, quiescent, audit, reach, looks }: View): Problem | undefined => {
    if (!quiescent || !audit) return undefined;
    const { f, geometry } = machine;
    const pins = holdsOfPins(machine);
    const uses = usesByTables(machine);
    for (let mfn = 0; mfn < geometry.frameCount; mfn += 1) {
      const role = frameRoles[f.frameRole.get(mfn)];
      if (role !== 'ram' && role !== 'sharedInfo' && role !== 'grantFrame') continue;
      looks?.('memory');
      const foreign = [...reach.leavesOf(mfn)].filter(({ type }) => type === FOREIGN).length;
      const counted = f.frameAllocated.get(mfn) + foreign + (pins.get(mfn)?.refs ?? 0) + (uses.get(mfn)?.refs ?? 0);
      const refs = f.frameRefs.get(mfn);
      if (refs === counted) continue;
      const sentence = `frame ${mfn} (${role}) has ${refs} references, but ${counted} uses`;
      return { invariant: 'REF', mechanism: 'memory', field: 'frame.refs', sentence };
    }
    return undefined;
  },
};

const FOREIGN = p2mTypes.indexOf('foreign');

/** Whether a listener has left so little of the gfn that it may be that nobody sees the frame there: then the hypervisor's own bits say where it lies. */
function isRestricted(m: View['machine'], { dom, gfn, mfn }: { dom: number; gfn: number; mfn: number }): boolean {
  const found = lookup(m, dom, gfn);
  return found?.mfn === mfn && found.access !== UNRESTRICTED;
}

/** The two words that hold a frame's place in the inverse map agree with the tables. */
export const inverseMapIsInverse: AlwaysLaw = {
  kind: 'always',
  id: 'memory/inverseMapIsInverse',
  invariant: 'M2P',
  statement: 'With nothing in flight, the machine-to-guest map names a gfn at which the owner sees the frame.',
  judge: ({ machine, quiescent, touched, reach, looks }: View): Problem | undefined => {
    if (!quiescent) return undefined;
    const { f, geometry } = machine;
    for (const mfn of touched.frames) {
      if (mfn >= geometry.frameCount) continue;
      const gfn = f.m2p.getWide(mfn) - 1;
      const owner = f.frameOwner.get(mfn) - 1;
      // What paravirtual guests say of their frames decides nothing.
      if (gfn < 0 || owner < 0 || isDirect(machine, owner)) continue;
      looks?.('memory');
      const leaf = reach.leafAt(owner, gfn);
      if (leaf !== undefined && leaf.mfn + (gfn - leaf.gfn) === mfn && and(leaf.rights, 1) === 1) continue;
      if (isRestricted(machine, { dom: owner, gfn, mfn })) continue;
      const sentence = `frame ${mfn} is said to lie at gfn ${gfn} of d${owner}, which leads elsewhere`;
      return { invariant: 'M2P', mechanism: 'memory', field: 'm2p', sentence };
    }
    return undefined;
  },
};

export const memoryLaws: readonly AlwaysLaw[] = [
  freeFramesAreNobodys,
  newFramesTellNothing,
  erasedFramesAreErased,
  inverseMapIsInverse,
  referencesEqualUses,
  ...logLaws,
  ...podLaws,
  ...claimLaws,
];
