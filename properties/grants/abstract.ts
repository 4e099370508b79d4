// How the implementation's active entries and maptrack represent the model's.
// The shared entries themselves are memory: their words are related in memory/abstract.ts.

import type { DomId, GrantRef } from '#abi/address.ts';
import { handlesOf, refsOf } from '#impl/layout.ts';
import type { Machine } from '#impl/machine.ts';
import type { Active, Mapped, Pins, State } from '#model/state.ts';
import { firstDifference, type Relation, type Row } from '../harness/difference.ts';
import type { Problem } from '../harness/law.ts';

/** An active entry on both sides, by its key: granter * refsOf + ref. Without pins it is absent in the model. */
interface ActiveSides {
  readonly m: Machine;
  readonly key: number;
  readonly granter: number;
  readonly ref: GrantRef;
  readonly active: Active | undefined;
}

const pin = (name: keyof Pins, pins: (m: Machine, key: number) => number): Row<ActiveSides> => ({
  name,
  breaks: 'REF',
  model: ({ active }) => active?.[name] ?? 0,
  machine: ({ m, key }) => pins(m, key),
});

const actives: Relation<ActiveSides> = {
  mechanism: 'grants',
  kind: 'active',
  thing: ({ granter, ref }) => `grant ${ref} of d${granter}`,
  rows: [
    pin('hstr', ({ f }, key) => f.activeHostRead.get(key)),
    pin('hstw', ({ f }, key) => f.activeHostWrite.get(key)),
    pin('devr', ({ f }, key) => f.activeDeviceRead.get(key)),
    pin('devw', ({ f }, key) => f.activeDeviceWrite.get(key)),
    {
      name: 'domain',
      breaks: 'refines',
      model: ({ active }) => active?.domain,
      machine: ({ m, key, active }) => active && m.f.activeDomain.get(key) - 1,
    },
    {
      name: 'mfn',
      breaks: 'refines',
      model: ({ active }) => active?.mfn,
      machine: ({ m, key, active }) => active && m.f.activeMfn.get(key),
    },
    {
      name: 'incarnation',
      breaks: 'refines',
      model: ({ active }) => active?.ground.meant?.incarnation,
      machine: ({ m, key, active }) => active && m.f.activeIncarnation.get(key),
    },
  ],
};

/** Whether the implementation has the active entry at `key` in use. */
export const isPinned = ({ f }: Machine, key: number): boolean =>
  f.activeHostRead.get(key) !== 0 ||
  f.activeHostWrite.get(key) !== 0 ||
  f.activeDeviceRead.get(key) !== 0 ||
  f.activeDeviceWrite.get(key) !== 0;

/** Compares the active entry at `key`. */
export function activeProblem(m: Machine, state: State, key: number): Problem | undefined {
  const granter = Math.floor(key / refsOf(m.geometry));
  const ref = (key % refsOf(m.geometry)) as GrantRef;
  const active = state.domains.get(granter as DomId)?.grants.active.get(ref);
  return firstDifference(actives, { m, key, granter, ref, active });
}

/** A maptrack entry on both sides, by its key: mapper * handlesOf + handle. */
interface HandleSides {
  readonly m: Machine;
  readonly key: number;
  readonly mapper: number;
  readonly handle: number;
  readonly mapped: Mapped | undefined;
}

/** How often a handle stands in its mapper's list of free ones, which may go in a circle; each is looked for, so small machines alone. */
function timesFree({ m, mapper, handle }: HandleSides): number {
  const { f, geometry } = m;
  const first = mapper * handlesOf(geometry);
  const count = f.maptrackFrameCount.get(mapper) * geometry.capacity.handlesPerMaptrackFrame;
  let times = 0;
  let at = f.maptrackHead.get(mapper);
  for (let i = 0; at !== 0 && i <= count; i += 1) {
    if (at === handle + 1) times += 1;
    at = f.trackNext.get(first + at - 1);
  }
  return times;
}

/** Whether the mapper has room for that many handles, and the machine is small. */
const isLooked = ({ m, mapper, handle }: HandleSides): boolean =>
  m.geometry.name === 'tiny' &&
  handle < m.f.maptrackFrameCount.get(mapper) * m.geometry.capacity.handlesPerMaptrackFrame;

const handles: Relation<HandleSides> = {
  mechanism: 'grants',
  kind: 'handle',
  thing: ({ mapper, handle }) => `handle ${handle} of d${mapper}`,
  rows: [
    {
      name: 'flags',
      breaks: 'refines',
      model: ({ mapped }) => mapped?.flags ?? 0,
      machine: ({ m, key }) => m.f.trackFlags.get(key),
    },
    {
      name: 'domain',
      breaks: 'refines',
      model: ({ mapped }) => mapped?.domain,
      machine: ({ m, key, mapped }) => mapped && m.f.trackDomain.get(key),
    },
    {
      name: 'ref',
      breaks: 'refines',
      model: ({ mapped }) => mapped?.ref,
      machine: ({ m, key, mapped }) => mapped && m.f.trackRef.get(key),
    },
    {
      name: 'gfn',
      breaks: 'refines',
      model: ({ mapped }) => mapped?.gfn,
      machine: ({ m, key, mapped }) => mapped && m.f.trackGfn.getWide(key),
    },
    {
      name: 'free',
      breaks: 'FREE',
      model: (sides) => (isLooked(sides) && sides.mapped === undefined ? 1 : 0),
      machine: (sides) => (isLooked(sides) ? timesFree(sides) : 0),
    },
  ],
};

/** Compares the maptrack entry at `key`. */
export function handleProblem(m: Machine, state: State, key: number): Problem | undefined {
  const mapper = Math.floor(key / handlesOf(m.geometry));
  const handle = key % handlesOf(m.geometry);
  const mapped = state.domains.get(mapper as DomId)?.grants.handles.get(handle);
  return firstDifference(handles, { m, key, mapper, handle, mapped });
}
