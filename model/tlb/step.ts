// Where vCPUs run. One vCPU runs on a pCPU at a time. A processor may use what it remembers of a domain only while it runs
// a vCPU of it, and entering a domain executes the invalidations that are pending there, or gives it an ASID under which
// nothing is remembered: so what was stale for a domain on a pCPU is over when the domain leaves it and when it enters it anew.
// For a paravirtual guest everything that its vCPU has loaded is forgotten then, too.
// Filling and evicting caches changes nothing that is true. Sources: Xen arch/x86/hvm/vmx/vmx.c (vmx_vmenter_helper,
// EPT invalidation on entry), arch/x86/mm/p2m-ept.c (ept_sync_domain), arch/x86/flushtlb.c (switch_cr3_cr4: a switch ends
// the generation of ASIDs).

import { NOWHERE, type VcpuAgent } from '#abi/agents.ts';
import type { DomId, PcpuId, VcpuId } from '#abi/address.ts';
import { PCIDS } from '#abi/paging.ts';
import { RIGHT } from '#abi/rights.ts';
import type { TlbOp } from '#abi/tlb.ts';
import { match } from 'ts-pattern';
import type { Cut } from '../cut.ts';
import { flush, keepStale } from '../p2m.ts';
import { at, end, type OpOf, type Task, type Turn } from '../progress.ts';
import { contextOf, isCanonicalPage, isOn, linearContext, vcpuAgent, withContext } from '../paging/context.ts';
import { walkAfresh } from '../paging/linear.ts';
import { invalidatePvPage, refusePrivileged } from '../pv/privileged.ts';
import { isParavirtual, isRunning, pcpusRunning, vcpuKey, withParts, type Context, type State } from '../state.ts';
import {
  invalidateAddress,
  invalidateAllButGlobals,
  invalidateEverything,
  invalidatePage,
  invalidatePcid,
} from './loaded.ts';

/** Fate acts on processors, guests on what comes from their own tables: one micro-step. */
export const tlbStep = (cut: Cut, task: Task<TlbOp<'concrete'>>): Turn => {
  const { agent, op } = task;
  return match(op)
    .with({ kind: 'tlb.invlpg' }, { kind: 'tlb.invpcid' }, (one) => {
      if (agent.kind !== 'vcpu') return end(cut, 'EPERM');
      if (!isParavirtual(cut.state, agent.domain)) return invalidate(cut, agent, one);
      return one.kind === 'tlb.invpcid' ? refusePrivileged(cut) : invalidatePvPage(cut, { ...task, op: one }, agent);
    })
    .with({ kind: 'tlb.fill' }, { kind: 'tlb.evict' }, { kind: 'tlb.schedule' }, (one) =>
      agent.kind === 'fate' ? byFate(cut, one) : end(cut, 'EPERM'),
    )
    .exhaustive();
};

const byFate = (cut: Cut, op: OpOf<'tlb.fill' | 'tlb.evict' | 'tlb.schedule'>): Turn =>
  match(op)
    .with({ kind: 'tlb.fill' }, (one) => fill(cut, one))
    .with({ kind: 'tlb.evict' }, () => end(cut, 'ok'))
    .with({ kind: 'tlb.schedule' }, (one) => schedule(cut, one))
    .exhaustive();

/** The vCPU that runs on a pCPU. */
function vcpuOn(state: State, pcpu: number): VcpuAgent | undefined {
  let found: VcpuAgent | undefined;
  const { vcpusPerDomain } = state.geometry.capacity;
  state.vcpus.forEach((on, key) => {
    if (on === pcpu && on !== NOWHERE)
      found = vcpuAgent(Math.floor(key / vcpusPerDomain) as DomId, (key % vcpusPerDomain) as VcpuId);
  });
  return found;
}

/**
 * A walk on speculation, for the vCPU that the processor executes: none of a paused domain is. Without paging it changes nothing
 * that is true; with paging it sets flags, and is remembered.
 */
function fill(cut: Cut, op: OpOf<'tlb.fill'>): Turn {
  if (cut.state.contexts.size === 0) return end(cut, 'ok');
  const agent = vcpuOn(cut.state, op.pcpu);
  if (agent === undefined || !isRunning(cut.state, agent.domain)) return end(cut, 'ok');
  if (linearContext(cut.state, agent) === undefined) return end(cut, 'ok');
  if (!isCanonicalPage(cut.state.geometry, op.gfn)) return end(cut, 'ok');
  const { cut: after } = walkAfresh(cut, agent, { page: op.gfn, attempt: undefined, need: RIGHT.read });
  return end(after, 'ok');
}

/** Whether the descriptor of an INVPCID is refused: reserved bits, PCIDs that are off, an address that there is not. */
function isRefused(state: State, context: Context, { type, pcid, gfn }: OpOf<'tlb.invpcid'>): boolean {
  if (type === 'reserved' || pcid >= PCIDS) return true;
  if (type !== 'address' && type !== 'context') return false;
  if (!isOn(context, 'pcids') && pcid !== 0) return true;
  return type === 'address' && !isCanonicalPage(state.geometry, gfn);
}

/** INVLPG and INVPCID. Without paging there is nothing to forget. */
function invalidate(cut: Cut, agent: VcpuAgent, op: OpOf<'tlb.invlpg' | 'tlb.invpcid'>): Turn {
  const { state } = cut;
  const context = contextOf(state, agent);
  if (op.kind === 'tlb.invpcid' && isRefused(state, context, op)) return end(cut, 'generalProtection');
  const { loaded } =
    op.kind === 'tlb.invlpg' ? invalidatePage(state.geometry, context, op.gfn) : byPcid(state, context, op);
  return end(loaded === context.loaded ? cut : at(cut, withContext(state, agent, { loaded })), 'ok');
}

const byPcid = ({ geometry }: State, context: Context, { type, pcid, gfn }: OpOf<'tlb.invpcid'>): Context =>
  match(type)
    .with('address', () => invalidateAddress(geometry, context, { pcid, page: gfn }))
    .with('context', () => invalidatePcid(context, pcid))
    .with('everything', 'reserved', () => invalidateEverything(context))
    .with('everythingButGlobals', () => invalidateAllButGlobals(context))
    .exhaustive();

function schedule(cut: Cut, op: OpOf<'tlb.schedule'>): Turn {
  const { state } = cut;
  const domain = state.domains.get(op.target);
  if (domain === undefined) return end(cut, 'ESRCH');
  if (op.vcpu >= domain.vcpus || domain.state !== 'running' || domain.crashed) return end(cut, 'EINVAL');
  const agent = vcpuAgent(op.target, op.vcpu);
  const isPv = domain.kind === 'pv';
  if (isPv && contextOf(state, agent).root === 0) return end(cut, 'EINVAL');
  const isPcpu = op.pcpu >= 0 && op.pcpu < state.pcpus;
  const placed = place(state, vcpuKey(state, op.target, op.vcpu), isPcpu ? op.pcpu : NOWHERE);
  const unknowing = isPv ? withContext(placed, agent, { loaded: [] }) : placed;
  const left = placed.domains.keys().reduce((now, id) => leave(now, id as DomId), unknowing);
  return end(at(cut, isPcpu ? flush(left, op.target, op.pcpu) : left), 'ok');
}

/** The vCPU runs on `pcpu`, and whoever ran there runs nowhere. */
function place(state: State, key: number, pcpu: PcpuId): State {
  let { vcpus } = state;
  state.vcpus.forEach((on, other) => {
    if (on === pcpu && on !== NOWHERE) vcpus = vcpus.set(other, NOWHERE);
  });
  return withParts(state, { vcpus: vcpus.set(key, pcpu) });
}

/** The pCPUs that do not run `id` any more may use nothing of what they remember of it. */
function leave(state: State, id: DomId): State {
  if ((state.domains.get(id)?.stale.length ?? 0) === 0) return state;
  const running = pcpusRunning(state, id);
  return keepStale(state, id, (pcpu) => running.includes(pcpu));
}
