// What an act of fate touches: the vCPU that is placed and who runs where it goes; the gfn that a processor looks up.
// A first reader may skip this file: it only tells kinds of situations apart.

import { NOWHERE, type Agent } from '#abi/agents.ts';
import type { TlbOp } from '#abi/tlb.ts';
import { match } from 'ts-pattern';
import { domainClass } from '../classes.ts';
import { contextOf } from '../paging/context.ts';
import { answering } from './loaded.ts';
import { placeOfVcpu, type State } from '../state.ts';

/** Who runs on a pCPU: 0 nobody, else 1 + its domain's class. */
function occupant(state: State, pcpu: number): number {
  const { vcpusPerDomain } = state.geometry.capacity;
  const id = state.domains.values().find((domain) => {
    const places = Array.from({ length: Math.min(domain.vcpus, vcpusPerDomain) }, (_, v) =>
      placeOfVcpu(state, domain.id, v),
    );
    return places.some((on) => on === pcpu && on !== NOWHERE);
  })?.id;
  return id === undefined ? 0 : 1 + domainClass(state, id);
}

export const features = (state: State, agent: Agent, op: TlbOp<'concrete'>): readonly number[] =>
  match(op)
    .with({ kind: 'tlb.schedule' }, ({ target, vcpu, pcpu }) => {
      const stale = Math.min(state.domains.get(target)?.stale.length ?? 0, 2);
      const was = placeOfVcpu(state, target, vcpu);
      const move = was === NOWHERE ? 0 : was === pcpu ? 1 : 2;
      return [domainClass(state, target), stale * 3 + move, occupant(state, pcpu)];
    })
    .with({ kind: 'tlb.fill' }, { kind: 'tlb.evict' }, ({ pcpu }) => [occupant(state, pcpu)])
    .with({ kind: 'tlb.invlpg' }, { kind: 'tlb.invpcid' }, ({ gfn }) => {
      if (agent.kind !== 'vcpu') return [];
      const context = contextOf(state, agent);
      return [context.controls, Math.min(answering(state.geometry, context, gfn).length, 4)];
    })
    .exhaustive();
