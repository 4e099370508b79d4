// Where vCPUs run. One vCPU runs on a pCPU at a time. A processor may use what it remembers of a domain only while it runs
// a vCPU of it, and entering a domain executes the invalidations that are pending there, or gives it an ASID under which
// nothing is remembered: so what was stale for a domain on a pCPU is over when the domain leaves it and when it enters it anew.
// Filling and evicting caches changes nothing that is true. Sources: Xen arch/x86/hvm/vmx/vmx.c (vmx_vmenter_helper,
// EPT invalidation on entry), arch/x86/mm/p2m-ept.c (ept_sync_domain), arch/x86/flushtlb.c (switch_cr3_cr4: a switch ends
// the generation of ASIDs).

import { NOWHERE } from '#abi/agents.ts';
import type { DomId, PcpuId } from '#abi/address.ts';
import type { TlbOp } from '#abi/tlb.ts';
import { match } from 'ts-pattern';
import type { Cut } from '../cut.ts';
import { flush, keepStale } from '../p2m.ts';
import { at, end, type OpOf, type Task, type Turn } from '../progress.ts';
import { pcpusRunning, vcpuKey, type State } from '../state.ts';

/** An act of fate on processors: one micro-step. */
export const tlbStep = (cut: Cut, task: Task<TlbOp<'concrete'>>): Turn =>
  task.agent.kind === 'fate'
    ? match(task.op)
        .with({ kind: 'tlb.fill' }, { kind: 'tlb.evict' }, () => end(cut, 'ok'))
        .with({ kind: 'tlb.schedule' }, (op) => schedule(cut, op))
        .exhaustive()
    : end(cut, 'EPERM');

function schedule(cut: Cut, op: OpOf<'tlb.schedule'>): Turn {
  const { state } = cut;
  const domain = state.domains.get(op.target);
  if (domain === undefined) return end(cut, 'ESRCH');
  if (op.vcpu >= domain.vcpus || domain.state !== 'running' || domain.crashed) return end(cut, 'EINVAL');
  const isPcpu = op.pcpu >= 0 && op.pcpu < state.pcpus;
  const placed = place(state, vcpuKey(state, op.target, op.vcpu), isPcpu ? op.pcpu : NOWHERE);
  const left = placed.domains.keys().reduce((now, id) => leave(now, id as DomId), placed);
  return end(at(cut, isPcpu ? flush(left, op.target, op.pcpu) : left), 'ok');
}

/** The vCPU runs on `pcpu`, and whoever ran there runs nowhere. */
function place(state: State, key: number, pcpu: PcpuId): State {
  let { vcpus } = state;
  state.vcpus.forEach((on, other) => {
    if (on === pcpu && on !== NOWHERE) vcpus = vcpus.set(other, NOWHERE);
  });
  return { ...state, vcpus: vcpus.set(key, pcpu) };
}

/** The pCPUs that do not run `id` any more may use nothing of what they remember of it. */
function leave(state: State, id: DomId): State {
  if ((state.domains.get(id)?.stale.length ?? 0) === 0) return state;
  const running = pcpusRunning(state, id);
  return keepStale(state, id, (pcpu) => running.includes(pcpu));
}
