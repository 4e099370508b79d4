// How the implementation's frame table, domains and contents of memory represent the model's. Contents of frames that the
// hypervisor keeps for itself (xen, pool) and of free frames still to be erased are nobody's: they are not related.

import type { DomId, Mfn } from '#abi/address.ts';
import { frameRoles } from '#abi/roles.ts';
import { domStages, domStates } from '#impl/layout.ts';
import type { Machine } from '#impl/machine.ts';
import { ownGfn } from '#model/p2m.ts';
import { frameOf, type Domain, type State } from '#model/state.ts';
import { wordAt } from '#model/words.ts';
import { firstDifference } from '../harness/difference.ts';
import type { Problem } from '../harness/law.ts';

/** Compares frame `mfn`, its contents aside. */
export function frameProblem(m: Machine, state: State, mfn: number): Problem | undefined {
  const { f } = m;
  const frame = frameOf(state, mfn as Mfn);
  const owner = f.frameOwner.get(mfn);
  const thing = `frame ${mfn}`;
  const main = firstDifference({ invariant: 'refines', mechanism: 'memory', thing }, 'frame', [
    ['role', frame.role, frameRoles[f.frameRole.get(mfn)]],
    ['owner', frame.owner, owner === 0 ? undefined : owner - 1],
    ['allocated', frame.allocated, f.frameAllocated.get(mfn) === 1],
    ['incarnation', frame.incarnation, f.frameIncarnation.get(mfn)],
  ]);
  if (main !== undefined) return main;
  // A frame that is owed erasure and is not known as such goes on with its contents.
  const owed = firstDifference({ invariant: 'LEAK', mechanism: 'memory', thing }, 'frame', [
    ['dirty', frame.role === 'free' && frame.dirty, frame.role === 'free' && f.frameDirty.get(mfn) === 1],
  ]);
  if (owed !== undefined) return owed;
  const refs = firstDifference({ invariant: 'REF', mechanism: 'memory', thing }, 'frame', [
    ['refs', frame.refs, f.frameRefs.get(mfn)],
  ]);
  if (refs !== undefined) return refs;
  const gfn = f.m2p.getWide(mfn);
  return firstDifference({ invariant: 'M2P', mechanism: 'memory', thing }, 'frame', [
    ['m2p', ownGfn(state, mfn as Mfn), gfn === 0 ? undefined : gfn - 1],
  ]);
}

/** Whether the contents of a frame are somebody's, and so are related. */
export function isRelated(state: State, mfn: number): boolean {
  const { role, dirty } = frameOf(state, mfn as Mfn);
  return role !== 'xen' && role !== 'pool' && !(role === 'free' && dirty);
}

/** Compares one 64-bit word of a related frame. */
export function wordProblem(m: Machine, state: State, at: { mfn: number; index: number }): Problem | undefined {
  const { mfn, index } = at;
  if (!isRelated(state, mfn)) return undefined;
  const offset = 2 * (mfn * m.geometry.wordsPerFrame + index);
  const lo = m.f.memory.get(offset);
  const hi = m.f.memory.get(offset + 1);
  const word = wordAt(state, mfn as Mfn, index);
  if (word.lo === lo && word.hi === hi) return undefined;
  const { role } = frameOf(state, mfn as Mfn);
  const expected = `${word.hi.toString(16)}:${word.lo.toString(16)}`;
  const actual = `${hi.toString(16)}:${lo.toString(16)}`;
  return {
    invariant: role === 'grantFrame' ? 'STATUS' : role === 'free' ? 'LEAK' : 'refines',
    mechanism: role === 'grantFrame' ? 'grants' : 'memory',
    field: `word.${role}`,
    sentence: `word ${index} of frame ${mfn} (${role}) holds ${actual}, the model says ${expected}`,
    expected,
    actual,
  };
}

/** Compares all words of a frame that the implementation holds non-zero. */
export function contentsProblem(m: Machine, state: State, mfn: number): Problem | undefined {
  if (!isRelated(state, mfn)) return undefined;
  const { memory } = m.f;
  const { wordsPerFrame } = m.geometry;
  for (let index = 0; index < wordsPerFrame; index += 1) {
    const offset = 2 * (mfn * wordsPerFrame + index);
    if (memory.get(offset) === 0 && memory.get(offset + 1) === 0) continue;
    const problem = wordProblem(m, state, { mfn, index });
    if (problem !== undefined) return problem;
  }
  return undefined;
}

/** Compares all words that the model holds non-zero. */
export function modelWordsProblem(m: Machine, state: State): Problem | undefined {
  const { wordsPerFrame } = m.geometry;
  let problem: Problem | undefined;
  state.words.forEach((_, key) => {
    problem ??= wordProblem(m, state, { mfn: Math.floor(key / wordsPerFrame), index: key % wordsPerFrame });
  });
  return problem;
}

const listOf = (field: { get: (i: number) => number }, from: number, count: number): string =>
  Array.from({ length: count }, (_, i) => field.get(from + i)).join(' ');

/** Compares what the domain table says of `id`; tables, grants and vCPUs have their own relations. */
export function domainProblem(m: Machine, state: State, id: number): Problem | undefined {
  const { f } = m;
  const about = { invariant: 'refines', mechanism: 'memory', thing: `d${id}` } as const;
  const domain = state.domains.get(id as DomId);
  const life = domStates[f.domState.get(id)];
  const there = firstDifference(about, 'domain', [['state', domain?.state ?? 'none', life]]);
  if (there !== undefined || domain === undefined) return there;
  return firstDifference(about, 'domain', [...scalars(m, domain), ...lists(m, domain)]);
}

function scalars({ f }: Machine, domain: Domain) {
  const { id } = domain;
  const pools = domain.pool.frames.size;
  return [
    ['kind', domain.kind, f.domKind.get(id) === 0 ? 'control' : 'hvm'],
    [
      'stage',
      domain.state === 'dying' ? domain.relinquish : '',
      domain.state === 'dying' ? domStages[f.domStage.get(id)] : '',
    ],
    ['pauses', domain.pauseCount, f.domPauses.get(id)],
    ['crashed', domain.crashed, f.domCrashed.get(id) === 1],
    ['maxPages', domain.maxPages, f.domMaxPages.get(id)],
    ['totalPages', domain.totalPages, f.domTotalPages.get(id)],
    ['vcpus', domain.vcpus, f.domVcpus.get(id)],
    ['structure', domain.structure, f.domStructure.get(id)],
    ['sharedInfo', domain.sharedInfo, f.domSharedInfo.get(id)],
    ['poolTotal', pools, f.poolTotal.get(id)],
    ['poolSpare', pools - domain.pool.used, f.poolSpare.get(id)],
    ['grantLimit', domain.grants.limit, f.grantLimit.get(id)],
  ] as const;
}

function lists(m: Machine, domain: Domain) {
  const { f } = m;
  const { grantFrames, maptrackFrames } = m.geometry.capacity;
  const { id } = domain;
  return [
    ['grantFrames', domain.grants.frames.join(' '), listOf(f.grantFrame, id * grantFrames, f.grantFrameCount.get(id))],
    [
      'maptrackFrames',
      domain.grants.maptrack.join(' '),
      listOf(f.maptrackFrame, id * maptrackFrames, f.maptrackFrameCount.get(id)),
    ],
  ] as const;
}
