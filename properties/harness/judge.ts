// Judging reach: whether one candidate of the model explains the rights of all agents in a frame at once, and whether what
// is owed is there. And the comparison of whole states, as far as they were touched.

import type { Mfn } from '#abi/address.ts';
import type { Mechanism } from '#abi/operation.ts';
import { frameTypes, isTrusted } from '#abi/pv.ts';
import { describeRights, RIGHT, walkRight } from '#abi/rights.ts';
import { frameRoles, type FrameRole } from '#abi/roles.ts';
import { handlesOf, refsOf } from '#impl/layout.ts';
import type { Machine } from '#impl/machine.ts';
import { brokenInvariant } from '#model/invariants.ts';
import { authority, owed, type Justification } from '#model/isolation.ts';
import type { Domain, State } from '#model/state.ts';
import { and } from '#lib/bits.ts';
import { invariant } from '#lib/invariant.ts';
import { activeProblem, handleProblem, isPinned } from '../grants/abstract.ts';
import { placeProblem as p2mProblem } from '../hap/abstract.ts';
import {
  contentsProblem,
  domainProblem,
  frameProblem,
  modelWordsProblem,
  permissionProblem,
  wordProblem,
} from '../memory/abstract.ts';
import { typeProblem } from '../pv/abstract.ts';
import { placeProblem as vcpuProblem } from '../tlb/abstract.ts';
import { isDirect } from './direct-reach.ts';
import type { Problem } from './law.ts';
import { Reach } from './reach.ts';
import type { Cached, Leaf } from './leaf.ts';
import type { Touched } from './touched.ts';
import type { Looks } from './view.ts';

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

/** What a frame is for; those behind the frame table are devices'. */
const roleOf = (m: Machine, mfn: number): FrameRole =>
  mfn < m.geometry.frameCount ? (frameRoles[m.f.frameRole.get(mfn)] ?? 'free') : 'mmio';

/** Whose tables lead there: nested ones, or a paravirtual guest's own. */
const mechanismOf = (m: Machine, { domain }: Leaf): Mechanism => (isDirect(m, domain) ? 'pv' : 'hap');

/** Whether a table can be written, or a frame is walked as a table. */
function isOfTables(m: Machine, one: Leaf, mfn: number): boolean {
  if (one.rights >= walkRight(1)) return true;
  if (!isWritable(one.rights) || mfn >= m.geometry.frameCount) return false;
  const type = frameTypes[m.f.frameType.get(mfn)] ?? 'none';
  return roleOf(m, mfn) === 'pool' || isTrusted(type);
}

/** What an unjustified way to a frame breaks. */
function unjustified(m: Machine, one: Leaf | Cached, mfn: number): Problem {
  const role = roleOf(m, mfn);
  const way = isCached(one)
    ? `pCPU ${one.pcpu} still holds a ${one.kind} entry by which d${one.domain}`
    : `d${one.domain}`;
  const where = `gfn ${one.gfn + (mfn - one.mfn)}`;
  const isHidden = isCached(one);
  return {
    invariant: isHidden ? 'STALE' : isOfTables(m, one, mfn) ? 'PTW' : 'OWN',
    mechanism: isHidden ? 'tlb' : mechanismOf(m, one),
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
  if (leaves.size > 0 || cached.size > 0) {
    const reasons = authority(state, mfn as Mfn, owing);
    for (const ways of [leaves, cached])
      for (const one of ways) {
        const first = reasons.find((reason) => justifies(reason, one, mfn));
        if (first === undefined) return unjustified(m, one, mfn);
        if (!reasons.some((reason) => reason !== first && justifies(reason, one, mfn))) only?.(first.why);
      }
  }
  for (const due of owing) {
    // A listener has left nothing of it.
    if (due.rights === 0) continue;
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

/** What is searched for frames that nothing explains. */
interface Search {
  readonly machine: Machine;
  readonly reach: Reach;
  /** Frames whose explanation must be looked at, besides those whose reach has changed. */
  readonly suspects: ReadonlySet<number>;
  readonly candidates: () => readonly State[];
  /** Asks for all candidates instead of the likely ones; false: those are all. */
  readonly widen: () => boolean;
  readonly only: OnlyReason;
  readonly looks: Looks | undefined;
}

/** What there was to object to about frame `mfn`. */
function count({ machine, reach, looks }: Search, state: State, mfn: number): void {
  if (looks === undefined) return;
  for (const leaf of reach.leavesOf(mfn)) {
    looks(mechanismOf(machine, leaf), 'OWN');
    if (roleOf(machine, mfn) === 'pool' || (isDirect(machine, leaf.domain) && leaf.rights >= walkRight(1)))
      looks(mechanismOf(machine, leaf), 'PTW');
  }
  if (reach.cachedOf(mfn).size > 0) looks('tlb', 'STALE');
  if (owed(state, mfn as Mfn).length > 0) looks('hap', 'MUST');
}

/** The first frame such that no candidate explains all ways to it at once. */
export function firstUnexplained(of: Search): Problem | undefined {
  const { machine, reach, suspects, only } = of;
  if (suspects.size === 0 && reach.changed.size === 0) return undefined;
  let candidates = of.candidates();
  // Whoever explained the last frame mostly explains the next one.
  let likely = candidates.length - 1;
  const explain = (mfn: number): Problem | undefined => {
    let first: Problem | undefined;
    for (let i = 0; i < candidates.length; i += 1) {
      const at = (likely + i) % candidates.length;
      const problem = reachProblem(machine, { reach, state: candidates[at] as State, only }, mfn);
      if (problem === undefined) {
        likely = at;
        return undefined;
      }
      first ??= problem;
    }
    return first;
  };
  for (const frames of [reach.changed, suspects])
    for (const mfn of frames) {
      let problem = explain(mfn);
      while (problem !== undefined && of.widen()) {
        candidates = of.candidates();
        problem = explain(mfn);
      }
      if (problem !== undefined) return problem;
      count(of, candidates[likely] as State, mfn);
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

function amongFirst(count: number, problem: First<number>): Problem | undefined {
  for (let i = 0; i < count; i += 1) {
    const found = problem(i);
    if (found !== undefined) return found;
  }
  return undefined;
}

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
    among(touched.frames, (mfn) => look(frameProblem(m, state, mfn) ?? typeProblem(m, state, mfn))) ??
    among(touched.domains, (id) => look(domainProblem(m, state, id))) ??
    among(touched.actives, (key) => look(activeProblem(m, state, key))) ??
    among(touched.handles, (key) => look(handleProblem(m, state, key))) ??
    among(touched.devices, (key) => look(permissionProblem(m, state, key))) ??
    among(touched.vcpus, (key) => look(vcpuProblem(m, state, key))) ??
    among(touched.places, ([domain, gfns]) =>
      among(gfns, (gfn) => look(p2mProblem({ m, reach, state }, { domain, gfn }))),
    ) ??
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

/** The first difference in grants and handles that the model has in use. */
const inUse = (m: Machine, state: State, { id, grants }: Pick<Domain, 'id' | 'grants'>): Problem | undefined =>
  among(grants.active.keys(), (ref) => activeProblem(m, state, id * refsOf(m.geometry) + ref)) ??
  among(grants.handles.keys(), (handle) => handleProblem(m, state, id * handlesOf(m.geometry) + handle));

/** The first difference between the machine and `state` in anything. */
export function auditProblem(m: Machine, of: { state: State; reach: Reach }): Problem | undefined {
  const { state, reach } = of;
  const { f, geometry } = m;
  return (
    checkModel(state) ??
    amongFirst(geometry.frameCount, (mfn) => frameProblem(m, state, mfn) ?? typeProblem(m, state, mfn)) ??
    amongFirst(geometry.capacity.domains, (id) => domainProblem(m, state, id)) ??
    // What neither side has in use is equal: absent there, all zero here.
    amongFirst(f.activeMfn.length, (key) => (isPinned(m, key) ? activeProblem(m, state, key) : undefined)) ??
    amongFirst(f.trackFlags.length, (key) => (f.trackFlags.get(key) > 0 ? handleProblem(m, state, key) : undefined)) ??
    among(state.domains.values(), ({ id, grants }) => inUse(m, state, { id, grants })) ??
    amongFirst(f.domIomem.length, (key) => permissionProblem(m, state, key)) ??
    amongFirst(f.vcpuOn.length, (key) => vcpuProblem(m, state, key)) ??
    among(state.domains.keys(), (domain) =>
      among(state.domains.get(domain)?.p2m.keys() ?? [], (gfn) => p2mProblem({ m, reach, state }, { domain, gfn })),
    ) ??
    amongFirst(geometry.frameCount, (mfn) => reachProblem(m, { reach, state }, mfn)) ??
    // What was never handed out was never written either: the write log would have shown it.
    amongFirst(geometry.frameCount, (mfn) =>
      f.frameIncarnation.get(mfn) === 0 ? undefined : contentsProblem(m, state, mfn),
    ) ??
    modelWordsProblem(m, state) ??
    checkReach(m, reach)
  );
}

/** Reach that was kept up to date must equal reach computed from scratch: a mistake of the harness throws. */
function checkReach(m: Machine, reach: Reach): undefined {
  const difference = reach.difference(Reach.audited(m));
  invariant(difference === undefined, `incremental reach is wrong about ${difference ?? ''}`);
}
