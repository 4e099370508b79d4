// Domains that come and go: the toolstack creates them where there is room, pauses them and lets them go on, and kills them, rather those
// whose frames others use. A first reader may skip it.

import type { DomId } from '#abi/address.ts';
import type { MemoryOp } from '#abi/memory.ts';
import type { Domain } from '#model/state.ts';
import { domainsOf, vacant } from '../harness/census.ts';
import type { Gen } from '../harness/decisions.ts';

function createDomain(g: Gen): Extract<MemoryOp<'symbolic'>, { kind: 'memory.createDomain' }> {
  g.asToolstack();
  const { capacity } = g.geometry;
  const free = vacant(g.state);
  const id = g.prefer(free, (one) => one !== 0) ?? g.prng.pick(domainsOf(g.state).map((domain) => domain.id));
  const isDirect = g.share(15);
  return {
    kind: 'memory.createDomain',
    target: g.domain(id),
    vcpus: Math.min(8, 1 + g.below(capacity.vcpusPerDomain)),
    maxPages: g.prng.pick([4, 8, 16, 24]),
    grantFrames: Math.min(64, isDirect && !g.bends() ? 0 : g.share(70) ? 1 : g.below(capacity.grantFrames + 1)),
    guest: isDirect ? 'pv' : 'hvm',
  };
}

/** Whether a domain maps others' frames, or others use its grants. */
const sharesGrants = ({ grants }: Domain): boolean => grants.handles.size + grants.active.size > 0;

/** Whether others use its grants: what they map must outlive it. */
const isGranter = ({ grants }: Domain): boolean => grants.active.size > 0;

const life =
  <K extends 'memory.pauseDomain' | 'memory.unpauseDomain' | 'memory.killDomain'>(
    kind: K,
    likes: (domain: Domain, g: Gen) => boolean,
  ) =>
  (g: Gen): { readonly kind: K; readonly target: DomId } => {
    g.asToolstack();
    const from = domainsOf(g.state).filter(({ id }) => id !== 0);
    const id = g.prefer(from, (domain) => likes(domain, g))?.id ?? (1 as DomId);
    return { kind, target: g.domain(id) };
  };

/** The generators of the life of domains. */
export const generators = {
  'memory.createDomain': createDomain,
  'memory.pauseDomain': life('memory.pauseDomain', (domain) => domain.pauseCount === 0),
  'memory.unpauseDomain': life('memory.unpauseDomain', (domain) => domain.pauseCount > 0),
  'memory.killDomain': life(
    'memory.killDomain',
    (domain, g) => domain.state === 'dying' || (g.share(50) ? isGranter(domain) : sharesGrants(domain)),
  ),
};

const isRunning = (domain: Domain): boolean => domain.state === 'running';

const someDomain = (likes: (domain: Domain) => boolean) => (g: Gen) => domainsOf(g.state).some(likes);

/** When a legal operation of a kind is possible. */
export const needs = {
  'memory.createDomain': (g: Gen) => vacant(g.state).length > 0 && g.room() > 6,
  'memory.unpauseDomain': someDomain((domain) => isRunning(domain) && domain.pauseCount > 0),
  'memory.pauseDomain': someDomain((domain) => domain.id !== 0 && domain.pauseCount === 0),
  'memory.killDomain': (g: Gen) => g.share(30) || someDomain((domain) => domain.state === 'dying')(g),
};
