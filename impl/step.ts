// Routing: who may call at all, then mechanism, then kind. Every handler is a generator that ends with the reply.
// The caller of an operation must run: its domain alive, unpaused and uncrashed, its vCPU on a processor.

import { callerOf, type Agent, type VcpuAgent } from '#abi/agents.ts';
import { mechanismOf, type OpKind } from '#abi/operation.ts';
import type { GrantsOp } from '#abi/grants.ts';
import type { MemoryOp } from '#abi/memory.ts';
import type { PagingOp } from '#abi/paging.ts';
import type { PvOp } from '#abi/pv.ts';
import type { TlbOp } from '#abi/tlb.ts';
import { reply, type Reply } from '#abi/reply.ts';
import { unreachable } from '#lib/invariant.ts';
import type { Call } from './execution.ts';
import { grantsStep } from './grants/step.ts';
import type { Machine } from './machine.ts';
import { memoryStep } from './memory/step.ts';
import { isParavirtual, isRunning } from './memory/target.ts';
import { pagingStep } from './paging/step.ts';
import type { Step } from './port.ts';
import { enterKernel } from './pv/mode.ts';
import { keyOf } from './pv/owner.ts';
import { pvStep } from './pv/step.ts';
import { tlbStep } from './tlb/step.ts';

/** Whether `agent` can call now. The toolstack always can; devices have no calls. */
function isPresent(m: Machine, agent: Agent): boolean {
  switch (agent.kind) {
    case 'vcpu': {
      if (!isRunning(m, agent.domain) || agent.vcpu >= m.f.domVcpus.get(agent.domain)) return false;
      return m.f.vcpuOn.get(agent.domain * m.geometry.capacity.vcpusPerDomain + agent.vcpu) !== 0;
    }
    case 'deviceModel':
      return isRunning(m, agent.domain);
    case 'device':
      return false;
    case 'toolstack':
    case 'background':
    case 'fate':
      return true;
    default:
      return unreachable(agent);
  }
}

/** The body of an operation, from its call to its reply. */
export function* startStep(m: Machine, call: Call): Step<Reply> {
  const { agent, op } = call;
  if (!isPresent(m, agent)) return reply('gone');
  const mechanism = mechanismOf(op.kind);
  const isChore = op.kind === 'memory.scrub' || mechanism === 'tlb';
  if ((agent.kind === 'background' || agent.kind === 'fate') && !isChore) return reply('EPERM');
  if (agent.kind !== 'vcpu') return yield* route(m, call);
  m.f.domBusy.add(agent.domain, 1);
  // Calls come from the kernel of a paravirtual guest; instructions that are emulated see to it themselves.
  const isCall = mechanism !== 'paging' && mechanism !== 'tlb' && op.kind !== 'pv.loadSegment';
  if (isCall && isParavirtual(m, agent.domain)) enterKernel(m, keyOf(m, agent));
  const answer = yield* route(m, call);
  m.f.domBusy.add(agent.domain, -1);
  if (leavesGuest(op.kind) || answer.status === 'violation') resume(m, agent);
  return answer;
}

/** Whether the operation is no instruction that a processor performs by itself. */
const leavesGuest = (kind: OpKind): boolean =>
  kind === 'paging.setControl' || (mechanismOf(kind) !== 'paging' && kind !== 'tlb.invlpg' && kind !== 'tlb.invpcid');

/** The caller, which has left its guest, goes back into it if it still runs. That of a paravirtual guest has left nothing. */
function resume(m: Machine, { domain, vcpu }: VcpuAgent): void {
  if (isParavirtual(m, domain)) return;
  const on = m.f.vcpuOn.get(domain * m.geometry.capacity.vcpusPerDomain + vcpu);
  if (on !== 0) m.flushing.resumed(m, on - 1, domain);
}

function* route(m: Machine, call: Call): Step<Reply> {
  const { op } = call;
  const mechanism = mechanismOf(op.kind);
  switch (mechanism) {
    case 'paging':
      return yield* pagingStep(m, call, op as PagingOp<'concrete'>);
    case 'memory':
      return yield* memoryStep(m, call, op as MemoryOp<'concrete'>);
    case 'grants':
      return yield* grantsStep(m, call, op as GrantsOp<'concrete'>);
    case 'tlb':
      return yield* tlbStep(m, call, op as TlbOp<'concrete'>);
    case 'pv':
      return yield* pvStep(m, call, op as PvOp<'concrete'>);
    case 'hap':
      return reply('ENOSYS');
    default:
      return unreachable(mechanism);
  }
}

/** The domain in whose name `call` is made; -1 for fate and the background. */
export const callerIn = (call: Call): number => callerOf(call.agent) ?? -1;
