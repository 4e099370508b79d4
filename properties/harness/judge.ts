// Judging reach: whether one candidate of the model explains the rights of all agents in a frame at once, and whether what
// is owed is there. And the comparison of whole states, as far as they were touched.

import type { Mfn } from '#abi/address.ts';
import { describeRights, RIGHT } from '#abi/rights.ts';
import { frameRoles } from '#abi/roles.ts';
import type { Machine } from '#impl/machine.ts';
import { brokenInvariant } from '#model/invariants.ts';
import { authority, owed, type Justification } from '#model/isolation.ts';
import type { State } from '#model/state.ts';
import { and } from '#lib/bits.ts';
import { invariant } from '#lib/invariant.ts';
import { activeProblem, handleProblem } from '../grants/abstract.ts';
import { placeProblem as p2mProblem } from '../hap/abstract.ts';
import { contentsProblem, domainProblem, frameProblem, modelWordsProblem, wordProblem } from '../memory/abstract.ts';
import { placeProblem as vcpuProblem } from '../tlb/abstract.ts';
import type { Problem } from './law.ts';
import { Reach, type Cached, type Leaf } from './reach.ts';
import type { Touched } from './touched.ts';

const includes = (rights: number, wanted: number): boolean => and(rights, wanted) === wanted;

const isWritable = (rights: number): boolean => includes(rights, RIGHT.write);

const isCached = (one: Leaf | Cached): one is Cached => 'pcpu' in one;

/** Whether `reason` lets `one` reach frame `mfn` as it does. Stale translations justify cached ones alone. */
function justifies(reason: Justification, one: Leaf | Cached, mfn: number): boolean {
  if (reason.domain !== one.domain || reason.gfn !== one.gfn + (mfn - one.mfn)) return false;
  if (!includes(reason.rights, one.rights)) return false;
  if (reason.why !== 'stale') return true;
  return isCached(one) && reason.pcpus.some((pcpu) => pcpu === one.pcpu);
}

/** What an unjustified way to a frame breaks. */
function unjustified(m: Machine, one: Leaf | Cached, mfn: number): Problem {
  const role = frameRoles[m.f.frameRole.get(mfn)] ?? 'free';
  const way = isCached(one)
    ? `pCPU ${one.pcpu} still holds a ${one.kind} entry by which d${one.domain}`
    : `d${one.domain}`;
  const where = `gfn ${one.gfn + (mfn - one.mfn)}`;
  const invariant = isCached(one) ? 'STALE' : role === 'pool' && isWritable(one.rights) ? 'PTW' : 'OWN';
  return {
    invariant,
    mechanism: isCached(one) ? 'tlb' : 'hap',
    field: `reach.${role}`,
    sentence: `${way} reaches frame ${mfn} (${role}) ${describeRights(one.rights)} at ${where}, and nothing justifies it`,
    expected: 'no such way',
    actual: describeRights(one.rights),
  };
}

/** Told which reason alone justified a way. */
export type OnlyReason = (why: Justification['why']) => void;

/** Why `state` does not explain who reaches frame `mfn`; undefined: it does. */
export function reachProblem(
  m: Machine,
  of: { reach: Reach; state: State; only?: OnlyReason },
  mfn: number,
): Problem | undefined {
  const { reach, state, only } = of;
  const leaves = reach.leavesOf(mfn);
  const cached = reach.cachedOf(mfn);
  const owing = owed(state, mfn as Mfn);
  if (leaves.size === 0 && cached.size === 0 && owing.length === 0) return undefined;
  const reasons = authority(state, mfn as Mfn);
  for (const ways of [leaves, cached])
    for (const one of ways) {
      const [first, second] = reasons.filter((reason) => justifies(reason, one, mfn));
      if (first === undefined) return unjustified(m, one, mfn);
      if (second === undefined) only?.(first.why);
    }
  for (const due of owing) {
    const leaf = reach.leafAt(due.domain, due.gfn);
    const isThere = leaf !== undefined && leaf.mfn + (due.gfn - leaf.gfn) === mfn && includes(leaf.rights, due.rights);
    if (!isThere)
      return {
        invariant: 'MUST',
        mechanism: 'hap',
        field: 'reach.owed',
        sentence: `d${due.domain} is owed frame ${mfn} ${describeRights(due.rights)} at gfn ${due.gfn} and does not reach it`,
        expected: describeRights(due.rights),
        actual: leaf === undefined ? 'nothing' : describeRights(leaf.rights),
      };
  }
  return undefined;
}

type First<T> = (key: T) => Problem | undefined;

function among<T>(keys: Iterable<T>, problem: First<T>): Problem | undefined {
  for (const key of keys) {
    const found = problem(key);
    if (found !== undefined) return found;
  }
  return undefined;
}

const upTo = (n: number): readonly number[] => Array.from({ length: n }, (_, i) => i);

/** Two sides as far as they were touched. */
interface Sides {
  readonly state: State;
  readonly reach: Reach;
  readonly touched: Touched;
}

/** Lets `look` see the comparison of every touched thing until it answers something. */
function overTouched(
  m: Machine,
  { state, reach, touched }: Sides,
  look: First<Problem | undefined>,
): Problem | undefined {
  const { wordsPerFrame } = m.geometry;
  return (
    among(touched.frames, (mfn) => look(frameProblem(m, state, mfn))) ??
    among(touched.domains, (id) => look(domainProblem(m, state, id))) ??
    among(touched.actives, (key) => look(activeProblem(m, state, key))) ??
    among(touched.handles, (key) => look(handleProblem(m, state, key))) ??
    among(touched.vcpus, (key) => look(vcpuProblem(m, state, key))) ??
    among(touched.places, ([domain, gfns]) => among(gfns, (gfn) => look(p2mProblem(reach, state, { domain, gfn })))) ??
    among(touched.words, (key) =>
      look(wordProblem(m, state, { mfn: Math.floor(key / wordsPerFrame), index: key % wordsPerFrame })),
    )
  );
}

/** The first difference between the machine and `state` in what was touched. */
export const stateProblem = (m: Machine, sides: Sides): Problem | undefined =>
  overTouched(m, sides, (problem) => problem);

/** In how many touched things the machine and `state` differ; counting ends beyond `most`. */
export function stateDistance(m: Machine, sides: Sides, most: number): number {
  let count = 0;
  overTouched(m, sides, (problem) => {
    if (problem !== undefined) count += 1;
    return count > most ? problem : undefined;
  });
  return count;
}

/** The model must not miscount: that would be a mistake of the specification, ours, and so it throws. */
function checkModel(state: State): undefined {
  const broken = brokenInvariant(state);
  invariant(broken === undefined, `the model has miscounted: ${broken?.sentence ?? ''}`);
}

/** The first difference between the machine and `state` in anything. */
export function auditProblem(m: Machine, of: { state: State; reach: Reach }): Problem | undefined {
  const { state, reach } = of;
  const { f, geometry } = m;
  return (
    checkModel(state) ??
    among(upTo(geometry.frameCount), (mfn) => frameProblem(m, state, mfn)) ??
    among(upTo(geometry.capacity.domains), (id) => domainProblem(m, state, id)) ??
    among(upTo(f.activeMfn.length), (key) => activeProblem(m, state, key)) ??
    among(upTo(f.trackFlags.length), (key) => handleProblem(m, state, key)) ??
    among(upTo(f.vcpuOn.length), (key) => vcpuProblem(m, state, key)) ??
    among(state.domains.keys(), (domain) =>
      among(state.domains.get(domain)?.p2m.keys() ?? [], (gfn) => p2mProblem(reach, state, { domain, gfn })),
    ) ??
    among(upTo(geometry.frameCount), (mfn) => reachProblem(m, { reach, state }, mfn)) ??
    // What was never handed out was never written either: the write log would have shown it.
    among(upTo(geometry.frameCount), (mfn) =>
      f.frameIncarnation.get(mfn) === 0 ? undefined : contentsProblem(m, state, mfn),
    ) ??
    modelWordsProblem(m, state) ??
    checkReach(m, reach)
  );
}

/** Reach that was kept up to date must equal reach computed from scratch: a mistake of the harness throws. */
function checkReach(m: Machine, reach: Reach): undefined {
  const kept = reach.listing();
  const made = new Set(Reach.audited(m).listing());
  const extra = kept.find((line) => !made.has(line));
  invariant(extra === undefined, `incremental reach has ${extra ?? ''} too much`);
  invariant(made.size === new Set(kept).size, 'incremental reach lacks something');
}
