// How the implementation's active entries and maptrack represent the model's.
// The shared entries themselves are memory: their words are related in memory/abstract.ts.

import type { DomId, GrantRef } from '#abi/address.ts';
import { handlesOf, refsOf } from '#impl/layout.ts';
import type { Machine } from '#impl/machine.ts';
import type { State } from '#model/state.ts';
import { firstDifference } from '../harness/difference.ts';
import type { Problem } from '../harness/law.ts';

/** Compares the active entry at `key` (granter * refsOf + ref). An entry without pins is absent in the model. */
export function activeProblem(m: Machine, state: State, key: number): Problem | undefined {
  const { f } = m;
  const granter = Math.floor(key / refsOf(m.geometry));
  const ref = (key % refsOf(m.geometry)) as GrantRef;
  const active = state.domains.get(granter as DomId)?.grants.active.get(ref);
  const about = { invariant: 'REF', mechanism: 'grants', thing: `grant ${ref} of d${granter}` } as const;
  const pins = firstDifference(about, 'active', [
    ['hstr', active?.hstr ?? 0, f.activeHostRead.get(key)],
    ['hstw', active?.hstw ?? 0, f.activeHostWrite.get(key)],
    ['devr', active?.devr ?? 0, f.activeDeviceRead.get(key)],
    ['devw', active?.devw ?? 0, f.activeDeviceWrite.get(key)],
  ]);
  if (pins !== undefined || active === undefined) return pins;
  return firstDifference({ ...about, invariant: 'refines' }, 'active', [
    ['domain', active.domain, f.activeDomain.get(key) - 1],
    ['mfn', active.mfn, f.activeMfn.get(key)],
  ]);
}

/** Compares the maptrack entry at `key` (mapper * handlesOf + handle). */
export function handleProblem(m: Machine, state: State, key: number): Problem | undefined {
  const { f } = m;
  const mapper = Math.floor(key / handlesOf(m.geometry));
  const handle = key % handlesOf(m.geometry);
  const mapped = state.domains.get(mapper as DomId)?.grants.handles.get(handle);
  const about = { invariant: 'refines', mechanism: 'grants', thing: `handle ${handle} of d${mapper}` } as const;
  const there = firstDifference(about, 'handle', [['flags', mapped?.flags ?? 0, f.trackFlags.get(key)]]);
  if (there !== undefined || mapped === undefined) return there;
  return firstDifference(about, 'handle', [
    ['domain', mapped.domain, f.trackDomain.get(key)],
    ['ref', mapped.ref, f.trackRef.get(key)],
    ['gfn', mapped.gfn, f.trackGfn.getWide(key)],
  ]);
}
