// Which gfns are on demand, as runs: there can be very many of them. What they mean is in memory/pod-*.ts.
// A first reader may skip this file. Source: Xen arch/x86/mm/p2m-pod.c (pod.entry_count counts them).

import type { DomId } from '#abi/address.ts';
import { withDomain, type Domain, type Pod, type Run, type State } from './state.ts';

/** `state` with `change` in the memory on demand of domain `id`. */
export function withPod(state: State, id: DomId, change: Partial<Pod>): State {
  const domain = state.domains.get(id);
  return domain === undefined ? state : withDomain(state, id, { pod: { ...domain.pod, ...change } });
}

/** Whether `gfn` is on demand. */
export const isOnDemand = ({ pod }: Pick<Domain, 'pod'>, gfn: number): boolean =>
  pod.entries.some(({ from, to }) => from <= gfn && gfn < to);

/** How many gfns from `from` to before `to` are on demand. */
export const demandIn = ({ pod }: Pick<Domain, 'pod'>, { from, to }: Run): number =>
  pod.entries.reduce((sum, run) => sum + Math.max(0, Math.min(run.to, to) - Math.max(run.from, from)), 0);

/** How many gfns are on demand in all. */
export const entryCount = ({ pod }: Pick<Domain, 'pod'>): number =>
  pod.entries.reduce((sum, { from, to }) => sum + to - from, 0);

/** Whether more is owed to a domain than its cache holds. */
export const isShort = (domain: Domain): boolean => entryCount(domain) > domain.pod.cache.size;

const without = (runs: readonly Run[], { from, to }: Run): readonly Run[] =>
  runs
    .flatMap((run) => [
      { from: run.from, to: Math.min(run.to, from) },
      { from: Math.max(run.from, to), to: run.to },
    ])
    .filter((run) => run.from < run.to);

/** gfns of `run` are on demand no more. */
export function withoutDemand(state: State, id: DomId, run: Run): State {
  const domain = state.domains.get(id);
  if (domain === undefined || demandIn(domain, run) === 0) return state;
  return withPod(state, id, { entries: without(domain.pod.entries, run) });
}

/** All gfns of `run` are on demand. */
export function withDemand(state: State, id: DomId, run: Run): State {
  const runs = without(state.domains.get(id)?.pod.entries ?? [], run);
  const before = runs.find(({ to }) => to === run.from);
  const after = runs.find(({ from }) => from === run.to);
  const joined = { from: before?.from ?? run.from, to: after?.to ?? run.to };
  const others = runs.filter((one) => one !== before && one !== after);
  const marked = withPod(state, id, { entries: [...others, joined].toSorted((a, b) => a.from - b.from) });
  const highest = marked.domains.get(id)?.maxGfn ?? 0;
  return run.to - 1 > highest ? withDomain(marked, id, { maxGfn: run.to - 1 }) : marked;
}
