// The second dimension: where a gfn lies in the machine, by the way that the hardware says it took: a walk of the present nested
// tables, or a translation that it remembers. A remembered one must be what the P2M says now or what this processor may still
// remember. For a paravirtual guest there is no such dimension: a gfn is that machine frame. A first reader may skip nothing.
// Sources: Intel SDM vol. 3C, "EPT Violations", "Caching Translation Information"; AMD64 APM vol. 2, "Nested Paging".

import type { Gfn, Mfn } from '#abi/address.ts';
import type { VcpuAgent } from '#abi/agents.ts';
import { isDeviceFrame } from '#abi/geometry.ts';
import { hasAll, or, without } from '#lib/bits.ts';
import { ask, refuse, type Cut } from '../cut.ts';
import { mayReachDevice, rightsOfFrame, visibleAs } from '../entitlement.ts';
import { lentTo } from '../grants/lent.ts';
import { ALL_RIGHTS } from '../hap/meaning.ts';
import { rightsOfEntry } from '../p2m.ts';
import { entryOf, frameOf, isParavirtual, placeOfVcpu, type State } from '../state.ts';

/** A translation as the hardware says it used it. */
export interface Answer {
  readonly mfn: Mfn;
  readonly rights: number;
}

interface Used {
  readonly gfn: Gfn;
  readonly answer: Answer;
}

/** What a paravirtual guest's processor may do with a frame: what its type says if it is the guest's, what was granted, or it is a device for it. */
function permits(state: State, { domain: id }: VcpuAgent, mfn: Mfn): number {
  const { owner, role, type } = frameOf(state, mfn);
  const domain = state.domains.get(id);
  if (domain !== undefined && mayReachDevice(state.geometry, domain, mfn)) return ALL_RIGHTS;
  if (owner === id) return visibleAs[role] === undefined ? 0 : rightsOfFrame(type, state.policies);
  return lentTo(state, mfn).reduce((rights, one) => (one.domain === id ? or(rights, one.rights) : rights), 0);
}

/**
 * Whether the processor of `agent` may use `answer` for `gfn`: the P2M says so, or said so and was not invalidated there. `need`:
 * what a remembered entry does with the frame, for guests whose frames have types.
 */
export function isUsable(state: State, agent: VcpuAgent, use: Used & { need?: number }): boolean {
  const { gfn, answer, need = 0 } = use;
  if (!isParavirtual(state, agent.domain)) return isKnown(state, agent, use);
  if (without(need, permits(state, agent, answer.mfn)) === 0) return true;
  return isStillKnown(state, agent, { gfn, answer: { mfn: answer.mfn, rights: need } });
}

function isKnown(state: State, agent: VcpuAgent, use: Used): boolean {
  const entry = entryOf(state, agent.domain, use.gfn);
  const { answer } = use;
  if (entry?.mfn === answer.mfn && hasAll(rightsOfEntry(entry), answer.rights)) return true;
  return isStillKnown(state, agent, use);
}

/** Whether there was such a translation, and it was not invalidated on that processor. */
function isStillKnown(state: State, agent: VcpuAgent, { gfn, answer }: Used): boolean {
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

/** A machine frame by its own name, whatever it is; undefined: there is none. */
function itself({ geometry }: State, gfn: Gfn): Answer | undefined {
  const mfn = gfn as number as Mfn;
  const exists = mfn < geometry.frameCount || isDeviceFrame(geometry, mfn);
  return exists ? { mfn, rights: ALL_RIGHTS } : undefined;
}

/** Where `gfn` lies, by the logged way; `answer` is undefined if the tables refuse the rights in `need`. */
export function locate(
  cut: Cut,
  agent: VcpuAgent,
  { gfn, need }: { readonly gfn: Gfn; readonly need: number },
): { readonly cut: Cut; readonly answer: Answer | undefined } {
  if (isParavirtual(cut.state, agent.domain)) return { cut, answer: itself(cut.state, gfn) };
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
