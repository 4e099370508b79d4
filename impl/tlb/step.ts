// Acts of fate on processors: vCPUs move, a processor walks ahead, a processor forgets; and the instructions by which guests make
// theirs forget. They happen at once, and leave no guest; but the instructions of paravirtual guests are the hypervisor's to perform.
// Sources: Xen common/sched/core.c (context_switch), arch/x86/hvm/vmx/vmx.c (vmx_vmenter_helper).

import { PCIDS } from '#abi/paging.ts';
import { RIGHT } from '#abi/rights.ts';
import { reply, type Reply } from '#abi/reply.ts';
import type { TlbOp } from '#abi/tlb.ts';
import { unreachable } from '#lib/invariant.ts';
import type { Call } from '../execution.ts';
import { domStates } from '../layout.ts';
import type { Machine } from '../machine.ts';
import { isParavirtual, isRunning } from '../memory/target.ts';
import { speculate } from '../paging/hardware.ts';
import { speculateLinear } from '../paging/linear-walker.ts';
import { hasControl } from '../paging/registers.ts';
import { inTables, isCanonical } from '../paging/pages.ts';
import { runningOf } from '../paging/step.ts';
import type { Step } from '../port.ts';
import { arrive, hasRoot } from '../pv/mode.ts';
import { emulateInvlpg } from '../pv/flush.ts';
import { enter } from './flush.ts';
import { evict } from './hardware.ts';
import { invalidateAddress, invalidateContexts, invalidatePcid, invlpg, type Running } from './linear-cache.ts';
import { domainOn } from './rules.ts';

const NONE = domStates.indexOf('none');
const RUNNING = domStates.indexOf('running');

/** Whether `pcpu` is a processor of this machine. */
const isPcpu = (m: Machine, pcpu: number): boolean => pcpu >= 0 && pcpu < m.pcpus;

/** One act of fate, or an instruction by which a guest has its processor forget. */
export function* tlbStep(m: Machine, call: Call, op: TlbOp<'concrete'>): Step<Reply> {
  const { agent } = call;
  const isInstruction = op.kind === 'tlb.invlpg' || op.kind === 'tlb.invpcid';
  if (agent.kind !== (isInstruction ? 'vcpu' : 'fate')) return reply('EPERM');
  if (agent.kind === 'vcpu' && isParavirtual(m, agent.domain)) {
    if (op.kind !== 'tlb.invlpg') return reply('generalProtection');
    yield* emulateInvlpg(m, agent, op.gfn);
    return reply('ok');
  }
  switch (op.kind) {
    case 'tlb.invlpg':
      if (agent.kind === 'vcpu') invlpg(m, runningOf(m, agent), inTables(m, op.gfn));
      return reply('ok');
    case 'tlb.invpcid':
      return agent.kind === 'vcpu' ? invpcid(m, runningOf(m, agent), op) : reply('EPERM');
    case 'tlb.schedule':
      return schedule(m, op);
    case 'tlb.fill':
      if (isPcpu(m, op.pcpu)) fill(m, op.pcpu, op.gfn);
      return reply('ok');
    case 'tlb.evict':
      if (isPcpu(m, op.pcpu)) evict(m, op.pcpu, op.index);
      return reply('ok');
    default:
      return unreachable(op);
  }
}

function schedule(m: Machine, op: Extract<TlbOp<'concrete'>, { kind: 'tlb.schedule' }>): Reply {
  const { f } = m;
  const { target, vcpu, pcpu } = op;
  if (target >= m.geometry.capacity.domains || f.domState.get(target) === NONE) return reply('ESRCH');
  const isFit = f.domState.get(target) === RUNNING && f.domCrashed.get(target) === 0;
  if (vcpu >= f.domVcpus.get(target) || !isFit) return reply('EINVAL');
  const key = target * m.geometry.capacity.vcpusPerDomain + vcpu;
  if (isParavirtual(m, target) && !hasRoot(m, key)) return reply('EINVAL');
  const old = f.vcpuOn.get(key);
  if (old !== 0) f.pcpuVcpu.set(old - 1, 0);
  f.vcpuOn.set(key, 0);
  if (!isPcpu(m, pcpu)) return reply('ok');
  const displaced = f.pcpuVcpu.get(pcpu);
  if (displaced !== 0) f.vcpuOn.set(displaced - 1, 0);
  f.pcpuVcpu.set(pcpu, key + 1);
  f.vcpuOn.set(key, pcpu + 1);
  if (isParavirtual(m, target)) {
    arrive(m, pcpu);
    return reply('ok');
  }
  m.flushing.switched(m, pcpu, key);
  enter(m, pcpu, target);
  return reply('ok');
}

/** INVPCID: as the processor checks its descriptor, and performs it. */
function invpcid(m: Machine, of: Running, op: Extract<TlbOp<'concrete'>, { kind: 'tlb.invpcid' }>): Reply {
  const { type, pcid, gfn } = op;
  const isOfOne = type === 'address' || type === 'context';
  const isForeign = isOfOne && pcid !== 0 && !hasControl(m, of.key, 'pcids');
  if (type === 'reserved' || pcid >= PCIDS || isForeign) return reply('generalProtection');
  if (type === 'address' && !isCanonical(m, gfn)) return reply('generalProtection');
  if (type === 'address') invalidateAddress(m, of.pcpu, { pcid, page: inTables(m, gfn) });
  else if (type === 'context') invalidatePcid(m, of.pcpu, pcid);
  else invalidateContexts(m, of.pcpu, type === 'everythingButGlobals');
  return reply('ok');
}

/** The processor walks `gfn` (with paging, a linear frame) for the vCPU it executes, if that is not paused, as if it were about to be read. */
function fill(m: Machine, pcpu: number, gfn: number): void {
  const dom = domainOn(m, pcpu);
  if (dom < 0 || !isRunning(m, dom)) return;
  const key = m.f.pcpuVcpu.get(pcpu) - 1;
  const of = { pcpu, key, root: m.f.domRoot.get(dom), access: RIGHT.read, via: 0 };
  const by = isParavirtual(m, dom) ? 'user' : 'supervisor';
  if (!hasControl(m, key, 'paging')) speculate(m, { ...of, gfn });
  else if (isCanonical(m, gfn)) speculateLinear(m, { ...of, page: inTables(m, gfn), by });
}
