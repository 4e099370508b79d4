// Guests that use paging: they build trees of tables by stores, load roots, turn controls, and go on changing entries, with and
// without invalidating. A tree grows entry by entry, from what the live model has of it: mostly so that linear frames lead to
// the gfns of the same number, the tables' own among them, so that a guest can go on with its business after paging is on.
// A first reader may begin at `writeTable`.

import type { DomId, Gfn } from '#abi/address.ts';
import type { Agent } from '#abi/agents.ts';
import { framesPerLeaf, gfnCount, tableEntries } from '#abi/geometry.ts';
import type { VcpuName } from '#abi/trace.ts';
import type { GfnOperand, Literal } from '#abi/operand.ts';
import { controls, tableFlags, type Control } from '#abi/paging.ts';
import { and, without } from '#lib/bits.ts';
import { contextOf, isOn, linearContext } from '#model/paging/context.ts';
import { frameIn } from '#model/hap/meaning.ts';
import type { Context } from '#model/state.ts';
import { wordAt } from '#model/words.ts';
import { mappedOf, ramOf } from '../harness/census.ts';
import { operandOf, type Gen, type Symbolic } from '../harness/decisions.ts';
import { addressOf, linearOf, treeFrom, treeOf, type Table, type Tree } from './tables.ts';

/** Linear frames that a vCPU (the caller, unless told) has or had translated; none with paging off. */
export function linearPages(g: Gen, agent: Agent = g.agent): readonly number[] {
  const altered = agent === g.agent && g.share(25) ? g.alteredPages() : [];
  if (altered.length > 0) return altered;
  const context = linearContext(g.state, agent);
  if (context === undefined) return [];
  const remembered = context.loaded.map(({ page }) => page);
  const p2m = agent.kind === 'vcpu' ? g.state.domains.get(agent.domain)?.p2m : undefined;
  const isAnywhere = g.share(15);
  const leading = treeOf(g.state, agent).pages.filter(({ gfn }) => isAnywhere || p2m?.has(gfn) === true);
  const now = leading.map(({ page }) => page);
  const pages = remembered.length > 0 && g.share(60) ? remembered : now;
  return pages.map((page) => linearOf(g.geometry, page));
}

/** Lets a vCPU act that has paging on, if there is one. */
export function asPager(g: Gen): DomId {
  const domains = g.callers().filter((one) => linearContext(g.state, { kind: 'vcpu', ...one }) !== undefined);
  if (domains.length === 0) return g.asVcpu();
  const one = g.prng.pick(domains);
  g.agent = { kind: 'vcpu', ...one };
  return one.domain;
}

/** Where a domain that has not loaded a root builds one: its lowest RAM but for its desk. */
const plannedRoot = (g: Gen, domain: DomId): Gfn | undefined => ramOf(g.state, domain)[1] as Gfn | undefined;

interface Plan {
  /** The vCPU that goes by the tree, or would. */
  readonly vcpu: VcpuName;
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
  const { vcpu } = pager ?? agent;
  return { vcpu: { domain, vcpu }, domain, context, root, tree: treeFrom(g.state, domain, { context, root }) };
}

/** Flags of an entry that is to be of use, mostly with all rights. */
function usualFlags(g: Gen, context: Context): number {
  const { present, write, user, noExecute } = tableFlags;
  const mayForbid = isOn(context, 'executeDisable') ? 20 : 2;
  return present + (g.share(85) ? write : 0) + (g.share(65) ? user : 0) + (g.share(mayForbid) ? noExecute : 0);
}

/** What stands in a table at an index. */
const wordIn = (g: Gen, { mfn }: Table, index: number) => wordAt(g.state, mfn, index);

/** The entry on the way to `page` that is missing: in which table, at which index. Undefined: all are there. */
function missingOn(g: Gen, tree: Tree, page: number): { table: Table; index: number } | undefined {
  let table = tree.tables[0];
  while (table !== undefined) {
    const { level } = table;
    const span = framesPerLeaf(g.geometry, level);
    const index = Math.floor(page / span) % tableEntries(g.geometry);
    const { lo } = wordIn(g, table, index);
    if (and(lo, tableFlags.present) === 0) return { table, index };
    if (level === 1 || and(lo, tableFlags.superpage) !== 0) return undefined;
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
  const global = g.share(30) ? tableFlags.global : 0;
  const isLarge = level > 1 && level <= g.geometry.superpageLevels && g.share(plan.tree.pages.length < 3 ? 60 : 35);
  if (level > 1 && !isLarge) return { as: 'tableEntry', flags, gfn: g.gfn(tableFrame(g, plan)) };
  const span = framesPerLeaf(g.geometry, level);
  const mapped = mappedOf(g.state, plan.domain);
  const aim = g.share(85) || mapped.length === 0 ? page : g.prng.pick(mapped);
  const size = isLarge ? tableFlags.superpage : 0;
  return { as: 'tableEntry', flags: flags + global + size, gfn: g.gfn(aim - (aim % span)) };
}

/** The flags of an entry as the literal has them. */
const flagsOf = ({ lo, hi }: { lo: number; hi: number }): number =>
  (lo % 0x1000) + Math.floor(hi / 0x1000_0000) * 0x1000;

/** An entry that is there, otherwise: cleared, other flags, another frame, a bit that must be 0. */
function altered(g: Gen, plan: Plan, word: { lo: number; hi: number }): Literal {
  const flags = flagsOf(word);
  const gfn: GfnOperand = operandOf(g.geometry, frameIn(word));
  const { write, user, superpage, global, noExecute, accessed, dirty } = tableFlags;
  switch (g.prng.below(5)) {
    case 0:
      return { as: 'tableEntry', flags: 0, gfn: { path: [0] } };
    case 1: {
      const one = g.prng.pick([write, user, global, noExecute]);
      return { as: 'tableEntry', flags: and(flags, one) === 0 ? flags + one : flags - one, gfn };
    }
    case 2:
      return { as: 'tableEntry', flags: without(flags, accessed + dirty), gfn };
    case 3:
      return g.share(60)
        ? { as: 'tableEntry', flags: and(flags, superpage) === 0 ? flags + superpage : flags - superpage, gfn }
        : { as: 'tableEntry', flags, gfn: { raw: 2 ** (g.geometry.maxPhysAddr - 12) + g.prng.below(2) } };
  }
  const mapped = mappedOf(g.state, plan.domain);
  return { as: 'tableEntry', flags, gfn: g.gfn(mapped.length > 0 ? g.prng.pick(mapped) : 0) };
}

/** A store of a whole entry. */
interface EntryStore {
  readonly gfn: GfnOperand;
  readonly offset: number;
  readonly value: Literal;
}

function storeIn(g: Gen, { vcpu }: Plan, at: { table: Table; index: number }, value: Literal): EntryStore {
  const { table, index } = at;
  const page = table.first + index * framesPerLeaf(g.geometry, table.level);
  g.alters(vcpu, linearOf(g.geometry, page));
  return { gfn: operandOf(g.geometry, addressOf(g.state, g.agent, table.gfn)), offset: 8 * index, value };
}

/** The next entry of a tree that is to serve first of all: what leads to the root, the other tables, and the desk is there. */
function firstStore(g: Gen, plan: Plan): EntryStore | undefined {
  const { domain, tree, root } = plan;
  const wanted = [root, ...tree.tables.map(({ gfn }) => gfn), ...ramOf(g.state, domain)];
  for (const gfn of wanted) {
    const missing = missingOn(g, tree, gfn % gfnCount(g.geometry));
    if (missing === undefined) continue;
    const { table, index } = missing;
    return storeIn(g, plan, { table, index }, newEntry(g, plan, { page: gfn, level: table.level }));
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
  const missing = missingOn(g, tree, page);
  if (missing !== undefined && (tree.pages.length < 3 || g.share(55)))
    return storeIn(g, plan, missing, newEntry(g, plan, { page, level: missing.table.level }));
  const table = tree.tables.length > 0 ? g.prng.pick(tree.tables) : undefined;
  if (table === undefined) return undefined;
  const indices = g.list(Math.min(tableEntries(g.geometry), 64), (i) => i);
  const index = g.prefer(indices, (i) => and(wordIn(g, table, i).lo, tableFlags.present) !== 0) ?? 0;
  return storeIn(g, plan, { table, index }, altered(g, plan, wordIn(g, table, index)));
}

/** Whether the vCPU's root leads to pages, the root's own table rather among them: then it can go on changing it. */
function isReady(g: Gen, agent: Agent): boolean {
  if (agent.kind !== 'vcpu') return false;
  const context = contextOf(g.state, agent);
  const { pages } = treeFrom(g.state, agent.domain, { context, root: context.root });
  return pages.some(({ gfn }) => gfn === context.root) || (pages.length > 2 && g.share(25));
}

type Caller = ReturnType<Gen['callers']>[number];

const agentOf = (one: Caller): Agent => ({ kind: 'vcpu', ...one });

const isPaging = (g: Gen, one: Caller): boolean => linearContext(g.state, agentOf(one)) !== undefined;

/** vCPUs that could turn paging on with a root that leads somewhere. */
const ready = (g: Gen): readonly Caller[] => g.callers().filter((one) => !isPaging(g, one) && isReady(g, agentOf(one)));

/** vCPUs that have not loaded the root that was built for them. */
const waiting = (g: Gen): readonly Caller[] =>
  g.callers().filter((one) => {
    const root = plannedRoot(g, one.domain);
    const context = contextOf(g.state, one);
    if (one.domain === 0 || root === undefined || context.root === root) return false;
    return treeFrom(g.state, one.domain, { context, root }).pages.length > 1;
  });

/** vCPUs whose tables lead nowhere any more: without paging they can build new ones. */
const lostPagers = (g: Gen): readonly Caller[] =>
  g.callers().filter((one) => isPaging(g, one) && treeOf(g.state, agentOf(one)).pages.length === 0);

/** Whether the guest that is to use paging has no tree yet that it could run on. */
export function isBuilding(g: Gen): boolean {
  if (g.pager === undefined) return false;
  const callers = g.callers().filter(({ domain }) => domain === g.pager);
  return callers.length > 0 && !callers.some((one) => isPaging(g, one) || isReady(g, agentOf(one)));
}

/** Whether turning a control is worth a step. */
export const mayTurn = (g: Gen): boolean => g.callers().some((one) => isPaging(g, one)) || ready(g).length > 0;

/** Whether loading a root is. */
export const mayLoad = (g: Gen): boolean => waiting(g).length > 0 || g.callers().some((one) => isPaging(g, one));

/** Turns a control: paging on as soon as there is a tree. */
export function setControl(g: Gen): Symbolic<'paging.setControl'> {
  const kind = 'paging.setControl';
  const callers = ready(g);
  if (callers.length > 0 && g.share(80)) {
    g.agent = agentOf(g.prng.pick(callers));
    return { kind, control: 'paging', to: 'on' };
  }
  const [lost] = lostPagers(g);
  if (lost !== undefined && g.share(40)) {
    g.agent = agentOf(lost);
    return { kind, control: isOn(contextOf(g.state, lost), 'pcids') ? 'pcids' : 'paging', to: 'off' };
  }
  if (g.share(85)) asPager(g);
  else g.asVcpu((id) => id !== 0);
  const context = g.agent.kind === 'vcpu' ? contextOf(g.state, g.agent) : undefined;
  const others: readonly Control[] = [...controls.filter((one) => one !== 'paging'), 'globalPages', 'pcids', 'pcids'];
  const wantsPcids = context !== undefined && !isOn(context, 'pcids') && g.share(35);
  const control: Control = wantsPcids ? 'pcids' : g.share(5) ? 'paging' : g.prng.pick(others);
  const isSet = context !== undefined && isOn(context, control);
  return { kind, control, to: isSet === g.bends() ? 'on' : 'off' };
}

/** Loads a root: the one that was built, another table, or any frame. */
export function setRoot(g: Gen): Symbolic<'paging.setRoot'> {
  const kind = 'paging.setRoot';
  const callers = waiting(g);
  if (callers.length > 0 && g.share(80)) {
    const one = g.prng.pick(callers);
    g.agent = agentOf(one);
    return { kind, gfn: g.gfn(plannedRoot(g, one.domain) ?? 0), pcid: 0, flush: 'flushing' };
  }
  const domain = g.share(85) ? asPager(g) : g.asVcpu((id) => id !== 0);
  const context = g.agent.kind === 'vcpu' ? contextOf(g.state, g.agent) : undefined;
  const tables = treeOf(g.state, g.agent).tables.map(({ gfn }) => gfn);
  const usual = [context?.root, plannedRoot(g, domain)];
  const others = [...tables, ...ramOf(g.state, domain).slice(1, 4)];
  const roots = (g.share(60) ? usual : others).filter((gfn) => gfn !== undefined);
  const hasPcids = context !== undefined && isOn(context, 'pcids');
  const elsewhere = (context?.loaded ?? []).filter((one) => one.pcid !== context?.pcid).map((one) => one.pcid);
  const pcid = elsewhere.length > 0 && g.share(70) ? g.prng.pick(elsewhere) : g.prng.below(3);
  return {
    kind,
    gfn: g.gfn(g.prng.pick(roots.length > 0 ? roots : [0])),
    pcid: hasPcids || g.share(10) ? pcid : 0,
    flush: (hasPcids && g.share(60)) || g.bends() ? 'keeping' : 'flushing',
  };
}
