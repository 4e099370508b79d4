// Grant operations, made from the entries that granters have written and the handles that mappers hold. (Entries come into
// being by plain stores: properties/paging/generators.ts.) A first reader may skip all but `Settings`.

import { DOMID_SELF, type DomId, type GrantRef } from '#abi/address.ts';
import { bytesPerFrame, grantsPerFrame } from '#abi/geometry.ts';
import { grantFlags, mapFlags, type GrantsOp } from '#abi/grants.ts';
import type { GfnOperand } from '#abi/operand.ts';
import { hasAll } from '#lib/bits.ts';
import { allEntries, keysOf, mappedOf, offersTo, ramOf, usableOf, type Offer } from '../harness/census.ts';
import { operandOf, type Gen, type Generators, type Needs, type Weights } from '../harness/decisions.ts';

/** How grant operations are drawn. Shares are per cent. */
export interface Settings {
  readonly weights: Weights<GrantsOp<'symbolic'>>;
  /** Ordinary batches have 1..usual elements. */
  readonly usual: number;
  /** Writable grants that are mapped read-only all the same. */
  readonly readOnly: number;
  /** Handles taken from history instead of from those that stand. */
  readonly stale: number;
}

const weights: Settings['weights'] = {
  'grants.map': 16,
  'grants.unmap': 9,
  'grants.copy': 12,
  'grants.query': 1,
  'grants.setupTable': 3,
};

/** Drivers that map, use, and unmap. */
export const plausible = (): Settings => ({ weights, usual: 2, readOnly: 30, stale: 5 });

/** Drivers that repeat themselves, overlap, and keep old handles. */
export const hostile = (): Settings => ({ weights, usual: 4, readOnly: 40, stale: 20 });

const handlesOf = (g: Gen, id: DomId): readonly number[] => {
  const handles = g.state.domains.get(id)?.grants.handles;
  return handles === undefined ? [] : keysOf(handles);
};

const refCount = (g: Gen, id: DomId): number =>
  grantsPerFrame(g.geometry) * (g.state.domains.get(id)?.grants.frames.length ?? 1);

const isReadOnly = ({ flags }: Offer): boolean => hasAll(flags, grantFlags.readOnly);

type MapElement = Extract<GrantsOp<'symbolic'>, { kind: 'grants.map' }>['elements'][number];

/** An offer to `caller`; without one, any entry of anybody. */
function offer(g: Gen, caller: DomId, likes: (one: Offer) => boolean): Offer | undefined {
  const open = offersTo(g.state, caller);
  const inFocus = open.filter(({ ref }) => g.focus.refs.has(ref));
  if (inFocus.length > 0 && g.share(50)) return g.prefer(inFocus, likes);
  if (open.length > 0 && !g.bends()) return g.prefer(open, likes);
  return g.prefer(allEntries(g.state), (one) => one.flags !== 0 && likes(one));
}

/** `taken`: gfns that the batch maps already; only a bent step maps one twice. */
function mapElement(g: Gen, s: Settings, at: { caller: DomId; taken: Set<number> }): MapElement {
  const { caller, taken } = at;
  const found = offer(g, caller, ({ granter }) => granter !== caller);
  const wantsLess = (found !== undefined && isReadOnly(found) && !g.bends()) || g.share(s.readOnly);
  const odd = g.bends() ? g.prng.pick([mapFlags.device, mapFlags.applicationMap, mapFlags.containsPte]) : 0;
  const host = odd !== 0 && g.share(50) ? 0 : mapFlags.host;
  // Who maps for a device mostly maps for itself as well; guests must not.
  const mayMap = g.state.domains.get(caller)?.kind === 'control';
  const device = odd === 0 && g.share(mayMap ? 35 : 8) ? mapFlags.device : 0;
  const granter = found?.granter ?? (1 as DomId);
  const free = g.unmapped(caller, 0, taken);
  taken.add(free);
  return {
    flags: host + odd + device + (wantsLess ? mapFlags.readOnly : 0),
    domain: g.domain(granter),
    ref: g.ref(found?.ref ?? 0, refCount(g, granter)),
    gfn: g.gfn(g.bends() ? g.oneOf(mappedOf(g.state, caller)) : g.share(10) ? g.oneOf(ramOf(g.state, caller)) : free),
  };
}

type Device = Extract<GrantsOp<'symbolic'>, { kind: 'grants.unmap' }>['elements'][number]['dev'];

/** What an unmap says of the part for devices: of a mapping that has one it is asked for by itself, together with the other, or left alone. */
function deviceUnmapped(g: Gen, hasDevice: boolean): Device {
  if (hasDevice) return g.prng.pick(['mapped', 'mapped', 'none', 'none', 'wrong'] as const);
  return g.bends() || g.share(10) ? g.prng.pick(['mapped', 'wrong'] as const) : 'none';
}

function unmap(g: Gen, s: Settings): Extract<GrantsOp<'symbolic'>, { kind: 'grants.unmap' }> {
  const caller = g.asHandler((id) => handlesOf(g, id).length > 0);
  const left = [...handlesOf(g, caller)];
  const handles = g.state.domains.get(caller)?.grants.handles;
  const hasDevice = (handle: number): boolean => hasAll(handles?.get(handle)?.flags ?? 0, mapFlags.device);
  const isOrphan = (handle: number): boolean =>
    g.state.domains.get(handles?.get(handle)?.domain ?? caller)?.state !== 'running';
  // Each part can be unmapped by itself.
  const most = left.length + left.filter(hasDevice).length;
  const count = Math.min(16, g.mood === 'legal' ? Math.max(1, Math.min(most, g.batch(s.usual))) : g.batch(s.usual));
  let halved = -1;
  const elements = g.list(count, () => {
    const isStale = left.length === 0 || g.share(s.stale);
    const focused = left.findIndex((one) => one === halved || g.focus.handles.has(one) || isOrphan(one));
    const at = focused >= 0 && g.share(60) ? focused : g.prng.below(Math.max(1, left.length));
    const handle = left.splice(at, 1)[0] ?? 0;
    const mapped = handles?.get(handle);
    const isHalf = hasDevice(handle);
    const dev = deviceUnmapped(g, isHalf);
    // What keeps a part can be unmapped once more, and a part can be refused when another is not.
    halved = isHalf && dev !== 'mapped' ? handle : -1;
    if (halved >= 0) left.push(halved);
    const isElsewhere = mapped === undefined || (isHalf && g.share(15));
    return {
      handle: isStale ? g.oldHandle() : g.handle(caller, handle),
      gfn: g.gfn(isElsewhere ? g.oneOf(mappedOf(g.state, caller)) : mapped.gfn),
      dev,
    };
  });
  return { kind: 'grants.unmap', elements, results: g.buffer(caller, count), start: g.start(count) };
}

interface Side {
  readonly by: 'gfn' | 'ref';
  readonly domain: DomId;
  readonly ref: GrantRef;
  readonly gfn: GfnOperand;
}

/** One end of a copy: own memory by gfn, or another's by grant. */
function side(g: Gen, caller: DomId, wants: { isRef: boolean; isWritten: boolean }): Side {
  const found = wants.isRef ? offer(g, caller, (one) => !wants.isWritten || !isReadOnly(one)) : undefined;
  if (found === undefined) {
    const gfn = g.gfn(g.oneOf(usableOf(g.state, caller)));
    return { by: 'gfn', domain: g.domain(DOMID_SELF), ref: 0 as GrantRef, gfn };
  }
  const ref = g.ref(found.ref, refCount(g, found.granter));
  return { by: 'ref', domain: g.domain(found.granter), ref, gfn: operandOf(g.geometry, found.gfn) };
}

type CopyElement = Extract<GrantsOp<'symbolic'>, { kind: 'grants.copy' }>['elements'][number];

function copyElement(g: Gen, caller: DomId): CopyElement {
  const bytes = bytesPerFrame(g.geometry);
  const usual = g.prng.pick([8, 1, bytes / 2, bytes, 1 + g.prng.below(Math.min(bytes, 64))]);
  const length = g.bends() ? g.prng.pick([0, bytes + 1, usual]) : usual;
  const room = Math.max(0, bytes - length);
  const offset = (): number => (g.bends() ? room + 1 : g.prng.pick([0, room, g.prng.below(room + 1)]));
  const offsets = { sourceOffset: offset(), destOffset: offset() };
  const isFromRef = g.share(50);
  const source = side(g, caller, { isRef: isFromRef, isWritten: false });
  const dest = side(g, caller, { isRef: !isFromRef || g.share(30), isWritten: true });
  return {
    sourceBy: source.by,
    sourceDomain: source.domain,
    sourceRef: source.ref,
    sourceGfn: source.gfn,
    sourceOffset: offsets.sourceOffset,
    destBy: g.bends() ? 'gfn' : dest.by,
    destDomain: dest.domain,
    destRef: dest.ref,
    destGfn: dest.gfn,
    destOffset: offsets.destOffset,
    length,
  };
}

/** The generators of grant operations. */
export const generators = (s: Settings): Generators<GrantsOp<'symbolic'>> => ({
  'grants.map': (g) => {
    const caller = g.asHandler((id) => offersTo(g.state, id).length > 0);
    const count = Math.min(16, g.batch(s.usual));
    const at = { caller, taken: new Set<number>() };
    const elements = g.list(count, () => mapElement(g, s, at));
    return { kind: 'grants.map', elements, results: g.buffer(caller, count), start: g.start(count) };
  },
  'grants.unmap': (g) => unmap(g, s),
  'grants.copy': (g) => {
    const caller = g.asHandler((id) => offersTo(g.state, id).length > 0);
    const count = Math.min(16, g.batch(s.usual));
    const elements = g.list(count, () => copyElement(g, caller));
    return { kind: 'grants.copy', elements, results: g.buffer(caller, count), start: g.start(count) };
  },
  'grants.query': (g) => {
    const caller = g.asVcpu();
    return { kind: 'grants.query', target: g.domain(g.share(60) ? DOMID_SELF : caller) };
  },
  'grants.setupTable': (g) => {
    const caller = g.asHandler();
    const { frames, limit } = g.state.domains.get(caller)?.grants ?? { frames: [], limit: 1 };
    const count = g.bends() ? limit + 1 : Math.min(limit, frames.length + (g.share(50) ? 1 : 0));
    return { kind: 'grants.setupTable', target: g.domain(DOMID_SELF), frames: count, list: g.buffer(caller, count) };
  },
});

/** Whether somebody's tables were changed lately: for what comes of that any call will do that answers in memory. */
const hasChanged = (g: Gen): boolean => g.changers().length > 0;

const holdsHandle = (g: Gen): boolean => g.callers().some(({ domain }) => handlesOf(g, domain).length > 0);

const hasOffer = (g: Gen): boolean => g.callers().some(({ domain }) => offersTo(g.state, domain).length > 0);

/** When a legal operation of a kind is possible. */
export const needs: Needs<GrantsOp<'symbolic'>> = {
  'grants.map': (g) => hasOffer(g) || hasChanged(g),
  'grants.unmap': (g) => holdsHandle(g) || hasChanged(g),
  'grants.copy': (g) => hasOffer(g) || hasChanged(g),
  'grants.query': (g) => g.canCall(),
  'grants.setupTable': (g) => g.canCall(),
};
