// What happens to cached translations: vCPUs are moved (those that run nowhere first), processors walk on speculation what
// their domain has or had mapped, and forget entries. A first reader may skip all but `Settings`.

import { NOWHERE } from '#abi/agents.ts';
import type { DomId, PcpuId, VcpuId } from '#abi/address.ts';
import type { TlbOp } from '#abi/tlb.ts';
import { placeOfVcpu } from '#model/state.ts';
import { isActive, mappedOf, runsOn, vcpusOf } from '../harness/census.ts';
import type { Gen, Generators, Weights } from '../harness/decisions.ts';

/** How fate treats caches. */
export interface Settings {
  readonly weights: Weights<TlbOp<'symbolic'>>;
  /** Per cent of moves that take a vCPU off its processor. */
  readonly off: number;
}

/** Processors that mostly keep running what they run. */
export const plausible = (): Settings => ({
  weights: { 'tlb.schedule': 8, 'tlb.fill': 14, 'tlb.evict': 1 },
  off: 5,
});

/** Processors that change hands and walk ahead. */
export const hostile = (): Settings => ({
  weights: { 'tlb.schedule': 10, 'tlb.fill': 16, 'tlb.evict': 2 },
  off: 15,
});

const pcpu = (g: Gen): PcpuId => g.below(g.pcpus) as PcpuId;

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
    const on = busy.length > 0 && !g.bends() ? g.prng.pick(busy) : pcpu(g);
    const domain = runsOn(g.state, on);
    if (domain === undefined) return { kind: 'tlb.fill', pcpu: on, gfn: g.gfn(g.oneOf([])) };
    return { kind: 'tlb.fill', pcpu: on, gfn: g.gfn(g.walks(domain, g.oneOf(mappedOf(g.state, domain)))) };
  },
  'tlb.evict': (g) => {
    g.agent = { kind: 'fate' };
    return { kind: 'tlb.evict', pcpu: pcpu(g), index: g.share(70) ? g.prng.below(12) : g.prng.below(256) };
  },
});
