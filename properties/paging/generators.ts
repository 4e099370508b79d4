// Accesses by processors. Guests write what hypercalls go by through plain stores: grant entries into the grant frames that
// they have mapped, and lists of gfns into the memory that extents are fetched from; and, when they use paging, the tables that
// processors go by (table-generators.ts). The rest carries fresh tags. With paging on all of it is said in linear frames.
// A first reader may skip all but `Settings`.

import type { DomId, GrantRef } from '#abi/address.ts';
import { grantFlags } from '#abi/grants.ts';
import { grantsPerFrame } from '#abi/geometry.ts';
import type { GfnOperand, Literal } from '#abi/operand.ts';
import type { PagingOp, Privilege } from '#abi/paging.ts';
import { linearContext } from '#model/paging/context.ts';
import { entryOf } from '#model/state.ts';
import { wordAt } from '#model/words.ts';
import {
  demandOf,
  deskOf,
  domainsOf,
  entriesOf,
  gfnsOf,
  grantFrameGfn,
  isOpen,
  keptOf,
  mappedOf,
  usableOf,
  type Offer,
} from '../harness/census.ts';
import { operandOf, type Gen, type Generators, type Needs, type Weights } from '../harness/decisions.ts';
import { grantable, grantFramePage, isNative } from '../grants/native.ts';
import { tableWrite } from '../pv/table-writes.ts';
import { directDesk, listedNumber } from '../pv/lists.ts';
import { isBuilding, mayLoad, mayTurn, setControl, setRoot } from './register-generators.ts';
import { linearOf } from './tables.ts';
import { asPager, linearPages, writeTable } from './table-generators.ts';

/** How accesses are drawn. Shares are per cent. */
export interface Settings {
  readonly weights: Weights<PagingOp<'symbolic'>>;
  /** Stores that make, alter or clear a grant entry. */
  readonly entries: number;
  /** Stores that lay a gfn ready for a hypercall to fetch. */
  readonly lists: number;
  /** In runs with a guest that uses paging, stores that make or change an entry of its tables: half, what else it stores is plenty. */
  readonly tables: number;
  /** With paging on, accesses as a user. */
  readonly users: number;
  /** Accesses of odd sizes, straddling words and frames. */
  readonly crooked: number;
  /** Accesses to what processors may still remember, and those answered by an older translation, if a cache holds one. */
  readonly old: number;
}

const weights: Settings['weights'] = {
  'paging.read': 12,
  'paging.write': 30,
  'paging.compareExchange': 5,
  'paging.fetch': 3,
  'paging.setControl': 7,
  'paging.setRoot': 10,
};

/** Guests that go about their business. */
export const plausible = (): Settings => ({
  weights,
  entries: 55,
  lists: 20,
  tables: 50,
  users: 25,
  crooked: 20,
  old: 50,
});

/** Guests that look for borders and for what caches still remember. */
export const hostile = (): Settings => ({
  weights,
  entries: 55,
  lists: 20,
  tables: 50,
  users: 40,
  crooked: 45,
  old: 70,
});

const permits = [
  grantFlags.permitAccess,
  grantFlags.permitAccess,
  grantFlags.permitAccess + grantFlags.readOnly,
] as const;
const oddFlags = [
  grantFlags.invalid,
  grantFlags.acceptTransfer,
  grantFlags.transitive,
  grantFlags.permitAccess + grantFlags.subPage,
  grantFlags.permitAccess + grantFlags.writing,
  grantFlags.permitAccess + grantFlags.reading,
] as const;

interface Access {
  readonly gfn: GfnOperand;
  readonly offset: number;
  readonly size: number;
}

const via = (g: Gen, s: Settings): number => (!g.probes && g.share(s.old / 2) ? g.prng.pick([1, 1, 2, 3, 15]) : 0);

/** gfns that some processor may still translate as they were. */
const staleOf = (g: Gen, domain: DomId): readonly number[] =>
  (g.state.domains.get(domain)?.stale ?? []).map(({ gfn }) => gfn);

/** Whether a domain has memory on demand, and frames set aside for it; or memory that may turn out to be unused. */
function isPaid(g: Gen, id: DomId): boolean {
  const pod = g.state.domains.get(id)?.pod;
  return pod !== undefined && pod.entries.length > 0 && (pod.cache.size > 0 || (pod.highest > 0 && g.share(50)));
}

/** Lets a vCPU access memory: of a domain that is being changed, or one whose processor may remember too much. */
const asAccessor = (g: Gen): DomId => {
  if (!g.probes && g.pager !== undefined && g.share(40)) return asPager(g);
  const isWaiting = g.share(60);
  const isServed = (id: DomId): boolean => isWaiting && (isPaid(g, id) || keptOf(g.state, id).length > 0);
  return g.asVcpu(g.probes ? (id) => g.focus.domains.has(id) : (id) => staleOf(g, id).length > 0 || isServed(id));
};

/** A gfn out of what the caller has mapped, or where a processor may still remember what it had. */
function somewhere(g: Gen, s: Settings, at: { caller: DomId; among: readonly number[] }): number {
  const focused = [...g.focus.gfns];
  if (g.probes && focused.length > 0) return g.walks(at.caller, g.prng.pick(focused));
  const onDemand = g.share(60) ? demandOf(g.state, at.caller) : [];
  if (onDemand.length > 0 && (isPaid(g, at.caller) || g.share(10))) return g.walks(at.caller, g.oneOf(onDemand));
  const kept = g.share(40) ? keptOf(g.state, at.caller) : [];
  if (kept.length > 0) return g.walks(at.caller, g.oneOf(kept));
  const doubtful = [...staleOf(g, at.caller), ...focused];
  return g.walks(at.caller, g.oneOf(doubtful.length > 0 && g.share(s.old) ? doubtful : at.among));
}

/** Such a gfn, or with paging on some linear frame that is or was translated, as the caller says it. */
function target(g: Gen, s: Settings, at: { caller: DomId; among: readonly number[] }): GfnOperand {
  const pages = g.share(60) ? linearPages(g) : [];
  return pages.length > 0 ? g.gfn(g.prng.pick(pages)) : g.address(somewhere(g, s, at));
}

/** Who accesses. It matters with paging on alone. */
const privilege = (g: Gen, s: Settings): Privilege => {
  const context = linearContext(g.state, g.agent);
  if (context === undefined) return 'supervisor';
  // A paravirtual guest without a root for its users is stopped if it goes there.
  const isDirect = g.agent.kind === 'vcpu' && g.state.domains.get(g.agent.domain)?.kind === 'pv';
  if (isDirect && context.userRoot === 0 && !g.share(1)) return 'supervisor';
  // Others go from mode to mode, and back to what they have left there.
  if (isDirect && context.userRoot !== 0 && g.share(60)) return context.isUser ? 'supervisor' : 'user';
  return g.share(s.users) ? 'user' : g.share(10) ? 'supervisorAc' : 'supervisor';
};

/** Bytes at such a place. */
function anywhere(g: Gen, s: Settings, at: { caller: DomId; among: readonly number[] }): Access {
  const isOrdinary = !g.share(s.crooked);
  const size = isOrdinary ? 8 : 1 + g.prng.below(8);
  const offset = isOrdinary ? 8 * g.prng.below(Math.min(8, g.geometry.wordsPerFrame)) : g.offset(size);
  const straddles = g.bends() && size > 1;
  return { gfn: target(g, s, at), offset: straddles ? 8 * g.geometry.wordsPerFrame - 1 : offset, size };
}

/** Whether `domain` sees a grant frame of its own. */
const hasGrants = (g: Gen, domain: DomId): boolean =>
  grantFrameGfn(g.state, domain, 0) !== undefined ||
  (g.state.domains.get(domain)?.grants.limit !== 0 && isNative(g, domain));

/** Where a processor writes the entry of a reference. */
const placeOf = (g: Gen, caller: DomId, ref: GrantRef): { gfn: GfnOperand; offset: number } | undefined => {
  const per = grantsPerFrame(g.geometry);
  const index = Math.floor(ref / per);
  const offset = 8 * (ref % per);
  const page = grantFramePage(g, caller, index);
  if (page !== undefined) return { gfn: operandOf(g.geometry, page), offset };
  const gfn = grantFrameGfn(g.state, caller, index);
  return gfn === undefined ? undefined : { gfn: g.place(gfn), offset };
};

/** A whole entry for somebody else's use of own RAM. */
function newEntry(g: Gen, caller: DomId): Literal {
  const others = domainsOf(g.state).map(({ id }) => id);
  const domain = g.prefer(others, (id) => id !== caller) ?? caller;
  return {
    as: 'grantEntry',
    flags: g.bends() ? g.prng.pick(oddFlags) : g.prng.pick(permits),
    domain: g.domain(domain),
    gfn: isNative(g, caller) ? grantable(g, caller) : g.gfn(g.oneOf(usableOf(g.state, caller))),
  };
}

const flagsWord = (flags: number): Literal => ({ as: 'word', lo: flags, hi: 0 });

/** Makes an entry, alters its flags (a store of 2 bytes), or clears it. */
function writeEntry(g: Gen, caller: DomId): (Access & { value: Literal }) | undefined {
  const entries = entriesOf(g.state, caller).filter(({ ref }) => placeOf(g, caller, ref) !== undefined);
  const isUsed = (entry: Offer): boolean => entry.flags !== 0;
  const wantsNew = g.share(65);
  const inFocus = entries.filter(({ ref }) => g.focus.refs.has(ref));
  const entry = g.prefer(inFocus.length > 0 && g.share(50) ? inFocus : entries, (one) => isUsed(one) !== wantsNew);
  const at = entry && placeOf(g, caller, entry.ref);
  if (entry === undefined || at === undefined) return undefined;
  const { gfn } = at;
  const isNew = !isUsed(entry) || g.share(20) || (!isOpen(g.state, entry) && g.share(60));
  if (isNew) return { gfn, offset: at.offset, size: 8, value: newEntry(g, caller) };
  if (g.share(30)) return { gfn, offset: at.offset, size: 8, value: flagsWord(0) };
  const flags = g.share(60) ? grantFlags.invalid : g.prng.pick(g.share(60) ? permits : oddFlags);
  return { gfn, offset: at.offset, size: 2, value: flagsWord(flags) };
}

/** Lays a gfn into the caller's desk: one that could be populated, or one that could be given back. */
function writeList(g: Gen, caller: DomId): (Access & { value: Literal }) | undefined {
  const direct = directDesk(g.state, g.agent);
  if (direct !== undefined) {
    const offset = 8 * g.prng.below(Math.min(3, g.geometry.wordsPerFrame));
    const page = operandOf(g.geometry, linearOf(g.geometry, direct.page));
    return { gfn: page, offset, size: 8, value: listedNumber(g, caller) };
  }
  const desk = deskOf(g.state, caller);
  if (desk === undefined) return undefined;
  const whose = caller === 0 ? g.prng.pick(domainsOf(g.state)).id : caller;
  const listed = g.share(50) ? g.unmapped(whose) : g.oneOf(usableOf(g.state, whose).slice(1));
  const offset = 8 * (g.share(60) ? 0 : g.prng.below(Math.min(3, g.geometry.wordsPerFrame)));
  const value: Literal = { as: 'gfn', gfn: g.gfn(listed) };
  return { gfn: g.place(desk), offset, size: 8, value };
}

const writableOf = (g: Gen, caller: DomId): readonly number[] =>
  gfnsOf(
    g.state,
    caller,
    ({ type }) => type === 'ramRw' || type === 'ramLogDirty' || type === 'grantRw' || type === 'foreign',
  );

/** Writes that are changes of a paravirtual guest's tables, where there is one that writes them. */
const DIRECT = 30;

function write(g: Gen, s: Settings): Extract<PagingOp<'symbolic'>, { kind: 'paging.write' }> {
  const direct = g.share(DIRECT) ? tableWrite(g) : undefined;
  if (direct !== undefined) {
    const { gfn, offset, size, value } = direct;
    return { kind: 'paging.write', gfn, offset, size, value, via: 0, as: g.share(4) ? 'user' : 'supervisor' };
  }
  if (!g.probes && g.pager !== undefined && g.share(isBuilding(g) ? 80 : s.tables)) {
    const entry = writeTable(g);
    if (entry !== undefined) return { kind: 'paging.write', ...entry, size: 8, via: 0, as: 'supervisor' };
  }
  const drawn = g.probes ? 100 : g.prng.below(100);
  const makesEntry = drawn < s.entries;
  const caller = makesEntry ? g.asVcpu((id) => hasGrants(g, id)) : asAccessor(g);
  const special = makesEntry ? writeEntry(g, caller) : drawn < s.entries + s.lists ? writeList(g, caller) : undefined;
  const plain = { ...anywhere(g, s, { caller, among: writableOf(g, caller) }), value: { as: 'fresh' } } as const;
  const isPlain = special === undefined;
  const as = isPlain ? privilege(g, s) : 'supervisor';
  return { kind: 'paging.write', ...(special ?? plain), via: isPlain ? via(g, s) : 0, as };
}

/** What the word of a grant entry is now, as a literal that keeps its meaning in other geometries. */
const literalOf = (g: Gen, { flags, domain, gfn }: Offer): Literal => ({
  as: 'grantEntry',
  flags,
  domain,
  gfn: operandOf(g.geometry, gfn),
});

function compareExchange(g: Gen, s: Settings): Extract<PagingOp<'symbolic'>, { kind: 'paging.compareExchange' }> {
  const kind = 'paging.compareExchange';
  const direct = g.share(DIRECT) ? tableWrite(g) : undefined;
  if (direct !== undefined) {
    const { there, ...at } = direct;
    const seen = there.lo + (g.bends() ? 1 : 0);
    return { kind, ...at, expected: { as: 'word', lo: seen % 2 ** 32, hi: there.hi }, via: 0, as: 'supervisor' };
  }
  const caller = g.probes ? asAccessor(g) : g.asVcpu();
  const entry = g.prefer(entriesOf(g.state, caller), ({ flags }) => flags !== 0);
  const at = entry && placeOf(g, caller, entry.ref);
  if (!g.probes && entry !== undefined && at !== undefined && g.share(40)) {
    const value = g.share(50) ? flagsWord(0) : newEntry(g, caller);
    const size = g.share(30) ? 2 : 8;
    const expected = literalOf(g, entry);
    return { kind, gfn: at.gfn, offset: at.offset, size, expected, value, via: 0, as: 'supervisor' };
  }
  const gfn = somewhere(g, s, { caller, among: writableOf(g, caller) });
  const index = g.prng.below(Math.min(4, g.geometry.wordsPerFrame));
  const mfn = entryOf(g.state, caller, gfn)?.mfn;
  const word = mfn === undefined ? { lo: 0, hi: 0 } : wordAt(g.state, mfn, index);
  const expected: Literal = { as: 'word', lo: word.lo, hi: g.bends() ? word.lo : word.hi };
  const how = { via: via(g, s), as: privilege(g, s) };
  return { kind, gfn: g.address(gfn), offset: 8 * index, size: 8, expected, value: { as: 'fresh' }, ...how };
}

/** The generators of accesses. */
export const generators = (s: Settings): Generators<PagingOp<'symbolic'>> => ({
  'paging.read': (g) => {
    const caller = asAccessor(g);
    const at = anywhere(g, s, { caller, among: mappedOf(g.state, caller) });
    return { kind: 'paging.read', ...at, via: via(g, s), as: privilege(g, s) };
  },
  'paging.write': (g) => write(g, s),
  'paging.compareExchange': (g) => compareExchange(g, s),
  'paging.fetch': (g) => {
    const caller = asAccessor(g);
    const executable = gfnsOf(g.state, caller, ({ type }) => type.startsWith('ram'));
    const at = anywhere(g, s, { caller, among: executable });
    return { kind: 'paging.fetch', ...at, via: via(g, s), as: privilege(g, s) };
  },
  'paging.setControl': setControl,
  'paging.setRoot': setRoot,
});

const someVcpu = (g: Gen): boolean => g.canCall();

/** When a legal operation of a kind is possible. */
export const needs: Needs<PagingOp<'symbolic'>> = {
  'paging.read': someVcpu,
  'paging.write': someVcpu,
  'paging.compareExchange': someVcpu,
  'paging.fetch': someVcpu,
  'paging.setControl': (g) => g.pager !== undefined && mayTurn(g),
  'paging.setRoot': (g) => g.pager !== undefined && mayLoad(g),
};
