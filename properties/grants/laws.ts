// What must hold of grants, judged on the implementation's own tables at every pause and return.
// A first reader may skip the recounts and read the statements.

import { domStates, handlesOf, refsOf } from '#impl/layout.ts';
import type { Machine } from '#impl/machine.ts';
import { frameRoles } from '#abi/roles.ts';
import { mapFlags } from '#abi/grants.ts';
import { hasAny } from '#lib/bits.ts';
import { isDirect } from '../harness/direct-reach.ts';
import type { AlwaysLaw, Problem } from '../harness/law.ts';
import type { View } from '../harness/view.ts';
import { isByEntries } from './holds.ts';

const pinsOf = ({ f }: Machine, key: number): number =>
  f.activeHostRead.get(key) + f.activeHostWrite.get(key) + f.activeDeviceRead.get(key) + f.activeDeviceWrite.get(key);

const where = (m: Machine, key: number): string =>
  `grant ${key % refsOf(m.geometry)} of d${Math.floor(key / refsOf(m.geometry))}`;

function pinProblem(m: Machine, key: number): Problem | undefined {
  const { f } = m;
  if (pinsOf(m, key) === 0) return undefined;
  const mfn = f.activeMfn.get(key);
  const role = frameRoles[f.frameRole.get(mfn)] ?? 'free';
  const isSame = f.activeIncarnation.get(key) === f.frameIncarnation.get(mfn);
  if (isByEntries(m, key)) return undefined;
  if (isSame && role !== 'free' && f.frameRefs.get(mfn) > 0) return undefined;
  const sentence = `${where(m, key)} is pinned on frame ${mfn}, which is ${isSame ? role : 'in another life'} by now`;
  return { invariant: 'FREE', mechanism: 'grants', field: 'active.mfn', sentence };
}

/** While a grant is pinned its frame stays what it was: whoever finds a pin takes it as proof that the frame lives. */
export const pinnedFramesLive: AlwaysLaw = {
  kind: 'always',
  id: 'grants/pinnedFramesLive',
  invariant: 'FREE',
  statement:
    'While a grant is in use, its frame is neither freed nor handed over anew, unless a paravirtual mapper has taken its entries away itself.',
  judge: ({ machine, touched, audit, looks }: View): Problem | undefined => {
    if (touched.frames.size === 0 && touched.actives.size === 0 && !audit) return undefined;
    for (const key of touched.actives) {
      if (pinsOf(machine, key) > 0) looks?.('grants');
      const problem = pinProblem(machine, key);
      if (problem !== undefined) return problem;
    }
    return touched.frames.size > 0 || audit ? anyPin(machine, touched.frames, audit) : undefined;
  },
};

/** Looks at every pinned entry of living granters whose frame was touched. */
function anyPin(m: Machine, frames: ReadonlySet<number>, audit: boolean): Problem | undefined {
  const { f, geometry } = m;
  const perFrame = geometry.wordsPerFrame;
  for (let granter = 0; granter < geometry.capacity.domains; granter += 1) {
    const count = f.grantFrameCount.get(granter) * perFrame;
    for (let ref = 0; ref < count; ref += 1) {
      const key = granter * refsOf(geometry) + ref;
      const mfn = f.activeMfn.get(key);
      if (mfn === 0 || (!audit && !frames.has(mfn))) continue;
      const problem = pinProblem(m, key);
      if (problem !== undefined) return problem;
    }
  }
  return undefined;
}

/**
 * Found by the model where a use begins (model/grants/pins.ts), for a copy is over before anybody could look. It is a law of
 * its own because both sides could agree on taking what was not given.
 */
export const everyUseWasGiven: AlwaysLaw = {
  kind: 'always',
  id: 'grants/everyUseWasGiven',
  invariant: 'OWN',
  statement:
    "Whoever uses a grant, to map or to copy, was named in the granter's entry, for this frame and for these rights, when it was looked at.",
  judge: ({ problems, touched, looks }: View): Problem | undefined => {
    if (touched.actives.size > 0) looks?.('grants');
    return problems.find(({ invariant, mechanism }) => invariant === 'OWN' && mechanism === 'grants');
  },
};

/** At rest the pins of a grant are exactly the uses that handles remember. */
export const pinsEqualUses: AlwaysLaw = {
  kind: 'always',
  id: 'grants/pinsEqualUses',
  invariant: 'REF',
  statement: 'With nothing in flight, the pins of a grant equal the uses that mapping handles stand for.',
  judge: ({ machine, quiescent, audit, looks }: View): Problem | undefined => {
    if (!quiescent || !audit) return undefined;
    const uses = recount(machine);
    const { f } = machine;
    for (let key = 0; key < f.activeMfn.length; key += 1) {
      const pins = pinsOf(machine, key);
      const counted = uses.get(key) ?? 0;
      if (pins + counted > 0) looks?.('grants');
      if (pins === counted) continue;
      const sentence = `${where(machine, key)} has ${pins} pins, but handles stand for ${counted} uses`;
      return { invariant: 'REF', mechanism: 'grants', field: 'active.pins', sentence };
    }
    return undefined;
  },
};

function recount(m: Machine): ReadonlyMap<number, number> {
  const { f, geometry } = m;
  const uses = new Map<number, number>();
  for (let key = 0; key < f.trackFlags.length; key += 1) {
    const flags = f.trackFlags.get(key);
    const mapper = Math.floor(key / handlesOf(geometry));
    // The handle of a paravirtual mapper may outlive a granter that nothing keeps.
    if (isDirect(m, mapper) && f.trackLife.get(key) !== f.domLife.get(f.trackDomain.get(key))) continue;
    if (isDirect(m, mapper) && domStates[f.domState.get(f.trackDomain.get(key))] === 'none') continue;
    if (flags === 0 || domStates[f.domState.get(mapper)] === 'none') continue;
    const active = f.trackDomain.get(key) * refsOf(geometry) + f.trackRef.get(key);
    const count = [mapFlags.host, mapFlags.device].filter((flag) => hasAny(flags, flag)).length;
    uses.set(active, (uses.get(active) ?? 0) + count);
  }
  return uses;
}

export const grantsLaws: readonly AlwaysLaw[] = [everyUseWasGiven, pinnedFramesLive, pinsEqualUses];
