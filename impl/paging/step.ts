// Accesses by processors. An access is cut at frame borders; every piece is translated before anything is read or written,
// and how each was translated is logged. A refused piece is a violation, and nothing after it is looked at.
// Sources: Intel SDM vol. 3C, "EPT Violations"; AMD64 APM vol. 2, "Nested Paging"; Xen arch/x86/hvm/hvm.c
// (hvm_hap_nested_page_fault): what no device claims reads as ones.

import type { Mfn, Word } from '#abi/address.ts';
import type { VcpuAgent } from '#abi/agents.ts';
import { bytesPerFrame } from '#abi/geometry.ts';
import type { PagingOp } from '#abi/paging.ts';
import { reply, type Reply } from '#abi/reply.ts';
import { RIGHT } from '#abi/rights.ts';
import { unreachable } from '#lib/invariant.ts';
import type { Call } from '../execution.ts';
import type { Machine } from '../machine.ts';
import { lowBytes, readRuns, translate, writeRuns, type Run } from './hardware.ts';

const ALL_ONES: Word = { lo: 0xffff_ffff, hi: 0xffff_ffff };

/** The rights that each access needs. */
const needs: Readonly<Record<PagingOp<'concrete'>['kind'], number>> = {
  'paging.read': RIGHT.read,
  'paging.write': RIGHT.write,
  'paging.compareExchange': RIGHT.read + RIGHT.write,
  'paging.fetch': RIGHT.execute,
};

/** One access by a vCPU, which runs on some pCPU. */
export function pagingStep(m: Machine, call: Call, op: PagingOp<'concrete'>): Reply {
  const { agent } = call;
  if (agent.kind !== 'vcpu') return reply('EPERM');
  const runs = locate(m, agent, op);
  if (runs === undefined)
    return reply('violation', { words: op.kind === 'paging.read' ? [lowBytes(ALL_ONES, op.size)] : [] });
  switch (op.kind) {
    case 'paging.read':
    case 'paging.fetch':
      return reply('ok', { words: [readRuns(m, runs)] });
    case 'paging.write':
      writeRuns(m, runs, op.value);
      return reply('ok');
    case 'paging.compareExchange':
      return reply('ok', { words: [exchange(m, op, runs)] });
    default:
      return unreachable(op);
  }
}

/** Writes if the bytes are what was expected; answers what they were. */
function exchange(
  m: Machine,
  op: Extract<PagingOp<'concrete'>, { kind: 'paging.compareExchange' }>,
  runs: readonly Run[],
): Word {
  const old = readRuns(m, runs);
  const expected = lowBytes(op.expected, op.size);
  if (old.lo === expected.lo && old.hi === expected.hi) writeRuns(m, runs, op.value);
  return old;
}

/** Where the bytes of an access lie in the machine; undefined: a violation. */
function locate(m: Machine, agent: VcpuAgent, op: PagingOp<'concrete'>): readonly Run[] | undefined {
  const size = bytesPerFrame(m.geometry);
  const pcpu = m.f.vcpuOn.get(agent.domain * m.geometry.capacity.vcpusPerDomain + agent.vcpu) - 1;
  const query = { pcpu, root: m.f.domRoot.get(agent.domain), access: needs[op.kind], via: op.via };
  const runs: Run[] = [];
  let left = op.size;
  for (let at = op.offset; left > 0;) {
    const offset = at % size;
    const count = Math.min(left, size - offset);
    const how = translate(m, { ...query, gfn: op.gfn + Math.floor(at / size) });
    const { mfn, rights } = m.walker;
    m.port.choose(how === 'cached' ? { kind: 'cached', mfn: mfn as Mfn, rights } : { kind: 'walked' });
    if (how === undefined) return undefined;
    runs.push({ mfn, offset, count });
    at += count;
    left -= count;
  }
  return runs;
}
