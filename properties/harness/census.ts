// What there is to act upon: questions that generators ask of the live model. Who can call, which gfns are mapped, which
// grants stand open, who has a list of gfns lying in memory. All answers are in ascending order and derived from the state
// alone, so equal states give equal answers. A first reader may skip this file.

import { NOWHERE } from '#abi/agents.ts';
import type { DomId, Gfn, GrantRef, Mfn, PcpuId, VcpuId } from '#abi/address.ts';
import { grantFlags } from '#abi/grants.ts';
import { grantsPerFrame, type Geometry } from '#abi/geometry.ts';
import { UNRESTRICTED } from '#abi/hap.ts';
import type { VcpuName } from '#abi/trace.ts';
import { and } from '#lib/bits.ts';
import type { Trie } from '#lib/trie.ts';
import { entryOf, frameOf, isRamType, placeOfVcpu, type Domain, type Entry, type State } from '#model/state.ts';
import { isOnDemand } from '#model/pod.ts';
import { wordAt } from '#model/words.ts';

const keyMemo = new WeakMap<Trie<unknown>, readonly number[]>();

/** The keys of a trie, ascending; remembered per version of it. */
export function keysOf(trie: Trie<unknown>): readonly number[] {
  const known = keyMemo.get(trie);
  if (known !== undefined) return known;
  const keys = trie.keys();
  keyMemo.set(trie, keys);
  return keys;
}

/** A question about a state, asked once per version of it. */
function once<T>(answer: (state: State) => T): (state: State) => T {
  const known = new WeakMap<State, { readonly is: T }>();
  return (state) => {
    const old = known.get(state);
    if (old !== undefined) return old.is;
    const is = answer(state);
    known.set(state, { is });
    return is;
  };
}

/** All domains, ascending. */
export const domainsOf: (state: State) => readonly Domain[] = once((state) => state.domains.values());

/** Alive, unpaused and uncrashed: its vCPUs run. */
export const isActive = (domain: Domain): boolean =>
  domain.state === 'running' && domain.pauseCount === 0 && domain.held === 0 && !domain.crashed;

/** All vCPUs of living domains. */
export const vcpusOf: (state: State) => readonly VcpuName[] = once((state) =>
  domainsOf(state).flatMap(({ id, vcpus }) =>
    Array.from({ length: vcpus }, (_, vcpu) => ({ domain: id, vcpu: vcpu as VcpuId })),
  ),
);

/** vCPUs that can call now: of active domains, on a processor. */
export const callersOf: (state: State) => readonly VcpuName[] = once((state) =>
  vcpusOf(state).filter((one) => canCall(state, one)),
);

function canCall(state: State, { domain, vcpu }: VcpuName): boolean {
  const owner = state.domains.get(domain);
  return owner !== undefined && isActive(owner) && placeOfVcpu(state, domain, vcpu) !== NOWHERE;
}

/** Which domain runs on `pcpu`; undefined: none. */
export const runsOn = (state: State, pcpu: PcpuId): DomId | undefined =>
  vcpusOf(state).find(({ domain, vcpu }) => placeOfVcpu(state, domain, vcpu) === pcpu)?.domain;

/** gfns of `domain` whose entries satisfy `fits`. */
export function gfnsOf(state: State, domain: DomId, fits: (entry: Entry) => boolean): readonly number[] {
  const found: number[] = [];
  state.domains.get(domain)?.p2m.forEach((entry, gfn) => {
    if (fits(entry)) found.push(gfn);
  });
  return found;
}

const keptByDomain = once(() => new Map<DomId, readonly number[]>());

/** gfns of `domain` of whose rights a listener has left less than their types give. */
export function keptOf(state: State, domain: DomId): readonly number[] {
  const known = keptByDomain(state).get(domain);
  if (known !== undefined) return known;
  const kept = gfnsOf(state, domain, ({ access }) => access !== UNRESTRICTED);
  keptByDomain(state).set(domain, kept);
  return kept;
}

const ramByDomain = once(() => new Map<DomId, readonly number[]>());

/** gfns of `domain` that are its own RAM (frames of role ram, not its shared info or grant frames). */
export function ramOf(state: State, domain: DomId): readonly number[] {
  const known = ramByDomain(state).get(domain);
  if (known !== undefined) return known;
  const ram = gfnsOf(state, domain, ({ mfn, type }) => {
    const frame = frameOf(state, mfn);
    return isRamType(type) && frame.role === 'ram' && frame.owner === domain;
  });
  ramByDomain(state).set(domain, ram);
  return ram;
}

/** gfns of `domain` that are on demand: of each run the first few and the last ones. */
export function demandOf(state: State, domain: DomId): readonly number[] {
  const runs = state.domains.get(domain)?.pod.entries ?? [];
  return runs.flatMap(({ from, to }) => {
    const count = Math.min(to - from, SAMPLED);
    const first = Array.from({ length: count }, (_, i) => from + i);
    return to - from > 2 * SAMPLED ? [...first, to - 2, to - 1] : [...first, ...rangeOf(from + count, to)];
  });
}

/** So many gfns of a run on demand are looked at, from its beginning. */
const SAMPLED = 16;

const rangeOf = (from: number, to: number): readonly number[] =>
  Array.from({ length: Math.max(0, to - from) }, (_, i) => from + i);

/** gfns of `domain` that are mapped at all, or are on demand and there is memory for them. */
export const mappedOf = (state: State, domain: DomId): readonly number[] => {
  const of = state.domains.get(domain);
  if (of === undefined) return [];
  const keys = keysOf(of.p2m);
  return of.pod.cache.size === 0 ? keys : [...keys, ...demandOf(state, domain)].toSorted((a, b) => a - b);
};

/** gfns of `domain` that it can use as its own RAM: those that are, and those that become so. */
export const usableOf = (state: State, domain: DomId): readonly number[] => {
  const of = state.domains.get(domain);
  return of === undefined || of.pod.cache.size === 0
    ? ramOf(state, domain)
    : [...ramOf(state, domain), ...demandOf(state, domain)];
};

/** Frames on the heap. Frame 0 is the hypervisor's. */
export function freeFrames(state: State): number {
  let used = 0;
  state.frames.forEach((frame) => {
    if (frame.role !== 'free' && frame.role !== 'mmio') used += 1;
  });
  return Math.max(0, state.geometry.frameCount - 1 - used);
}

/** Domain ids without a domain. */
export const vacant = (state: State): readonly DomId[] =>
  Array.from({ length: state.geometry.capacity.domains }, (_, id) => id as DomId).filter(
    (id) => !state.domains.has(id),
  );

/** A grant entry as its granter wrote it. */
export interface Offer {
  readonly granter: DomId;
  readonly ref: GrantRef;
  readonly flags: number;
  readonly domain: DomId;
  readonly gfn: Gfn;
}

const refsMemo = new Map<number, readonly GrantRef[]>();

/** References worth looking at: the first few, those at borders of frames, the last. */
export function hotRefs(geometry: Geometry, frames: number): readonly GrantRef[] {
  const per = grantsPerFrame(geometry);
  const count = per * Math.max(1, frames);
  const known = refsMemo.get(per * 0x1_0000 + count);
  if (known !== undefined) return known;
  const refs = [0, 1, 2, 3, per - 1, per, per + 1, count - 1].filter((ref) => ref < count);
  const made = [...new Set(refs)].toSorted((a, b) => a - b) as GrantRef[];
  refsMemo.set(per * 0x1_0000 + count, made);
  return made;
}

/** The entry at `ref` of `granter`, zero or not; undefined if there is no such entry. */
export function offerAt(state: State, granter: DomId, ref: GrantRef): Offer | undefined {
  const per = grantsPerFrame(state.geometry);
  const mfn = state.domains.get(granter)?.grants.frames[Math.floor(ref / per)];
  if (mfn === undefined) return undefined;
  const { lo, hi } = wordAt(state, mfn, ref % per);
  return { granter, ref, flags: and(lo, 0xffff), domain: Math.floor(lo / 0x1_0000) as DomId, gfn: hi as Gfn };
}

/** Every entry at a hot reference of anybody, empty ones included. */
export const allEntries = (state: State): readonly Offer[] =>
  domainsOf(state).flatMap(({ id }) => entriesOf(state, id));

/** Those of `granter`. */
export const entriesOf = (state: State, granter: DomId): readonly Offer[] => {
  const frames = state.domains.get(granter)?.grants.frames.length ?? 0;
  return hotRefs(state.geometry, frames).flatMap((ref) => offerAt(state, granter, ref) ?? []);
};

/** Entries that somebody may use; a step mostly asks whether there is any at all, so empty ones are passed over early. */
const openEntries = once((state) => {
  const open: Offer[] = [];
  const per = grantsPerFrame(state.geometry);
  for (const { id, grants } of domainsOf(state)) {
    if (grants.frames.length === 0) continue;
    for (const ref of hotRefs(state.geometry, grants.frames.length)) {
      const mfn = grants.frames[Math.floor(ref / per)];
      if (mfn === undefined || !state.words.has(mfn * state.geometry.wordsPerFrame + (ref % per))) continue;
      const offer = offerAt(state, id, ref);
      if (offer !== undefined && isOpen(state, offer)) open.push(offer);
    }
  }
  return open;
});

/** Whether an entry permits access to RAM that its granter still has. */
export function isOpen(state: State, offer: Offer): boolean {
  if (and(offer.flags, grantFlags.kindMask) !== grantFlags.permitAccess) return false;
  const granter = state.domains.get(offer.granter);
  if (granter !== undefined && granter.pod.cache.size > 0 && isOnDemand(granter, offer.gfn)) return true;
  if (granter?.kind === 'pv') return frameOf(state, offer.gfn as number as Mfn).owner === granter.id;
  const entry = entryOf(state, offer.granter, offer.gfn);
  return entry !== undefined && isRamType(entry.type) && frameOf(state, entry.mfn).owner === offer.granter;
}

/** Entries of anybody that `mapper` may use. */
export const offersTo = (state: State, mapper: DomId): readonly Offer[] =>
  openEntries(state).filter((offer) => offer.domain === mapper);

/** Where `domain` sees its grant frame `index`; undefined: nowhere. */
export function grantFrameGfn(state: State, domain: DomId, index: number): Gfn | undefined {
  const mfn = state.domains.get(domain)?.grants.frames[index];
  return mfn === undefined ? undefined : frameOf(state, mfn).mappings.find((place) => place.domain === domain)?.gfn;
}

/** Where `domain` keeps lists for hypercalls to fetch: its lowest RAM. */
export const deskOf = (state: State, domain: DomId): Gfn | undefined => ramOf(state, domain)[0] as Gfn | undefined;

/** How many words from the start of `domain`'s desk on are gfns that satisfy `fits`. */
export function listLength(state: State, domain: DomId, fits: (gfn: number) => boolean): number {
  const desk = deskOf(state, domain);
  const mfn = desk === undefined ? undefined : entryOf(state, domain, desk)?.mfn;
  if (mfn === undefined) return 0;
  let count = 0;
  const max = Math.min(4, state.geometry.wordsPerFrame);
  for (; count < max; count += 1) {
    const word = wordAt(state, mfn, count);
    if (word.hi !== 0 || !fits(word.lo)) break;
  }
  return count;
}
