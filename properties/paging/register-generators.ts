// Registers of guests that use paging: roots are loaded and controls turned, as systems do it and otherwise; a guest whose tables
// lead nowhere finds its way back. A first reader may skip all but `setControl`.

import type { Agent } from '#abi/agents.ts';
import type { Gfn } from '#abi/address.ts';
import { controls, type Control } from '#abi/paging.ts';
import { contextOf, isOn } from '#model/paging/context.ts';
import { ramOf } from '../harness/census.ts';
import type { Gen, Symbolic } from '../harness/decisions.ts';
import { agentOf, asPager, isPaging, plannedRoot } from './table-generators.ts';
import { pagesNow, treeFrom, treeOf } from './tables.ts';

type Caller = ReturnType<Gen['callers']>[number];

/** Whether the vCPU's root leads to pages, the root's own table rather among them: then it can go on changing it. */
function isReady(g: Gen, agent: Agent): boolean {
  if (agent.kind !== 'vcpu') return false;
  const context = contextOf(g.state, agent);
  const { pages } = treeFrom(g.state, agent.domain, { context, root: context.root });
  return pages.some(({ gfn }) => gfn === context.root) || (pages.length > 2 && g.share(25));
}

/** Whether a vCPU could turn paging on with a root that leads somewhere. */
const mayBegin = (g: Gen, one: Caller): boolean => !isPaging(g, one) && isReady(g, agentOf(one));

const ready = (g: Gen): readonly Caller[] => g.callers().filter((one) => mayBegin(g, one));

/** Whether the tables of a vCPU with paging on lead nowhere any more, and there was time to see what comes of it. */
const isLost = (g: Gen, one: Caller): boolean =>
  isPaging(g, one) &&
  treeOf(g.state, agentOf(one)).pages.length === 0 &&
  g.changes.of(g.state, agentOf(one)).length === 0;

/** Such vCPUs: without paging they can build new tables. */
const lostPagers = (g: Gen): readonly Caller[] => g.callers().filter((one) => isLost(g, one));

/** So many frames of a domain are tried as roots. */
const TRIED = 12;

/** RAM of a vCPU's domain from which, as a root, some page hangs: first what was built to be one. */
function rootsOf(g: Gen, one: Caller): readonly Gfn[] {
  const context = contextOf(g.state, one);
  const leads = (root: number): boolean =>
    treeFrom(g.state, one.domain, { context, root: root as Gfn }).pages.length > 0;
  return ramOf(g.state, one.domain)
    .slice(1, TRIED)
    .filter(leads)
    .map((gfn) => gfn as Gfn);
}

/** What a vCPU had better load: the root that was built for it if that leads anywhere, or if it is lost any root that does. */
function betterRoot(g: Gen, one: Caller): Gfn | undefined {
  const planned = plannedRoot(g, one.domain);
  const context = contextOf(g.state, one);
  if (one.domain === 0 || planned === undefined) return undefined;
  const isLeading = treeFrom(g.state, one.domain, { context, root: planned }).pages.length > 1;
  if (!isPaging(g, one)) return isLeading && context.root !== planned ? planned : undefined;
  if (!isLost(g, one)) return undefined;
  return isLeading ? planned : rootsOf(g, one)[0];
}

/** vCPUs that had better load another root. */
const waiting = (g: Gen): readonly Caller[] => g.callers().filter((one) => betterRoot(g, one) !== undefined);

/** Which register of the guest that is to use paging should be seen to before anything else: without it, it does not. */
export function urgent(g: Gen): 'paging.setRoot' | 'paging.setControl' | undefined {
  if (g.pager === undefined) return undefined;
  const callers = g.callers().filter(({ domain }) => domain === g.pager);
  if (callers.some((one) => mayBegin(g, one))) return 'paging.setControl';
  if (callers.some((one) => betterRoot(g, one) !== undefined)) return 'paging.setRoot';
  return callers.some((one) => isLost(g, one)) ? 'paging.setControl' : undefined;
}

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
  if (lost !== undefined && g.share(80)) {
    g.agent = agentOf(lost);
    return { kind, control: isOn(contextOf(g.state, lost), 'pcids') ? 'pcids' : 'paging', to: 'off' };
  }
  if (g.share(85)) asPager(g);
  else g.asVcpu((id) => id !== 0);
  const context = g.agent.kind === 'vcpu' ? contextOf(g.state, g.agent) : undefined;
  const others: readonly Control[] = [
    ...controls.filter((one) => one !== 'paging'),
    'globalPages',
    'globalPages',
    'pcids',
    'pcids',
  ];
  const wantsPcids = context !== undefined && !isOn(context, 'pcids') && g.share(50);
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
    return { kind, gfn: g.gfn(betterRoot(g, one) ?? 0), pcid: 0, flush: 'flushing' };
  }
  const domain = g.share(85) ? asPager(g) : g.asVcpu((id) => id !== 0);
  const context = g.agent.kind === 'vcpu' ? contextOf(g.state, g.agent) : undefined;
  const tables = treeOf(g.state, g.agent).tables.map(({ gfn }) => gfn);
  const known = g.agent.kind === 'vcpu' ? rootsOf(g, g.agent) : [];
  // What is global outlives a root: under another one it is worth a look.
  const isOutliving = context?.loaded.some(({ global, leaf }) => global && leaf) === true && g.share(70);
  const usual = isOutliving ? known.filter((gfn) => gfn !== context.root) : [context?.root, ...known];
  const others = [...tables, ...ramOf(g.state, domain).slice(1, 4)];
  // What is no tree ends the vCPU's use of paging for a while.
  const roots = (g.share(80) ? usual : others).filter((gfn) => gfn !== undefined);
  g.changes.leave({ domain, pages: pagesNow(g.state, g.agent) });
  const hasPcids = context !== undefined && isOn(context, 'pcids');
  const elsewhere = (context?.loaded ?? []).filter((one) => one.pcid !== context?.pcid).map((one) => one.pcid);
  const pcid = elsewhere.length > 0 && g.share(70) ? g.prng.pick(elsewhere) : g.prng.below(3);
  return {
    kind,
    gfn: g.gfn(g.prng.pick(roots.length > 0 ? roots : [0])),
    pcid: hasPcids || g.share(10) ? pcid : 0,
    flush: (hasPcids && g.share(80)) || g.bends() ? 'keeping' : 'flushing',
  };
}
