// What a listener leaves of a guest's memory: ranges of it, restricted and given back, and who listens. What makes tables malformed comes
// rarely, for it ends the guest that meets it. A first reader may skip this file.

import { memAccesses, type MemoryOp } from '#abi/memory.ts';
import type { Domain } from '#model/state.ts';
import { domainsOf, keptOf, mappedOf, ramOf } from '../harness/census.ts';
import type { Gen, Generators, Needs, Weights } from '../harness/decisions.ts';
import { asServant, guest, isGuest, runLength } from './mapping-generators.ts';

type Kind = 'memory.setMemAccess' | 'memory.memAccess' | 'memory.monitor' | 'memory.setAccessRequired';
type AccessOp = Extract<MemoryOp<'symbolic'>, { kind: Kind }>;

export const weights: Weights<AccessOp> = {
  'memory.setMemAccess': 18,
  'memory.memAccess': 1,
  'memory.monitor': 8,
  'memory.setAccessRequired': 5,
};

const isHeard = ({ watch }: Domain): boolean => watch.listens;

/** What makes malformed entries, among all. */
const odd = ['w', 'wx', ...memAccesses] as const;
const usual = ['n', 'r', 'r', 'rw', 'x', 'rx', 'rx', 'rx2rw', 'rx2rw', 'n2rwx', 'n2rwx', 'rwx', 'default'] as const;

function setMemAccess(g: Gen): Extract<AccessOp, { kind: 'memory.setMemAccess' }> {
  const id = guest(g, (domain) => isHeard(domain) && ramOf(g.state, domain.id).length > 1);
  asServant(g, id);
  const kept = keptOf(g.state, id);
  const onDemand = g.state.domains.get(id)?.pod.entries ?? [];
  const access = g.share(12) ? g.prng.pick(odd) : g.prng.pick(usual);
  const gives = access === 'rwx' || access === 'default';
  const among = gives && kept.length > 0 ? kept : g.share(75) ? ramOf(g.state, id).slice(1) : mappedOf(g.state, id);
  const [run] = onDemand;
  const gfn =
    run !== undefined && g.share(15) ? run.from + g.below(Math.min(4, run.to - run.from)) : g.oneOf(among, id);
  const most = g.share(55) ? 1 : g.prng.pick([2, 4, 8]);
  const count = g.bends() ? g.prng.pick([0, 4096]) : runLength(mappedOf(g.state, id), gfn, most);
  const scope = g.share(6) ? 'default' : 'gfns';
  return {
    kind: 'memory.setMemAccess',
    target: g.domain(id),
    scope,
    gfn: g.gfn(gfn),
    count,
    access,
    start: g.start(count),
  };
}

export const generators: Generators<AccessOp> = {
  'memory.setMemAccess': setMemAccess,
  'memory.memAccess': (g) => {
    const id = guest(g, isHeard);
    asServant(g, id);
    const gfn = g.share(80) ? g.oneOf(mappedOf(g.state, id)) : g.unmapped(id, 0);
    return { kind: 'memory.memAccess', target: g.domain(id), scope: g.share(15) ? 'default' : 'gfns', gfn: g.gfn(gfn) };
  },
  'memory.monitor': (g) => {
    g.asToolstack();
    // Whoever has kept something goes away now and then: then it is met without a listener.
    const leaves = g.share(45);
    const listensAnew = g.share(30);
    const id = guest(g, (domain) =>
      leaves
        ? isHeard(domain) && keptOf(g.state, domain.id).length > 0
        : domain.kind === 'hvm' && !isHeard(domain) && (listensAnew || keptOf(g.state, domain.id).length === 0),
    );
    const is = g.state.domains.get(id)?.watch.listens === true;
    const action = is !== g.share(5) ? 'stops listening' : 'listens';
    return { kind: 'memory.monitor', target: g.domain(id), action };
  },
  'memory.setAccessRequired': (g) => {
    g.asToolstack();
    const id = guest(
      g,
      (domain) => !domain.watch.required && !isHeard(domain) && keptOf(g.state, domain.id).length > 0,
    );
    return { kind: 'memory.setAccessRequired', target: g.domain(id), required: g.share(85) ? 'yes' : 'no' };
  },
};

const isWatchable = (g: Gen): boolean => g.state.vendor === 'intel';

/** When a legal operation of a kind is possible. */
export const needs: Needs<AccessOp> = {
  'memory.setMemAccess': (g) =>
    g.share(3) || (isWatchable(g) && domainsOf(g.state).some((domain) => isGuest(domain) && isHeard(domain))),
  'memory.memAccess': (g) => g.share(3) || (isWatchable(g) && domainsOf(g.state).some((domain) => isHeard(domain))),
  'memory.monitor': (g) => g.share(5) || (isWatchable(g) && domainsOf(g.state).some(isGuest)),
  'memory.setAccessRequired': (g) =>
    g.share(3) || domainsOf(g.state).some((domain) => isGuest(domain) && keptOf(g.state, domain.id).length > 0),
};
