// How one run generates: with what temper (plausible or hostile), which kinds of operations it uses at all (swarm), and how
// often each. Drawn once per run, from the settings of all mechanisms. A first reader may skip this file.
// Source: Groce et al., "Swarm Testing".

import { mechanismOf, opKinds, type Op, type OpKind } from '#abi/operation.ts';
import type { Prng } from '#lib/prng.ts';
import * as grants from '../grants/generators.ts';
import * as hap from '../hap/generators.ts';
import * as memory from '../memory/generators.ts';
import * as paging from '../paging/generators.ts';
import * as pv from '../pv/generators.ts';
import * as tlb from '../tlb/generators.ts';
import type { Generators, Needs, Weights } from './decisions.ts';

type AnyOp = Op<'symbolic'>;

/** Per cent of legal and of nearly legal steps; the rest are absurd. */
interface Temper {
  readonly name: 'plausible' | 'hostile';
  readonly legal: number;
  readonly near: number;
}

export interface Profile {
  readonly temper: Temper;
  readonly generators: Generators<AnyOp>;
  readonly weights: ReadonlyMap<OpKind, number>;
}

/** Over both tempers about 70 legal, 15 nearly legal and 15 absurd steps in a hundred. */
const tempers: Readonly<Record<Temper['name'], Temper>> = {
  plausible: { name: 'plausible', legal: 80, near: 12 },
  hostile: { name: 'hostile', legal: 52, near: 22 },
};

/** For some kinds, whether a legal operation is possible at all now. */
export const needs: Needs<AnyOp> = {
  ...memory.needs,
  ...paging.needs,
  ...pv.needs,
  ...tlb.needs,
  ...grants.needs,
};

/** Kinds that come to something only together: in one run of six, or of eight, they are all there, and often. */
const together: readonly (readonly [oneIn: number, kinds: readonly OpKind[]])[] = [
  [6, ['memory.populateOnDemand', 'memory.setPodTarget', 'paging.read', 'paging.write']],
  [8, ['memory.monitor', 'memory.setMemAccess', 'memory.setAccessRequired', 'paging.read', 'paging.write']],
];

/** Whole kinds are switched off in two runs of three, and weights drawn anew; "everything on" stays in the rotation. */
function swarm(prng: Prng, weights: Weights<AnyOp>): Map<OpKind, number> {
  const everything = prng.chance(1, 3);
  const drawn = opKinds.map((kind): [OpKind, number] => {
    const isOn = everything || prng.chance(3, 4);
    return [kind, isOn ? weights[kind] * (everything ? 1 : prng.pick([1, 1, 2, 4])) : 0];
  });
  for (const [oneIn, kinds] of together)
    if (prng.chance(1, oneIn)) for (const pair of drawn) if (kinds.includes(pair[0])) pair[1] = 3 * weights[pair[0]];
  const isEnough = drawn.some(([kind, weight]) => weight > 0 && mechanismOf(kind) !== 'paging');
  return new Map(isEnough ? drawn : opKinds.map((kind) => [kind, weights[kind]]));
}

/** Every kind as often as every other: the yardstick for what the weights of the settings bring. */
const uniform = Object.fromEntries(opKinds.map((kind) => [kind, 1])) as Weights<AnyOp>;

/** Draws the profile of a run. */
export function profileOf(prng: Prng, isUniform = false): Profile {
  const temper = tempers[prng.chance(2, 3) ? 'plausible' : 'hostile'];
  const isMild = temper.name === 'plausible';
  const settings = {
    memory: isMild ? memory.plausible() : memory.hostile(),
    paging: isMild ? paging.plausible() : paging.hostile(),
    pv: isMild ? pv.plausible() : pv.hostile(),
    hap: isMild ? hap.plausible() : hap.hostile(),
    tlb: isMild ? tlb.plausible() : tlb.hostile(),
    grants: isMild ? grants.plausible() : grants.hostile(),
  };
  const weights = {
    ...settings.memory.weights,
    ...settings.paging.weights,
    ...settings.pv.weights,
    ...settings.hap.weights,
    ...settings.tlb.weights,
    ...settings.grants.weights,
  };
  return {
    temper,
    generators: {
      ...memory.generators(settings.memory),
      ...paging.generators(settings.paging),
      ...pv.generators(settings.pv),
      ...hap.generators(settings.hap),
      ...tlb.generators(settings.tlb),
      ...grants.generators(settings.grants),
    },
    weights: swarm(prng, isUniform ? uniform : weights),
  };
}
