// The second dimension: where a gfn lies in the machine, by the way that the hardware says it took: a walk of the present nested
// tables, or a translation that it remembers. A remembered one must be what the P2M says now or what this processor may still
// remember. A first reader may skip nothing.
// Sources: Intel SDM vol. 3C, "EPT Violations", "Caching Translation Information"; AMD64 APM vol. 2, "Nested Paging".

import type { Gfn, Mfn } from '#abi/address.ts';
import type { VcpuAgent } from '#abi/agents.ts';
import { hasAll } from '#lib/bits.ts';
import { ask, refuse, type Cut } from '../cut.ts';
import { rightsOfEntry } from '../p2m.ts';
import { entryOf, frameOf, placeOfVcpu, type State } from '../state.ts';

/** A translation as the hardware says it used it. */
export interface Answer {
  readonly mfn: Mfn;
  readonly rights: number;
}

/** Whether the processor of `agent` may use `answer` for `gfn`: the P2M says so, or said so and was not invalidated there. */
export function isUsable(state: State, agent: VcpuAgent, use: { gfn: Gfn; answer: Answer }): boolean {
  const { gfn, answer } = use;
  const entry = entryOf(state, agent.domain, gfn);
  if (entry?.mfn === answer.mfn && hasAll(rightsOfEntry(entry), answer.rights)) return true;
  const pcpu = placeOfVcpu(state, agent.domain, agent.vcpu);
  const { incarnation } = frameOf(state, answer.mfn);
  return (state.domains.get(agent.domain)?.stale ?? []).some(
    (one) =>
      one.gfn === gfn &&
      one.mfn === answer.mfn &&
      one.incarnation === incarnation &&
      one.pcpus.includes(pcpu) &&
      hasAll(one.rights, answer.rights),
  );
}

/** Where `gfn` lies, by the logged way; `answer` is undefined if the tables refuse the rights in `need`. */
export function locate(
  cut: Cut,
  agent: VcpuAgent,
  { gfn, need }: { readonly gfn: Gfn; readonly need: number },
): { readonly cut: Cut; readonly answer: Answer | undefined } {
  const { cut: after, choice } = ask(cut, ['walked', 'cached']);
  if (choice.kind === 'cached') {
    if (!hasAll(choice.rights, need))
      return refuse(`gfn ${gfn} is used beyond the rights of the cached entry`, 'STALE');
    if (!isUsable(after.state, agent, { gfn, answer: choice }))
      return refuse(`gfn ${gfn} leads to frame ${choice.mfn} by a cached entry that nobody may use any more`, 'STALE');
    return { cut: after, answer: choice };
  }
  const entry = entryOf(after.state, agent.domain, gfn);
  const isAllowed = entry !== undefined && hasAll(rightsOfEntry(entry), need);
  return { cut: after, answer: isAllowed ? { mfn: entry.mfn, rights: rightsOfEntry(entry) } : undefined };
}
