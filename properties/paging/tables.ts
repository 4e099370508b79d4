// Guests' own tables as the live model has them: which tables a vCPU has, what its linear frames lead to now, and by which
// linear frame a gfn can be reached. What generators and marks ask. A first reader may skip this file.

import type { DomId, Gfn, Mfn } from '#abi/address.ts';
import type { Agent, VcpuAgent } from '#abi/agents.ts';
import { framesPerLeaf, gfnCount, tableEntries, type Geometry } from '#abi/geometry.ts';
import { contextOf, linearContext, PAGES, pagingOf } from '#model/paging/context.ts';
import { hasAll } from '#lib/bits.ts';
import { decodeGuest } from '#model/paging/guest-entry.ts';
import { ALL_RIGHTS, fold, RIGHT_BITS } from '#model/paging/rights.ts';
import { entryOf, type Context, type State } from '#model/state.ts';
import { wordAt } from '#model/words.ts';

/** A table: where it lies, the level of its entries, the first frame below it as tables count them. */
export interface Table {
  readonly gfn: Gfn;
  readonly mfn: Mfn;
  readonly level: number;
  readonly first: number;
  readonly guest: number;
}

/** A page: `page` as tables count linear frames; where it leads, with which rights of the guest's tables. */
export interface Page {
  readonly page: number;
  readonly gfn: Gfn;
  readonly guest: number;
  readonly level: number;
}

export interface Tree {
  readonly tables: readonly Table[];
  readonly pages: readonly Page[];
}

/** Tables and pages looked at in one tree at most: tables may lead to themselves. */
const TABLES_MAX = 24;
const PAGES_MAX = 96;

/** A linear frame by the bits that tables translate: those above are copies of the highest. */
export const linearOf = (geometry: Geometry, bits: number): number =>
  bits < gfnCount(geometry) / 2 ? bits : PAGES - gfnCount(geometry) + bits;

interface Known {
  readonly words: unknown;
  readonly p2m: unknown;
  readonly tree: Tree;
}

const known = new WeakMap<Context, Map<number, Known>>();

/**
 * Everything that hangs from `root` in the tables of a domain, as `context` has them read. Remembered while nothing that it
 * depends on changes.
 */
export function treeFrom(state: State, domain: DomId, of: { readonly context: Context; readonly root: Gfn }): Tree {
  const { words } = state;
  const p2m = state.domains.get(domain)?.p2m;
  let trees = known.get(of.context);
  if (trees === undefined) known.set(of.context, (trees = new Map()));
  // Contexts of vCPUs that have not touched theirs are one and the same.
  const key = of.root * state.geometry.capacity.domains + domain;
  const old = trees.get(key);
  if (old !== undefined && old.words === words && old.p2m === p2m) return old.tree;
  const tree = grownFrom(state, domain, of);
  trees.set(key, { words, p2m, tree });
  return tree;
}

/** Where a gfn of a domain lies: what paravirtual guests call a gfn in their tables is the frame itself. */
function frameAt(state: State, domain: DomId, gfn: Gfn): Mfn | undefined {
  if (state.domains.get(domain)?.kind !== 'pv') return entryOf(state, domain, gfn)?.mfn;
  return gfn > 0 && gfn < state.geometry.frameCount ? (gfn as number as Mfn) : undefined;
}

function grownFrom(state: State, domain: DomId, of: { readonly context: Context; readonly root: Gfn }): Tree {
  const { geometry } = state;
  const tables: Table[] = [];
  const pages: Page[] = [];
  const paging = pagingOf(state, of.context);
  const top = frameAt(state, domain, of.root);
  if (top !== undefined) tables.push({ gfn: of.root, mfn: top, level: geometry.levels, first: 0, guest: ALL_RIGHTS });
  for (let at = 0; at < tables.length && pages.length < PAGES_MAX; at += 1) {
    const { mfn, level, first, guest } = tables[at] as Table;
    const span = framesPerLeaf(geometry, level);
    for (let index = 0; index < tableEntries(geometry); index += 1) {
      if (!state.words.has(mfn * geometry.wordsPerFrame + index)) continue;
      const entry = decodeGuest(geometry, paging, level, wordAt(state, mfn, index));
      if (entry.kind !== 'table' && entry.kind !== 'page') continue;
      const base = first + index * span;
      const rights = fold(guest, entry.rights);
      if (entry.kind === 'page') {
        for (let i = 0; i < Math.min(span, 8); i += 1)
          pages.push({ page: base + i, gfn: (entry.gfn + i) as Gfn, guest: rights, level });
        continue;
      }
      const below = frameAt(state, domain, entry.gfn);
      if (below !== undefined && tables.length < TABLES_MAX)
        tables.push({ gfn: entry.gfn, mfn: below, level: level - 1, first: base, guest: rights });
    }
  }
  return { tables, pages };
}

const NOTHING: Tree = { tables: [], pages: [] };

/** The tree of a vCPU whose paging is on; nothing if it is off. */
export function treeOf(state: State, agent: Agent): Tree {
  const context = linearContext(state, agent);
  if (context === undefined || agent.kind !== 'vcpu') return NOTHING;
  return treeFrom(state, agent.domain, { context, root: context.root });
}

/** Linear frames that a vCPU goes by now: those that its processor remembers, else those of its tables. */
export function pagesNow(state: State, agent: Agent): readonly number[] {
  const remembered = linearContext(state, agent)?.loaded.filter(({ leaf }) => leaf) ?? [];
  const pages = remembered.length > 0 ? remembered : treeOf(state, agent).pages.slice(0, THROUGH_MAX);
  return pages.map(({ page }) => linearOf(state.geometry, page));
}

type Way = Pick<Page, 'page' | 'guest'>;

const isWritable = ({ guest }: Way): boolean => hasAll(guest, RIGHT_BITS.write);

/** A page by which a vCPU with paging on can write `gfn`: by its tables, else by what its processor may remember. */
export function wayTo(state: State, agent: Agent, gfn: number): Way | undefined {
  const ways = treeOf(state, agent).pages.filter((page) => page.gfn === gfn && isWritable(page));
  const way = ways.find(({ page }) => page === gfn) ?? ways[0];
  if (way !== undefined) return way;
  const context = linearContext(state, agent);
  return context?.loaded.find((one) => one.leaf && one.gfn === gfn && one.pcid === context.pcid && isWritable(one));
}

/** What `agent` says to reach `gfn`: with paging on a linear frame that leads there, or the one that should; else the gfn. */
export function addressOf(state: State, agent: Agent, gfn: number): number {
  if (linearContext(state, agent) === undefined) return gfn;
  const way = wayTo(state, agent, gfn) ?? treeOf(state, agent).pages.find((page) => page.gfn === gfn);
  const bits = way?.page ?? (gfn < gfnCount(state.geometry) ? gfn : 0);
  return linearOf(state.geometry, bits);
}

/** So many pages are told of an entry at most. */
const THROUGH_MAX = 8;

/** Pages, as tables count linear frames, whose ways pass an entry, in whatever place its table is met; else the first below it. */
export function pagesThrough(
  geometry: Geometry,
  tree: Tree,
  { table, index }: { readonly table: Table; readonly index: number },
): readonly number[] {
  const firsts = tree.tables
    .filter(({ mfn }) => mfn === table.mfn)
    .map(({ first, level }) => ({
      from: first + index * framesPerLeaf(geometry, level),
      span: framesPerLeaf(geometry, level),
    }));
  const found = tree.pages.filter(({ page }) => firsts.some(({ from, span }) => page >= from && page < from + span));
  const own = table.first + index * framesPerLeaf(geometry, table.level);
  return found.length === 0 ? [own] : found.slice(0, THROUGH_MAX).map(({ page }) => page);
}

/** Those of `gfns` that the agent reaches through its tables, if it has paging on and reaches any; else all. */
export function reachedOf(state: State, agent: Agent, gfns: readonly number[]): readonly number[] {
  if (linearContext(state, agent) === undefined) return gfns;
  const pages = treeOf(state, agent).pages.filter(({ guest }) => hasAll(guest, RIGHT_BITS.write));
  const there = new Set<number>(pages.map(({ gfn }) => gfn));
  const reached = gfns.filter((gfn) => there.has(gfn));
  return reached.length > 0 ? reached : gfns;
}

/** gfns of `domain` that some vCPU of it has as tables now. */
export function tablesOf(state: State, domain: DomId): readonly Gfn[] {
  if (state.contexts.size === 0) return [];
  const vcpus = state.domains.get(domain)?.vcpus ?? 0;
  const gfns = new Set<Gfn>();
  for (let vcpu = 0; vcpu < vcpus; vcpu += 1)
    for (const { gfn } of treeOf(state, { kind: 'vcpu', domain, vcpu: vcpu as VcpuAgent['vcpu'] }).tables)
      gfns.add(gfn);
  return [...gfns];
}

/** The context of the agent, as a vCPU begins if it is none. */
export const contextOfAgent = (state: State, agent: Agent): Context | undefined =>
  agent.kind === 'vcpu' ? contextOf(state, agent) : undefined;
