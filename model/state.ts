// The state of the machine as one immutable value: what every frame is for, what every gfn means, who runs where.
// Only types and look-ups; the only ways of changing it are in frames.ts (hand-over, references, free), p2m.ts (setP2m,
// stale translations) and words.ts (contents). A first reader may skip everything below `State`.
// Sources: Xen asm/mm.h (page_info), xen/sched.h (domain), common/grant_table.c (active entries, maptrack).

import { DOMID_SELF, type DomId, type Gfn, type GrantRef, type Mfn, type PcpuId, type Word } from '#abi/address.ts';
import { isDeviceFrame, type Geometry } from '#abi/geometry.ts';
import type { P2mAccess, P2mType } from '#abi/hap.ts';
import type { FrameType } from '#abi/pv.ts';
import type { FrameRole } from '#abi/roles.ts';
import { NOWHERE } from '#abi/agents.ts';
import type { Vendor } from '#abi/vendor.ts';
import type { Trie } from '#lib/trie.ts';
import type { DirtyLog, Pod, Watch } from './memory/records.ts';
import type { Policies } from './policies.ts';

export type { DirtyLog, Pod, Populated, Run, Unfinished, Watch } from './memory/records.ts';

/** A place in a guest's physical address space. */
export interface Place {
  readonly domain: DomId;
  readonly gfn: Gfn;
}

/** A machine frame. A free one keeps its incarnation, and `dirty` while its erasure is owed. */
export interface Frame {
  readonly role: FrameRole;
  readonly owner: DomId | undefined;
  /** Whether the owner still holds its own reference (PGC_allocated). */
  readonly allocated: boolean;
  /** General references: 1 while allocated, and one per foreign entry and grant mapping. */
  readonly refs: number;
  /** How often the heap has handed it over, and a pool has made it a table. */
  readonly incarnation: number;
  readonly tableLife: number;
  readonly dirty: boolean;
  /** The inverse of all P2Ms. */
  readonly mappings: readonly Place[];
  /** Of a paravirtual guest: what it is used as, by how many, and whether what it holds has been found fit for that. */
  readonly type: FrameType;
  readonly typeCount: number;
  readonly validated: boolean;
  /** As a table of which the entries before one are taken alone, for that was interrupted: it has a use and a reference by itself. */
  readonly partial: TableProgress | undefined;
  /** As a table: entries of it that lead to others of its own level, above 0; or such entries of others that lead to it, below 0. */
  readonly linear: number;
  /** Whether its owner has the type kept, and whether somebody changes what it holds just now. */
  readonly pinned: boolean;
  readonly locked: boolean;
  /** Its pseudo-physical frame, as its guest tells it (M2P). */
  readonly pseudo: Gfn | undefined;
}

/** How far a table is: so many of its entries are taken. `holds`: the next one holds its frame, but no use of it as a table. */
export interface TableProgress {
  readonly entries: number;
  readonly holds: boolean;
}

/** What a gfn means: a frame in the life it had when the entry was made, and what has been left of the rights of its type. */
export interface Entry {
  readonly mfn: Mfn;
  readonly type: P2mType;
  readonly access: P2mAccess;
  readonly incarnation: number;
}

/** A translation that the P2M gives no more, but that these pCPUs may still remember. */
export interface Stale {
  readonly gfn: Gfn;
  readonly mfn: Mfn;
  readonly rights: number;
  readonly incarnation: number;
  readonly pcpus: readonly PcpuId[];
  /** Whether those pCPUs may have forgotten it: they were flushed in the same operation, before or after. */
  readonly doubtful: boolean;
}

/** How many uses a grant has, by who (host, device) and for what (reading, writing). */
export interface Pins {
  readonly hstr: number;
  readonly hstw: number;
  readonly devr: number;
  readonly devw: number;
}

/**
 * Ghost: what a use of a grant rests on, in the granter's own words as they stood when they were looked at. It is written
 * where a use begins and read by entitlement.ts alone; no operation decides by it.
 */
export interface Ground {
  /** The entry when the grant came into use: it says for whom. */
  readonly given: Word;
  /** The entry when writing through it began; undefined: nobody writes. */
  readonly writing: Word | undefined;
  /** The entry whose gfn was looked up, and what the granter's P2M made of that gfn; undefined: nothing. */
  readonly named: Word;
  readonly meant: { readonly mfn: Mfn; readonly owner: DomId | undefined; readonly incarnation: number } | undefined;
}

/** A grant in use: by which domain, which frame, how often. */
export interface Active extends Pins {
  readonly domain: DomId;
  readonly mfn: Mfn;
  readonly ground: Ground;
}

/** A mapping as the mapper's handle remembers it. `flags` are those map flags that still stand; 0: not yet mapped. `life`: of the granter's structure. */
export interface Mapped {
  readonly domain: DomId;
  readonly life: { readonly mfn: Mfn; readonly incarnation: number };
  readonly ref: GrantRef;
  readonly flags: number;
  readonly gfn: Gfn;
}

/** A domain's grant table (as granter) and maptrack (as mapper). */
export interface GrantTable {
  readonly frames: readonly Mfn[];
  readonly limit: number;
  readonly active: Trie<Active>;
  readonly handles: Trie<Mapped>;
  readonly maptrack: readonly Mfn[];
}

/** Frames from which a domain's tables and its bitmap of written frames are made; `used` of them are one of these. */
export interface Pool {
  readonly frames: Trie<'spare' | 'table' | 'bitmap'>;
  readonly used: number;
}

/** What has been written and is to be noted in the log of its domain: a gfn, or the frame that it is. */
export type Written = { readonly domain: DomId } & ({ readonly gfn: Gfn } | { readonly mfn: Mfn });

export interface Domain {
  readonly id: DomId;
  readonly kind: 'control' | 'hvm' | 'pv';
  /** dying: being relinquished. dead: relinquished, but others still hold frames of it. Without a trace once none does. */
  readonly state: 'running' | 'dying' | 'dead';
  /** How far relinquishing has come. */
  readonly relinquish: 'handles' | 'tables' | 'roots' | 'cache' | 'pages';
  readonly pauseCount: number;
  /** Pauses by the hypervisor itself, which nobody else ends. */
  readonly held: number;
  readonly log: DirtyLog;
  readonly watch: Watch;
  /** Whether Xen has stopped it for a crime (domain_crash): it never runs again. */
  readonly crashed: boolean;
  /** Whether what a paravirtual guest's kernel writes to its lowest tables is an update (VMASST_TYPE_writable_pagetables). */
  readonly writesTables: boolean;
  /** Calls of its vCPUs in flight, while others are too: pausing and killing wait for them. */
  readonly calls: number;
  readonly maxPages: number;
  /** RAM frames owned, mapped or not; and those that it has claimed and not taken yet. */
  readonly totalPages: number;
  readonly claim: number;
  readonly vcpus: number;
  /** Of a paravirtual guest: always empty. */
  readonly p2m: Trie<Entry>;
  /** The highest gfn that ever meant anything (max_mapped_pfn); 0 in the beginning. */
  readonly maxGfn: number;
  /** Device frames that it may be given at gfns. Ghost: those that it ever might, for what was mapped stays when that is taken back. */
  readonly iomem: Trie<true>;
  readonly iomemEver: Trie<true>;
  readonly stale: readonly Stale[];
  /** The frame of the domain structure. */
  readonly structure: Mfn;
  readonly sharedInfo: Mfn;
  readonly grants: GrantTable;
  readonly pool: Pool;
  readonly pod: Pod;
}

/**
 * What a vCPU's processor loaded through the guest's own tables and may go on using: a page, or an entry that leads to a table.
 * `guest`: write, user, execute (bits 0 to 2) as the guest's tables gave them down to there; `rights`: of the nested tables for
 * the frame that it leads to. `root`: under which it was loaded, for those who ask what it has outlived.
 */
export interface Loaded {
  readonly leaf: boolean;
  readonly level: number;
  /** The linear frame of a page, or the first one below an entry. */
  readonly page: number;
  readonly gfn: Gfn;
  readonly mfn: Mfn;
  readonly rights: number;
  readonly guest: number;
  readonly dirty: boolean;
  readonly global: boolean;
  readonly pcid: number;
  readonly root: Gfn;
}

/** Registers of a vCPU that say what its linear addresses mean, and what it may remember of that. */
export interface Context {
  /** One bit for each of abi's `controls`, in their order. */
  readonly controls: number;
  /** Of a paravirtual guest: its kernel's, as a machine frame; 0: none. */
  readonly root: Gfn;
  readonly pcid: number;
  readonly loaded: readonly Loaded[];
  /** Of a paravirtual guest: the root of its user mode (0: none), and whether that mode was the last. */
  readonly userRoot: Gfn;
  readonly isUser: boolean;
  /** Of a paravirtual guest: a table that a call of its has left partial, and that its next one lets go of; 0: none. */
  readonly oldTable: Mfn;
  /** Of a paravirtual guest: the frames of its GDT, and how many descriptors it has. */
  readonly gdt: { readonly frames: readonly Mfn[]; readonly entries: number };
  /** And of its LDT: which of its frames have come into use (0: not yet), how many descriptors from where. */
  readonly ldt: Context['gdt'] & { readonly base: Gfn };
}

/** A word of memory and who wrote it; undefined: the hypervisor. */
export interface Authored extends Word {
  readonly author: DomId | undefined;
}

export interface State {
  readonly geometry: Geometry;
  readonly policies: Policies;
  readonly vendor: Vendor;
  readonly pcpus: number;
  /** Absent: free, clean and never used. */
  readonly frames: Trie<Frame>;
  /** By mfn * wordsPerFrame + index; absent: zero. */
  readonly words: Trie<Authored>;
  readonly domains: Trie<Domain>;
  /** Where each vCPU runs (a pCPU or NOWHERE), by domain * vcpusPerDomain + vcpu. */
  readonly vcpus: Trie<PcpuId>;
  /** Paging contexts of vCPUs, by the same keys; absent: as a vCPU begins. */
  readonly contexts: Trie<Context>;
}

/** A frame that was never used. */
export const FREE: Frame = {
  role: 'free',
  owner: undefined,
  allocated: false,
  refs: 0,
  incarnation: 0,
  tableLife: 0,
  dirty: false,
  mappings: [],
  type: 'none',
  typeCount: 0,
  validated: false,
  partial: undefined,
  linear: 0,
  pinned: false,
  locked: false,
  pseudo: undefined,
};

/** A frame of a device: never on the heap, nobody's, no memory. */
const DEVICE: Frame = { ...FREE, role: 'mmio' };

export const frameOf = (state: State, mfn: Mfn): Frame =>
  state.frames.get(mfn) ?? (isDeviceFrame(state.geometry, mfn) ? DEVICE : FREE);

/** The parts of a state that operations change. */
type Parts = Pick<State, 'frames' | 'words' | 'domains' | 'vcpus' | 'contexts'>;

// Key by key, and not by spreading: a run makes some dozens of these at every step, and a spread costs twenty times as much.

/** `state` with other `parts`. */
export const withParts = (state: State, parts: Partial<Parts>): State => ({
  geometry: state.geometry,
  policies: state.policies,
  vendor: state.vendor,
  pcpus: state.pcpus,
  frames: parts.frames ?? state.frames,
  words: parts.words ?? state.words,
  domains: parts.domains ?? state.domains,
  vcpus: parts.vcpus ?? state.vcpus,
  contexts: parts.contexts ?? state.contexts,
});

const changedFrame = (old: Frame, change: Partial<Frame>): Frame => ({
  role: change.role ?? old.role,
  owner: 'owner' in change ? change.owner : old.owner,
  allocated: change.allocated ?? old.allocated,
  refs: change.refs ?? old.refs,
  incarnation: change.incarnation ?? old.incarnation,
  tableLife: change.tableLife ?? old.tableLife,
  dirty: change.dirty ?? old.dirty,
  mappings: change.mappings ?? old.mappings,
  type: change.type ?? old.type,
  typeCount: change.typeCount ?? old.typeCount,
  validated: change.validated ?? old.validated,
  partial: 'partial' in change ? change.partial : old.partial,
  linear: change.linear ?? old.linear,
  pinned: change.pinned ?? old.pinned,
  locked: change.locked ?? old.locked,
  pseudo: 'pseudo' in change ? change.pseudo : old.pseudo,
});

export const withFrame = (state: State, mfn: Mfn, change: Partial<Frame>): State =>
  withParts(state, { frames: state.frames.set(mfn, changedFrame(frameOf(state, mfn), change)) });

const changedDomain = (old: Domain, change: Partial<Domain>): Domain => ({
  id: old.id,
  kind: old.kind,
  state: change.state ?? old.state,
  relinquish: change.relinquish ?? old.relinquish,
  pauseCount: change.pauseCount ?? old.pauseCount,
  held: change.held ?? old.held,
  log: change.log ?? old.log,
  watch: change.watch ?? old.watch,
  crashed: change.crashed ?? old.crashed,
  writesTables: change.writesTables ?? old.writesTables,
  calls: change.calls ?? old.calls,
  maxPages: change.maxPages ?? old.maxPages,
  totalPages: change.totalPages ?? old.totalPages,
  claim: change.claim ?? old.claim,
  vcpus: old.vcpus,
  p2m: change.p2m ?? old.p2m,
  maxGfn: change.maxGfn ?? old.maxGfn,
  iomem: change.iomem ?? old.iomem,
  iomemEver: change.iomemEver ?? old.iomemEver,
  stale: change.stale ?? old.stale,
  structure: old.structure,
  sharedInfo: old.sharedInfo,
  grants: change.grants ?? old.grants,
  pool: change.pool ?? old.pool,
  pod: change.pod ?? old.pod,
});

/** What a domain is given at its creation, and keeps. */
type Kept = 'id' | 'kind' | 'vcpus' | 'structure' | 'sharedInfo';

/** `state` with `change` in domain `id`; unchanged if there is no such domain. */
export function withDomain(state: State, id: DomId, change: Partial<Omit<Domain, Kept>>): State {
  const domain = state.domains.get(id);
  return domain === undefined
    ? state
    : withParts(state, { domains: state.domains.set(id, changedDomain(domain, change)) });
}

/** `state` with `change` in the grant table of domain `id`. */
export function withGrants(state: State, id: DomId, change: Partial<GrantTable>): State {
  const domain = state.domains.get(id);
  if (domain === undefined) return state;
  const { grants: old } = domain;
  const grants: GrantTable = {
    frames: change.frames ?? old.frames,
    limit: change.limit ?? old.limit,
    active: change.active ?? old.active,
    handles: change.handles ?? old.handles,
    maptrack: change.maptrack ?? old.maptrack,
  };
  return withDomain(state, id, { grants });
}

/** The domain that `id` names when `caller` says it. */
export const domainNamed = (state: State, id: DomId, caller: DomId): Domain | undefined =>
  state.domains.get(id === DOMID_SELF ? caller : id);

/** Whether `id` is a paravirtual guest. */
export const isParavirtual = (state: State, id: DomId | undefined): boolean =>
  id !== undefined && state.domains.get(id)?.kind === 'pv';

/** What `gfn` means to `domain`. */
export const entryOf = (state: State, domain: DomId, gfn: number): Entry | undefined =>
  state.domains.get(domain)?.p2m.get(gfn);

/** The key of a vCPU in `state.vcpus`. */
export const vcpuKey = (state: State, domain: DomId, vcpu: number): number =>
  domain * state.geometry.capacity.vcpusPerDomain + vcpu;

/** Where a vCPU runs. */
export const placeOfVcpu = (state: State, domain: DomId, vcpu: number): PcpuId =>
  state.vcpus.get(vcpuKey(state, domain, vcpu)) ?? NOWHERE;

/** The pCPUs that run `domain` now, ascending. */
export function pcpusRunning(state: State, domain: DomId): readonly PcpuId[] {
  const count = state.domains.get(domain)?.vcpus ?? 0;
  const found: PcpuId[] = [];
  for (let vcpu = 0; vcpu < count; vcpu += 1) {
    const pcpu = placeOfVcpu(state, domain, vcpu);
    if (pcpu !== NOWHERE && !found.includes(pcpu)) found.push(pcpu);
  }
  return found.length < 2 ? found : found.toSorted((a, b) => a - b);
}

/** Whether the vCPUs of domain `id` execute: it lives, is not paused, has not been stopped for a crime. */
export function isRunning(state: State, id: DomId): boolean {
  const domain = state.domains.get(id);
  return domain?.state === 'running' && domain.pauseCount === 0 && domain.held === 0 && !domain.crashed;
}

/** RAM of some kind: what the owner's own entries have. */
export const isRamType = (type: P2mType): boolean => type === 'ramRw' || type === 'ramRo' || type === 'ramLogDirty';

/** Entries that hold a reference on another's frame or reach a device; they are never overwritten silently. */
export const isSpecialType = (type: P2mType): boolean =>
  type === 'grantRw' || type === 'grantRo' || type === 'foreign' || type === 'mmioDirect';
