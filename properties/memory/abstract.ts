// How the implementation's frame table, domains and contents of memory represent the model's. Contents of frames that the
// hypervisor keeps for itself (xen, pool) and of free frames still to be erased are nobody's: they are not related.

import type { DomId, Mfn } from '#abi/address.ts';
import { p2mAccesses } from '#abi/hap.ts';
import { frameRoles } from '#abi/roles.ts';
import { domKinds, domStages, domStates, podSizes } from '#impl/layout.ts';
import type { Machine } from '#impl/machine.ts';
import { ownGfn } from '#model/p2m.ts';
import { frameOf, type Domain, type Frame, type State } from '#model/state.ts';
import { wordAt } from '#model/words.ts';
import { podProblem } from './pod-abstract.ts';
import { firstDifference, type Relation, type Row } from '../harness/difference.ts';
import type { Problem } from '../harness/law.ts';
import { logRows } from './log-abstract.ts';

/** A frame on both sides. */
interface FrameSides {
  readonly m: Machine;
  readonly state: State;
  readonly mfn: number;
  readonly frame: Frame;
}

/** A number that is stored with one added, so that 0 means none. */
const optional = (stored: number): number | undefined => (stored === 0 ? undefined : stored - 1);

const frames: Relation<FrameSides> = {
  mechanism: 'memory',
  kind: 'frame',
  thing: ({ mfn }) => `frame ${mfn}`,
  rows: [
    {
      name: 'role',
      breaks: 'refines',
      model: ({ frame }) => frame.role,
      machine: ({ m, mfn }) => frameRoles[m.f.frameRole.get(mfn)],
    },
    {
      name: 'owner',
      breaks: 'refines',
      model: ({ frame }) => frame.owner,
      machine: ({ m, mfn }) => optional(m.f.frameOwner.get(mfn)),
    },
    {
      name: 'allocated',
      breaks: 'refines',
      model: ({ frame }) => frame.allocated,
      machine: ({ m, mfn }) => m.f.frameAllocated.get(mfn) === 1,
    },
    {
      name: 'incarnation',
      breaks: 'refines',
      model: ({ frame }) => frame.incarnation,
      machine: ({ m, mfn }) => m.f.frameIncarnation.get(mfn),
    },
    {
      name: 'tableLife',
      breaks: 'refines',
      model: ({ frame }) => frame.tableLife,
      machine: ({ m, mfn }) => m.f.tableLife.get(mfn),
    },
    {
      // A frame that is owed erasure and is not known as such goes on with its contents.
      name: 'dirty',
      breaks: 'LEAK',
      model: ({ frame }) => frame.role === 'free' && frame.dirty,
      machine: ({ m, mfn, frame }) => frame.role === 'free' && m.f.frameDirty.get(mfn) === 1,
    },
    {
      name: 'cached',
      breaks: 'refines',
      model: ({ state, frame, mfn }) =>
        (frame.owner === undefined ? undefined : state.domains.get(frame.owner)?.pod.cache.get(mfn)) ?? 'none',
      machine: ({ m, mfn }) => podSizes[m.f.podSize.get(mfn)],
    },
    { name: 'refs', breaks: 'REF', model: ({ frame }) => frame.refs, machine: ({ m, mfn }) => m.f.frameRefs.get(mfn) },
    {
      name: 'm2p',
      breaks: 'M2P',
      model: ({ state, mfn }) => ownGfn(state, mfn as Mfn),
      machine: ({ m, mfn }) => optional(m.f.m2p.getWide(mfn)),
    },
  ],
};

/** Compares frame `mfn`, its contents aside. */
export const frameProblem = (m: Machine, state: State, mfn: number): Problem | undefined =>
  // Frames of devices are in no table of the implementation.
  mfn >= m.geometry.frameCount
    ? undefined
    : firstDifference(frames, { m, state, mfn, frame: frameOf(state, mfn as Mfn) });

/** Whether the contents of a frame are somebody's, and so are related. */
export function isRelated(state: State, mfn: number): boolean {
  const { role, dirty } = frameOf(state, mfn as Mfn);
  return role !== 'xen' && role !== 'pool' && role !== 'mmio' && !(role === 'free' && dirty);
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

/** A living or dying domain on both sides. */
interface DomainSides {
  readonly m: Machine;
  readonly domain: Domain;
}

type DomainRow = Row<DomainSides>;

const row = (name: string, model: DomainRow['model'], machine: DomainRow['machine']): DomainRow => ({
  name,
  breaks: 'refines',
  model,
  machine,
});

interface Numbers {
  readonly get: (i: number) => number;
}

const isSameList = (list: readonly number[], field: Numbers, from: number, count: number): boolean =>
  list.length === count && list.every((one, i) => one === field.get(from + i));

const listOf = (field: Numbers, from: number, count: number): string =>
  Array.from({ length: count }, (_, i) => field.get(from + i)).join(' ');

/** A row about a list: the model's, and where the implementation has how many. */
const listed = (
  name: string,
  model: (sides: DomainSides) => readonly number[],
  machine: (sides: DomainSides) => readonly [field: Numbers, from: number, count: number],
): Row<DomainSides> => ({
  ...row(
    name,
    (sides) => model(sides).join(' '),
    (sides) => listOf(...machine(sides)),
  ),
  isSame: (sides) => isSameList(model(sides), ...machine(sides)),
});

const domains: Relation<DomainSides> = {
  mechanism: 'memory',
  kind: 'domain',
  thing: ({ domain }) => `d${domain.id}`,
  rows: [
    row('kind', ({ domain }) => domain.kind, ({ m, domain }) => domKinds[m.f.domKind.get(domain.id)]), // prettier-ignore
    row(
      'stage',
      ({ domain }) => (domain.state === 'dying' ? domain.relinquish : ''),
      ({ m, domain }) => (domain.state === 'dying' ? domStages[m.f.domStage.get(domain.id)] : ''),
    ),
    ...logRows,
    row('leaves', ({ domain }) => domain.watch.leaves, ({ m, domain }) => p2mAccesses[m.f.domAccess.get(domain.id)]), // prettier-ignore
    row('listens', ({ domain }) => domain.watch.listens, ({ m, domain }) => m.f.domListens.get(domain.id) === 1), // prettier-ignore
    row('accessRequired', ({ domain }) => domain.watch.required, ({ m, domain }) => m.f.domAccessRequired.get(domain.id) === 1), // prettier-ignore
    row('pauses', ({ domain }) => domain.pauseCount, ({ m, domain }) => m.f.domPauses.get(domain.id)), // prettier-ignore
    row('crashed', ({ domain }) => domain.crashed, ({ m, domain }) => m.f.domCrashed.get(domain.id) === 1), // prettier-ignore
    row('writesTables', ({ domain }) => domain.writesTables, ({ m, domain }) => m.f.domWritesTables.get(domain.id) === 1), // prettier-ignore
    row('maxPages', ({ domain }) => domain.maxPages, ({ m, domain }) => m.f.domMaxPages.get(domain.id)), // prettier-ignore
    row('totalPages', ({ domain }) => domain.totalPages, ({ m, domain }) => m.f.domTotalPages.get(domain.id)), // prettier-ignore
    row('claim', ({ domain }) => domain.claim, ({ m, domain }) => m.f.domClaim.get(domain.id)), // prettier-ignore
    row('maxGfn', ({ domain }) => domain.maxGfn, ({ m, domain }) => m.f.domMaxGfn.getWide(domain.id)), // prettier-ignore
    row('vcpus', ({ domain }) => domain.vcpus, ({ m, domain }) => m.f.domVcpus.get(domain.id)), // prettier-ignore
    row('structure', ({ domain }) => domain.structure, ({ m, domain }) => m.f.domStructure.get(domain.id)), // prettier-ignore
    row('sharedInfo', ({ domain }) => domain.sharedInfo, ({ m, domain }) => m.f.domSharedInfo.get(domain.id)), // prettier-ignore
    row('poolTotal', ({ domain }) => domain.pool.frames.size, ({ m, domain }) => m.f.poolTotal.get(domain.id)), // prettier-ignore
    row(
      'poolSpare',
      ({ domain }) => domain.pool.frames.size - domain.pool.used,
      ({ m, domain }) => m.f.poolSpare.get(domain.id),
    ),
    row('grantLimit', ({ domain }) => domain.grants.limit, ({ m, domain }) => m.f.grantLimit.get(domain.id)), // prettier-ignore
    listed(
      'grantFrames',
      ({ domain }) => domain.grants.frames,
      ({ m, domain: { id } }) =>
        [m.f.grantFrame, id * m.geometry.capacity.grantFrames, m.f.grantFrameCount.get(id)] as const,
    ),
    listed(
      'maptrackFrames',
      ({ domain }) => domain.grants.maptrack,
      ({ m, domain: { id } }) =>
        [m.f.maptrackFrame, id * m.geometry.capacity.maptrackFrames, m.f.maptrackFrameCount.get(id)] as const,
    ),
  ],
};

const lives: Relation<{ readonly m: Machine; readonly id: number; readonly domain: Domain | undefined }> = {
  mechanism: 'memory',
  kind: 'domain',
  thing: ({ id }) => `d${id}`,
  rows: [
    {
      name: 'state',
      breaks: 'refines',
      model: ({ domain }) => domain?.state ?? 'none',
      machine: ({ m, id }) => domStates[m.f.domState.get(id)],
    },
  ],
};

/** Compares what the domain table says of `id`; tables, grants and vCPUs have their own relations. */
export function domainProblem(m: Machine, state: State, id: number): Problem | undefined {
  const domain = state.domains.get(id as DomId);
  const problem = firstDifference(lives, { m, id, domain });
  if (problem !== undefined || domain === undefined) return problem;
  return firstDifference(domains, { m, domain }) ?? podProblem(m, domain);
}

const permissions: Relation<{ readonly m: Machine; readonly state: State; readonly key: number }> = {
  mechanism: 'memory',
  kind: 'iomem',
  thing: ({ m, key }) =>
    `device frame ${key % m.geometry.deviceFrames} of d${Math.floor(key / m.geometry.deviceFrames)}`,
  rows: [
    {
      name: 'permitted',
      breaks: 'PRIV',
      model: ({ state, key }) => {
        const { frameCount, deviceFrames } = state.geometry;
        const domain = state.domains.get(Math.floor(key / deviceFrames) as DomId);
        return domain?.iomem.has(frameCount + (key % deviceFrames));
      },
      machine: ({ m, state, key }) =>
        state.domains.has(Math.floor(key / m.geometry.deviceFrames)) ? m.f.domIomem.get(key) === 1 : undefined,
    },
  ],
};

/** Compares whether a domain may have a device frame: `key` is domain * deviceFrames + device frame. */
export const permissionProblem = (m: Machine, state: State, key: number): Problem | undefined =>
  firstDifference(permissions, { m, state, key });
