// The hypervisor's own walk of a guest's tables, for a linear address in a hypercall. It shares nothing with processors but the
// rules: no cache, every entry fetched by an act of its own, so that the guest can change tables in between. Flags are set when
// the walk has succeeded, from the page's entry up, each by a compare-exchange that leaves alone what has changed meanwhile.
// A table may lie in any frame that the guest can read; in one that it cannot write no flags are set.
// A first reader may begin at `walkOn`. Sources: Xen arch/x86/mm/guest_walk.c (guest_walk_tables, set_ad_bits),
// arch/x86/mm/hap/guest_walk.c (hap_p2m_ga_to_gfn), arch/x86/hvm/hvm.c (__hvm_copy: a supervisor's access).

import type { Gfn, Mfn, Word } from '#abi/address.ts';
import type { VcpuAgent } from '#abi/agents.ts';
import { framesPerLeaf, tableEntries } from '#abi/geometry.ts';
import { RIGHT } from '#abi/rights.ts';
import { hasAll, or } from '#lib/bits.ts';
import type { Cut, Wished } from '../cut.ts';
import { wish, type Demand } from '../memory/pod-demand.ts';
import { rightsOfType } from '../entitlement.ts';
import { entryOf, type State, type Written } from '../state.ts';
import { wordAt, withWord } from '../words.ts';
import { contextOf, isCanonicalPage, pageBitsOf, pagingOf } from './context.ts';
import { decodeGuest, flagsFor } from './guest-entry.ts';
import { ALL_RIGHTS, fold, forbids, rightsOfBits } from './rights.ts';

/** A linear frame that a call reads from or writes to. */
export interface Sought {
  readonly page: number;
  readonly write: boolean;
}

/** An entry as it was read: in the table at `gfn`. */
interface Read {
  readonly gfn: Gfn;
  readonly index: number;
  readonly word: Word;
  readonly flags: number;
}

/** A walk under way: the table that is to be read next, or (`found`) the flags that are still to be set. */
interface Walking {
  readonly gfn: Gfn;
  readonly level: number;
  readonly guest: number;
  readonly reads: readonly Read[];
  readonly found: Gfn | undefined;
}

/**
 * What a micro-step has had translated so far (`gfn` undefined: it faults), and of memory on demand: what is being populated for
 * it, what could not be, what was asked for at all, and whether it has been kept waiting by that.
 */
export interface Trail {
  readonly known: readonly (Sought & { readonly gfn: Gfn | undefined })[];
  readonly walking: Walking | undefined;
  readonly demand: Demand | undefined;
  readonly refused: readonly Wished[];
  readonly asked: readonly Wished[];
  readonly isServed: boolean;
}

export const NO_TRAIL: Trail = {
  known: [],
  walking: undefined,
  demand: undefined,
  refused: [],
  asked: [],
  isServed: false,
};

const FAULT = Symbol('fault');

/** One act of a walk: where it goes on, the gfn that it has come to, or a fault; with the state after it. */
interface Act {
  readonly state: State;
  readonly next: Walking | Gfn | typeof FAULT;
  readonly written?: Written | undefined;
}

/** The frame of a table, and whether its type lets the guest write it. What a listener keeps from the guest is not kept from the hypervisor. */
function tableAt(state: State, { domain }: VcpuAgent, gfn: Gfn): { mfn: Mfn; isWritable: boolean } | undefined {
  const entry = entryOf(state, domain, gfn);
  if (entry === undefined || entry.type === 'mmioDirect') return undefined;
  return { mfn: entry.mfn, isWritable: hasAll(rightsOfType[entry.type], RIGHT.write) };
}

/** Reads the next entry. */
function read(state: State, agent: VcpuAgent, sought: Sought, from: Walking): Act {
  const { geometry } = state;
  const table = tableAt(state, agent, from.gfn);
  if (table === undefined) return { state, next: FAULT };
  const paging = pagingOf(state, contextOf(state, agent));
  const bits = pageBitsOf(geometry, sought.page);
  const span = framesPerLeaf(geometry, from.level);
  const index = Math.floor(bits / span) % tableEntries(geometry);
  const word = wordAt(state, table.mfn, index);
  const entry = decodeGuest(geometry, paging, from.level, word);
  if (entry.kind !== 'table' && entry.kind !== 'page') return { state, next: FAULT };
  const guest = fold(from.guest, entry.rights);
  const flags = flagsFor(entry.kind === 'page' && sought.write);
  const reads = [...from.reads, { gfn: from.gfn, index, word, flags }];
  if (entry.kind === 'table') return { state, next: { ...from, gfn: entry.gfn, level: from.level - 1, guest, reads } };
  const attempt = { kind: sought.write ? 'write' : 'read', privilege: 'supervisor', ac: 'clear' } as const;
  if (forbids(paging, attempt, { rights: rightsOfBits(guest), key: 0 }) !== undefined) return { state, next: FAULT };
  return { state, next: withFlags({ ...from, reads }, (entry.gfn + (bits % span)) as Gfn) };
}

/** The page is found; what is left are the entries, from its own up, that do not have their flags yet. */
function withFlags(from: Walking, found: Gfn): Walking | Gfn {
  const reads = from.reads.filter(({ word, flags }) => !hasAll(word.lo, flags)).toReversed();
  return reads.length === 0 ? found : { ...from, reads, found };
}

/** Sets flags in one entry, if it is what it was. */
function mark(state: State, agent: VcpuAgent, at: Walking, found: Gfn): Act {
  const [one, ...rest] = at.reads as readonly [Read, ...Read[]];
  const next = rest.length === 0 ? found : { ...at, reads: rest };
  const table = tableAt(state, agent, one.gfn);
  if (table?.isWritable !== true) return { state, next };
  const { lo, hi } = wordAt(state, table.mfn, one.index);
  if (lo !== one.word.lo || hi !== one.word.hi) return { state, next };
  const word = { lo: or(lo, one.flags), hi, author: undefined };
  const marked = withWord(state, { mfn: table.mfn, index: one.index }, word);
  return { state: marked, next, written: { domain: agent.domain, mfn: table.mfn } };
}

/** One act further on the way to what is sought; a walk begins with its first act. */
export function walkOn(
  cut: Cut,
  agent: VcpuAgent,
  trail: Trail,
  sought: Sought,
): { state: State; trail: Trail; written?: Written | undefined } {
  const { state } = cut;
  const { root } = contextOf(state, agent);
  const begin = { gfn: root, level: state.geometry.levels, guest: ALL_RIGHTS, reads: [], found: undefined };
  const now = trail.walking ?? begin;
  if (now.found === undefined) wish(cut, { trail }, { domain: agent.domain, gfn: now.gfn });
  const act = now.found === undefined ? read(state, agent, sought, now) : mark(state, agent, now, now.found);
  const { next, written } = act;
  if (typeof next === 'object') return { state: act.state, written, trail: { ...trail, walking: next } };
  const gfn = next === FAULT ? undefined : next;
  const known = [...trail.known, { ...sought, gfn }];
  return { state: act.state, written, trail: { ...trail, known, walking: undefined } };
}

/** Whether the address is one that needs no walk to be refused. */
export const isNowhere = (state: State, { page }: Sought): boolean => !isCanonicalPage(state.geometry, page);
