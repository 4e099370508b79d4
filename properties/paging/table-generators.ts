// Guests that use paging: they build trees of tables by stores, load roots, turn controls, and go on changing entries, with and
// without invalidating. A tree grows entry by entry, from what the live model has of it: mostly so that linear frames lead to
// the gfns of the same number, the tables' own among them, so that a guest can go on with its business after paging is on.
// A first reader may begin at `writeTable`.

import type { DomId, Gfn } from '#abi/address.ts';
import type { Agent } from '#abi/agents.ts';
import { framesPerLeaf, gfnCount, tableEntries } from '#abi/geometry.ts';
import type { GfnOperand, Literal } from '#abi/operand.ts';
import { tableFlags } from '#abi/paging.ts';
import { contextOf, isOn, linearContext, pagingOf } from '#model/paging/context.ts';
import { decodeGuest } from '#model/paging/guest-entry.ts';
import type { Context } from '#model/state.ts';
import { wordAt } from '#model/words.ts';
import { mappedOf, ramOf } from '../harness/census.ts';
import { operandOf, type Gen } from '../harness/decisions.ts';
import { changedEntry, literalOf, placeIn } from './changes.ts';
import type { Place } from './recent-changes.ts';
import { addressOf, linearOf, pagesThrough, treeFrom, treeOf, wayTo, type Table, type Tree } from './tables.ts';

/** Linear frames that a vCPU (the caller, unless told) has or had translated; none with paging off. */
export function linearPages(g: Gen, agent: Agent = g.agent): readonly number[] {
  const altered = g.share(40) ? g.alteredPage(agent) : undefined;
  if (altered !== undefined) return [altered];
  const context = linearContext(g.state, agent);
  if (context === undefined) return [];
  const remembered = context.loaded.map(({ page }) => page);
  const domain = agent.kind === 'vcpu' ? g.state.domains.get(agent.domain) : undefined;
  const p2m = domain?.p2m;
  const isAnywhere = g.share(15) || domain?.kind === 'pv';
  const leading = treeOf(g.state, agent).pages.filter(({ gfn }) => isAnywhere || p2m?.has(gfn) === true);
  const now = leading.map(({ page }) => page);
  const focused = g.focus.frames.size === 0 ? [] : leading.filter(({ gfn }) => g.focus.frames.has(gfn));
  if (focused.length > 0 && g.share(60)) return focused.map(({ page }) => linearOf(g.geometry, page));
  const pages = remembered.length > 0 && g.share(60) ? remembered : now;
  return pages.map((page) => linearOf(g.geometry, page));
}

type Caller = ReturnType<Gen['callers']>[number];

export const agentOf = (one: Caller): Agent => ({ kind: 'vcpu', ...one });

export const isPaging = (g: Gen, one: Caller): boolean => linearContext(g.state, agentOf(one)) !== undefined;

/** Lets a vCPU act that has paging on, if there is one: rather one whose tables lead somewhere. */
export function asPager(g: Gen): DomId {
  const pagers = g.callers().filter((one) => isPaging(g, one));
  const one = g.prefer(pagers, (pager) => treeOf(g.state, agentOf(pager)).pages.length > 0);
  if (one === undefined) return g.asVcpu();
  g.agent = agentOf(one);
  return one.domain;
}

/** Where a domain that has not loaded a root builds one: its lowest RAM but for its desk. */
export const plannedRoot = (g: Gen, domain: DomId): Gfn | undefined => ramOf(g.state, domain)[1] as Gfn | undefined;

interface Plan {
  readonly domain: DomId;
  readonly context: Context;
  readonly root: Gfn;
  readonly tree: Tree;
}

/** The tree that the caller works on: its own, that of another vCPU with paging on, or one that nobody has loaded yet. */
function planOf(g: Gen): Plan | undefined {
  const { agent } = g;
  if (agent.kind !== 'vcpu') return undefined;
  const { domain } = agent;
  const others = g.callers().filter((one) => one.domain === domain);
  const pager = [agent, ...others].find((one) => linearContext(g.state, { kind: 'vcpu', domain, vcpu: one.vcpu }));
  const context = contextOf(g.state, pager ?? agent);
  const isLoaded = pager !== undefined || (context.root > 0 && ramOf(g.state, domain).includes(context.root));
  const root = isLoaded && g.share(85) ? context.root : plannedRoot(g, domain);
  if (root === undefined) return undefined;
  return { domain, context, root, tree: treeFrom(g.state, domain, { context, root }) };
}

/** Flags of an entry that is to be of use, mostly with all rights. */
function usualFlags(g: Gen, context: Context): number {
  const { present, write, user, noExecute } = tableFlags;
  const mayForbid = isOn(context, 'executeDisable') ? 20 : 2;
  return present + (g.share(85) ? write : 0) + (g.share(65) ? user : 0) + (g.share(mayForbid) ? noExecute : 0);
}

/** The entry on the way to `page` at which it ends before there is a page: none there, or one that leads nowhere. */
function missingOn(g: Gen, { context, tree }: Plan, page: number): Place | undefined {
  const paging = pagingOf(g.state, context);
  let table = tree.tables[0];
  while (table !== undefined) {
    const { level } = table;
    const span = framesPerLeaf(g.geometry, level);
    const index = Math.floor(page / span) % tableEntries(g.geometry);
    const { kind } = decodeGuest(g.geometry, paging, level, wordAt(g.state, table.mfn, index));
    if (kind === 'page') return undefined;
    if (kind !== 'table') return { table, index };
    const first = page - (page % span);
    table = tree.tables.find((one) => one.level === level - 1 && one.first === first);
  }
  return undefined;
}

/** RAM to be made a table: rather a frame that is none yet and holds nothing, sometimes one that is one already. */
function tableFrame(g: Gen, { domain, tree, root }: Plan): number {
  const used = new Set<number>(tree.tables.map(({ gfn }) => gfn));
  const ram = ramOf(g.state, domain).slice(1);
  if (g.share(8) || ram.length === 0) return root;
  const p2m = g.state.domains.get(domain)?.p2m;
  const isEmpty = (gfn: number): boolean => {
    const mfn = p2m?.get(gfn)?.mfn;
    if (mfn === undefined) return false;
    const from = mfn * g.geometry.wordsPerFrame;
    return g.list(4, (i) => from + i).every((key) => !g.state.words.has(key));
  };
  const free = ram.filter((gfn) => !used.has(gfn) && gfn !== root);
  return g.prefer(free, isEmpty) ?? root;
}

/** A new entry where one is missing on the way to `page`. */
function newEntry(g: Gen, plan: Plan, at: { page: number; level: number }): Literal {
  const { page, level } = at;
  const flags = usualFlags(g, plan.context);
  const global = g.share(40) ? tableFlags.global : 0;
  const isLarge = level > 1 && level <= g.geometry.superpageLevels && g.share(plan.tree.pages.length < 3 ? 60 : 35);
  if (level > 1 && !isLarge) return { as: 'tableEntry', flags, gfn: g.gfn(tableFrame(g, plan)) };
  const span = framesPerLeaf(g.geometry, level);
  const mapped = mappedOf(g.state, plan.domain);
  const aim = g.share(85) || mapped.length === 0 ? page : g.prng.pick(mapped);
  const size = isLarge ? tableFlags.superpage : 0;
  return { as: 'tableEntry', flags: flags + global + size, gfn: g.gfn(aim - (aim % span)) };
}

/** A store of a whole entry. */
interface EntryStore {
  readonly gfn: GfnOperand;
  readonly offset: number;
  readonly value: Literal;
}

/** Whether a vCPU can write the table that lies at a gfn: it names gfns, or has a way there. */
const canWrite = (g: Gen, agent: Agent, gfn: number): boolean =>
  linearContext(g.state, agent) === undefined || wayTo(g.state, agent, gfn) !== undefined;

/** Who can write a table of a domain: the caller if it can, else other vCPUs. */
function writersOf(g: Gen, domain: DomId, { gfn }: Table): readonly Agent[] {
  if (canWrite(g, g.agent, gfn)) return [g.agent];
  const others = g.callers().filter((one) => one.domain === domain);
  return others.map(agentOf).filter((agent) => canWrite(g, agent, gfn));
}

/** A store into a tree, by somebody who can reach the table if there is anybody. */
function storeIn(
  g: Gen,
  { domain, root }: Plan,
  change: { place: Place; pages: readonly number[] },
  value: Literal,
): EntryStore {
  const { place, pages } = change;
  const { table, index } = place;
  const writers = writersOf(g, domain, table);
  if (writers.length > 0) g.agent = g.prng.pick(writers);
  const was = wordAt(g.state, table.mfn, index);
  g.changes.note({ domain, root, place, was, pages: pages.map((page) => linearOf(g.geometry, page)) });
  return { gfn: operandOf(g.geometry, addressOf(g.state, g.agent, table.gfn)), offset: 8 * index, value };
}

/** A store of a new entry where one is missing on the way to a page. */
const storeNew = (g: Gen, plan: Plan, place: Place, page: number): EntryStore =>
  storeIn(g, plan, { place, pages: [page] }, newEntry(g, plan, { page, level: place.table.level }));

/** A store of a changed entry, or of what stood there before the last change. Undefined: no table can be reached. */
function storeChanged(g: Gen, plan: Plan): EntryStore | undefined {
  const { domain, root, tree } = plan;
  const last = g.changes.lastOf(domain, root);
  // A change that is taken back: what was remembered before it holds again, what was remembered since does not.
  if (last !== undefined && g.share(20)) return storeIn(g, plan, last, literalOf(g.geometry, last.was));
  const tables = tree.tables.filter((table) => writersOf(g, domain, table).length > 0);
  if (tables.length === 0) return undefined;
  const place = placeIn(g, tables);
  const word = changedEntry(g, { domain, tree, place });
  return storeIn(g, plan, { place, pages: pagesThrough(g.geometry, tree, place) }, literalOf(g.geometry, word));
}

/** The next entry of a tree that is to serve first of all: what leads to the root, the other tables, and the desk is there. */
function firstStore(g: Gen, plan: Plan): EntryStore | undefined {
  const { domain, tree, root } = plan;
  const wanted = [root, ...tree.tables.map(({ gfn }) => gfn), ...ramOf(g.state, domain)];
  for (const gfn of wanted) {
    const page = gfn % gfnCount(g.geometry);
    const missing = missingOn(g, plan, page);
    if (missing !== undefined) return storeNew(g, plan, missing, page);
  }
  return undefined;
}

/** Makes, alters or clears an entry of a tree of tables. Undefined: there is nothing to build it of. */
export function writeTable(g: Gen): EntryStore | undefined {
  const isPager = (id: DomId): boolean => id === g.pager;
  g.asVcpu(g.share(85) ? isPager : (id) => id !== 0 && ramOf(g.state, id).length > 3);
  const plan = planOf(g);
  if (plan === undefined || ramOf(g.state, plan.domain).length < 3) return undefined;
  const { tree, domain } = plan;
  if (tree.pages.length === 0 || (g.share(70) && !g.callers().some((one) => one.domain === domain && isPaging(g, one))))
    return firstStore(g, plan);
  const tables = tree.tables.map(({ gfn }) => gfn as number);
  const unmapped = tables.filter((gfn) => !tree.pages.some((page) => page.page === gfn));
  const aims = unmapped.length > 0 && g.share(60) ? unmapped : mappedOf(g.state, domain);
  const page = g.prng.pick(aims.length > 0 ? aims : [0]) % gfnCount(g.geometry);
  const missing = missingOn(g, plan, page);
  const isReached = missing !== undefined && writersOf(g, domain, missing.table).length > 0;
  if (isReached && (tree.pages.length < 3 || g.share(40))) return storeNew(g, plan, missing, page);
  return storeChanged(g, plan);
}
