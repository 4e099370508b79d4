// Acts of fate on processors: vCPUs move, a processor walks ahead, a processor forgets. They happen at once.
// Sources: Xen common/sched/core.c (context_switch), arch/x86/hvm/vmx/vmx.c (vmx_vmenter_helper).

import { RIGHT } from '#abi/rights.ts';
import { reply, type Reply } from '#abi/reply.ts';
import type { TlbOp } from '#abi/tlb.ts';
import { unreachable } from '#lib/invariant.ts';
import type { Call } from '../execution.ts';
import { domStates } from '../layout.ts';
import type { Machine } from '../machine.ts';
import { speculate } from '../paging/hardware.ts';
import { enter } from './flush.ts';
import { evict } from './hardware.ts';
import { domainOn } from './rules.ts';

const NONE = domStates.indexOf('none');
const RUNNING = domStates.indexOf('running');

/** Whether `pcpu` is a processor of this machine. */
const isPcpu = (m: Machine, pcpu: number): boolean => pcpu >= 0 && pcpu < m.pcpus;

/** One act of fate. */
export function tlbStep(m: Machine, call: Call, op: TlbOp<'concrete'>): Reply {
  if (call.agent.kind !== 'fate') return reply('EPERM');
  switch (op.kind) {
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
  const old = f.vcpuOn.get(key);
  if (old !== 0) f.pcpuVcpu.set(old - 1, 0);
  f.vcpuOn.set(key, 0);
  if (!isPcpu(m, pcpu)) return reply('ok');
  const displaced = f.pcpuVcpu.get(pcpu);
  if (displaced !== 0) f.vcpuOn.set(displaced - 1, 0);
  f.pcpuVcpu.set(pcpu, key + 1);
  f.vcpuOn.set(key, pcpu + 1);
  m.flushing.switched(m, pcpu, key);
  enter(m, pcpu, target);
  return reply('ok');
}

/** The processor walks `gfn` for the domain it runs, as if it were about to be read. */
function fill(m: Machine, pcpu: number, gfn: number): void {
  const dom = domainOn(m, pcpu);
  if (dom < 0) return;
  speculate(m, { pcpu, root: m.f.domRoot.get(dom), gfn, access: RIGHT.read, via: 0 });
}
