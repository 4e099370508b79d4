// What happens to cached translations: vCPUs are moved (those that run nowhere first), processors walk on speculation what
// their domain has or had mapped, and forget entries; guests with paging on invalidate. A first reader may skip all but `Settings`.

import { NOWHERE, type Agent } from '#abi/agents.ts';
import type { DomId, PcpuId, VcpuId } from '#abi/address.ts';
import { PCIDS } from '#abi/paging.ts';
import type { TlbOp } from '#abi/tlb.ts';
import { linearContext } from '#model/paging/context.ts';
import { placeOfVcpu } from '#model/state.ts';
import { isActive, mappedOf, runsOn, vcpusOf } from '../harness/census.ts';
import type { Gen, Generators, Needs, Weights } from '../harness/decisions.ts';
import { asPager, linearPages } from '../paging/table-generators.ts';

/** How fate treats caches. */
export interface Settings {
  readonly weights: Weights<TlbOp<'symbolic'>>;
  /** Per cent of moves that take a vCPU off its processor. */
  readonly off: number;
}

/** Processors that mostly keep running what they run. */
export const plausible = (): Settings => ({
  weights: { 'tlb.schedule': 8, 'tlb.fill': 14, 'tlb.evict': 1, 'tlb.invlpg': 5, 'tlb.invpcid': 3 },
  off: 5,
});

/** Processors that change hands and walk ahead. */
export const hostile = (): Settings => ({
  weights: { 'tlb.schedule': 10, 'tlb.fill': 16, 'tlb.evict': 2, 'tlb.invlpg': 4, 'tlb.invpcid': 4 },
  off: 15,
});

const pcpu = (g: Gen): PcpuId => g.below(g.pcpus) as PcpuId;

/** Whether an agent is the vCPU that a processor runs. */
const isOn = ({ state }: Gen, agent: Agent, on: PcpuId): boolean =>
  agent.kind === 'vcpu' && placeOfVcpu(state, agent.domain, agent.vcpu) === on;

function schedule(g: Gen, s: Settings): Extract<TlbOp<'symbolic'>, { kind: 'tlb.schedule' }> {
  const pcpus = g.list(g.pcpus, (i) => i as PcpuId);
  const isIdle = (one: PcpuId): boolean => runsOn(g.state, one) === undefined;
  const isWaiting = ({ domain, vcpu }: { domain: DomId; vcpu: VcpuId }): boolean => {
    const owner = g.state.domains.get(domain);
    return owner !== undefined && isActive(owner) && placeOfVcpu(g.state, domain, vcpu) === NOWHERE;
  };
  const living = vcpusOf(g.state).filter(({ domain }) => g.state.domains.get(domain)?.state === 'running');
  const one = g.prefer(living, isWaiting) ?? { domain: 1 as DomId, vcpu: 0 as VcpuId };
  const to = g.share(s.off) ? NOWHERE : (g.prefer(pcpus, isIdle) ?? (0 as PcpuId));
  return {
    kind: 'tlb.schedule',
    target: g.domain(one.domain),
    vcpu: (g.bends() ? one.vcpu + 1 : one.vcpu) as VcpuId,
    pcpu: g.bends() ? pcpu(g) : to,
  };
}

/** The generators of what fate does to caches. */
export const generators = (s: Settings): Generators<TlbOp<'symbolic'>> => ({
  'tlb.schedule': (g) => {
    g.agent = { kind: 'fate' };
    return schedule(g, s);
  },
  'tlb.fill': (g) => {
    g.agent = { kind: 'fate' };
    const busy = g.list(g.pcpus, (i) => i as PcpuId).filter((one) => runsOn(g.state, one) !== undefined);
    // Processors walk ahead in the hypervisor as well, and what they pick up there is easily overlooked.
    const inside = busy.filter((one) => g.busy.some((agent) => isOn(g, agent, one)));
    const among = inside.length > 0 && g.share(60) ? inside : busy;
    const on = among.length > 0 && !g.bends() ? g.prng.pick(among) : pcpu(g);
    const vcpu = vcpusOf(g.state).find((one) => placeOfVcpu(g.state, one.domain, one.vcpu) === on);
    const domain = vcpu?.domain;
    const pages = vcpu === undefined ? [] : linearPages(g, { kind: 'vcpu', ...vcpu });
    if (pages.length > 0) return { kind: 'tlb.fill', pcpu: on, gfn: g.gfn(g.prng.pick(pages)) };
    if (domain === undefined) return { kind: 'tlb.fill', pcpu: on, gfn: g.gfn(g.oneOf([])) };
    return { kind: 'tlb.fill', pcpu: on, gfn: g.gfn(g.walks(domain, g.oneOf(mappedOf(g.state, domain)))) };
  },
  'tlb.evict': (g) => {
    g.agent = { kind: 'fate' };
    return { kind: 'tlb.evict', pcpu: pcpu(g), index: g.share(70) ? g.prng.below(12) : g.prng.below(256) };
  },
  'tlb.invlpg': (g) => {
    asPager(g);
    const pages = linearPages(g);
    return { kind: 'tlb.invlpg', gfn: g.gfn(pages.length > 0 ? g.prng.pick(pages) : g.oneOf([])) };
  },
  'tlb.invpcid': (g) => {
    asPager(g);
    const pages = linearPages(g);
    const type = g.prng.pick([
      'address',
      'address',
      'context',
      'context',
      'everything',
      'everythingButGlobals',
    ] as const);
    return {
      kind: 'tlb.invpcid',
      type: g.bends() ? 'reserved' : type,
      pcid: g.bends() ? PCIDS : g.prng.below(3),
      gfn: g.gfn(pages.length > 0 ? g.prng.pick(pages) : g.oneOf([])),
    };
  },
});

/** A guest's own tables matter only to vCPUs that have paging on. */
const somePager = (g: Gen): boolean => g.callers().some((one) => linearContext(g.state, { kind: 'vcpu', ...one }));

/** When a legal operation of a kind is possible. */
export const needs: Needs<TlbOp<'symbolic'>> = { 'tlb.invlpg': somePager, 'tlb.invpcid': somePager };
