// The model's own bookkeeping, recounted from scratch: if one of these fails, the specification is wrong, not the
// implementation. Holds only while no operation is in flight (one in flight holds pins, references and a handle).
// Audits use it; a first reader may skip it. The names are those of abi/invariants.ts.

import type { DomId, GrantRef, Mfn } from '#abi/address.ts';
import type { Invariant } from '#abi/invariants.ts';
import { countersOf } from './grants/pins.ts';
import { owed } from './isolation.ts';
import { countFrame, countRoots, typeProblem } from './pv/recount.ts';
import { isStill } from './life.ts';
import { frameOf, isParavirtual, type Domain, type Frame, type Pins, type State } from './state.ts';

/** What is broken, and how it shows. */
export interface Broken {
  readonly invariant: Invariant;
  readonly sentence: string;
}

/** Uses found by walking P2Ms and maptracks: references per frame, pins per granter and reference, RAM per owner. */
interface Recount {
  readonly references: Map<number, number>;
  readonly pins: Map<string, { hstr: number; hstw: number; devr: number; devw: number }>;
  readonly pages: Map<DomId, number>;
  readonly mappings: Map<number, number>;
  /** Of a paravirtual guest's frames: uses as what they are; and linear entries less linear uses. */
  readonly types: Map<number, number>;
  readonly linear: Map<number, number>;
}

const grantKey = (granter: DomId, ref: GrantRef): string => `${granter}/${ref}`;

const increase = <K>(counts: Map<K, number>, key: K): void => void counts.set(key, (counts.get(key) ?? 0) + 1);

function countHandles(state: State, domain: Domain, into: Recount): void {
  domain.grants.handles.forEach((mapped) => {
    if (!isStill(state, mapped.domain, mapped.life)) return;
    const active = state.domains.get(mapped.domain)?.grants.active.get(mapped.ref);
    const key = grantKey(mapped.domain, mapped.ref);
    const pins = into.pins.get(key) ?? { hstr: 0, hstw: 0, devr: 0, devw: 0 };
    for (const counter of countersOf(mapped.flags)) {
      pins[counter] += 1;
      // What a paravirtual guest has mapped is held by the entries of its tables.
      const isEntrys = domain.kind === 'pv' && counter.startsWith('hst');
      if (active === undefined || isEntrys) continue;
      increase(into.references, active.mfn as number);
      if (counter.endsWith('w') && isParavirtual(state, mapped.domain)) increase(into.types, active.mfn as number);
    }
    into.pins.set(key, pins);
  });
}

function recount(state: State): Recount {
  const into: Recount = {
    references: new Map(),
    pins: new Map(),
    pages: new Map(),
    mappings: new Map(),
    types: new Map(),
    linear: new Map(),
  };
  state.frames.forEach((frame, mfn) => {
    if (frame.allocated) increase(into.references, mfn);
    if (frame.role === 'ram' && frame.owner !== undefined) increase(into.pages, frame.owner);
    if (isTyped(frame)) countFrame(state, mfn as Mfn, into);
  });
  for (const domain of state.domains.values()) {
    domain.p2m.forEach((entry) => {
      increase(into.mappings, entry.mfn as number);
      if (entry.type === 'foreign') increase(into.references, entry.mfn as number);
    });
    countHandles(state, domain, into);
    countRoots(state, domain, into);
  }
  return into;
}

/** Whether a frame is used as something; most are none of a paravirtual guest. */
const isTyped = ({ type, typeCount, pinned, locked }: Frame): boolean =>
  type !== 'none' || typeCount > 0 || pinned || locked;

const broken = (invariant: Invariant, sentence: string): Broken => ({ invariant, sentence });

function frameProblem(state: State, counts: Recount, at: { mfn: number; frame: Frame }): Broken | undefined {
  const { mfn, frame } = at;
  const references = counts.references.get(mfn) ?? 0;
  if (frame.refs !== references) return broken('REF', `frame ${mfn} counts ${frame.refs} references of ${references}`);
  if (frame.role === 'free' && frame.refs > 0) return broken('FREE', `frame ${mfn} is free and referenced`);
  const typed = isTyped(frame) || counts.types.has(mfn) ? typeProblem(state, mfn as Mfn, counts) : undefined;
  if (typed !== undefined) return broken(typed.startsWith('entry') ? 'PTW' : 'REF', typed);
  const mappings = counts.mappings.get(mfn) ?? 0;
  if (frame.mappings.length !== mappings)
    return broken('M2P', `frame ${mfn} lists ${frame.mappings.length} of ${mappings} entries that show it`);
  return owed(state, mfn as Mfn).length === mappings
    ? undefined
    : broken('OWN', `frame ${mfn} is shown by an entry that nothing justifies`);
}

function p2mProblem(state: State, domain: Domain): Broken | undefined {
  const lost = domain.p2m.keys().find((gfn) => {
    const entry = domain.p2m.get(gfn);
    const { mappings } = frameOf(state, entry?.mfn ?? (0 as Mfn));
    return !mappings.some((place) => place.domain === domain.id && place.gfn === gfn);
  });
  return lost === undefined
    ? undefined
    : broken('M2P', `gfn ${lost} of d${domain.id} is missing from its frame's list`);
}

const samePins = (a: Pins, b: Pins): boolean =>
  a.hstr === b.hstr && a.hstw === b.hstw && a.devr === b.devr && a.devw === b.devw;

function pinProblem(domain: Domain, counts: Recount): Broken | undefined {
  const wrong = domain.grants.active.keys().find((ref) => {
    const active = domain.grants.active.get(ref);
    const found = counts.pins.get(grantKey(domain.id, ref as GrantRef));
    return active === undefined || found === undefined || !samePins(active, found);
  });
  return wrong === undefined
    ? undefined
    : broken('REF', `grant ${wrong} of d${domain.id} is pinned otherwise than used`);
}

function handleProblem(state: State, domain: Domain): Broken | undefined {
  const loose = domain.grants.handles.keys().find((handle) => {
    const mapped = domain.grants.handles.get(handle);
    const active = mapped && state.domains.get(mapped.domain)?.grants.active.get(mapped.ref);
    if (mapped !== undefined && !isStill(state, mapped.domain, mapped.life)) return domain.kind !== 'pv';
    return active?.domain !== domain.id || mapped?.flags === 0;
  });
  return loose === undefined ? undefined : broken('REF', `handle ${loose} of d${domain.id} maps no grant in use`);
}

function staleProblem(state: State, domain: Domain): Broken | undefined {
  const isKept = (mfn: Mfn): boolean => frameOf(state, mfn).role === 'free' && state.policies.flush === 'lazy';
  const kept = domain.stale.find(({ mfn, doubtful }) => !doubtful && !isKept(mfn));
  return kept && broken('STALE', `d${domain.id} may still use gfn ${kept.gfn} for frame ${kept.mfn}`);
}

function domainProblem(state: State, counts: Recount, domain: Domain): Broken | undefined {
  const { pool, grants, totalPages, id } = domain;
  const pages = counts.pages.get(id) ?? 0;
  if (totalPages !== pages) return broken('REF', `d${id} counts ${totalPages} pages of ${pages}`);
  const tables = pool.frames.values().filter((use) => use !== 'spare').length;
  if (pool.used !== tables) return broken('REF', `the pool of d${id} counts ${pool.used} tables of ${tables}`);
  if (pool.frames.keys().some((mfn) => frameOf(state, mfn as Mfn).role !== 'pool'))
    return broken('FREE', `the pool of d${id} has a frame of another role`);
  if (domain.state === 'dead' && domain.p2m.size + pool.frames.size + grants.handles.size > 0)
    return broken('LIFE', `d${id} is dead and still has an address space, a pool or mappings`);
  return (
    p2mProblem(state, domain) ??
    pinProblem(domain, counts) ??
    handleProblem(state, domain) ??
    staleProblem(state, domain)
  );
}

/** What is broken in `state`, which no operation in flight disturbs; undefined: nothing. Cost: all of the state. */
export function brokenInvariant(state: State): Broken | undefined {
  const counts = recount(state);
  const lost = [...counts.references.keys(), ...counts.mappings.keys()].find((mfn) => !state.frames.has(mfn));
  if (lost !== undefined) return broken('FREE', `frame ${lost} is used and was never handed over`);
  let found: Broken | undefined;
  state.frames.forEach((frame, mfn) => (found ??= frameProblem(state, counts, { mfn, frame })));
  for (const domain of state.domains.values()) found ??= domainProblem(state, counts, domain);
  return found;
}
