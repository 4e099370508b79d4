// Accesses by processors. An access is cut at frame borders; every piece is translated before anything is read or written,
// and how each was translated is logged. A refused piece is a violation or a page fault, and nothing after it is looked at.
// Sources: Intel SDM vol. 3C, "EPT Violations"; AMD64 APM vol. 2, "Nested Paging"; Xen arch/x86/hvm/hvm.c
// (hvm_hap_nested_page_fault): what no device claims reads as ones.

import type { Word } from '#abi/address.ts';
import type { VcpuAgent } from '#abi/agents.ts';
import { bytesPerFrame } from '#abi/geometry.ts';
import type { AccessOp, PagingOp } from '#abi/paging.ts';
import { reply, type Reply } from '#abi/reply.ts';
import { RIGHT } from '#abi/rights.ts';
import { low32, pow2 } from '#lib/bits.ts';
import { unreachable } from '#lib/invariant.ts';
import type { Call } from '../execution.ts';
import type { Machine } from '../machine.ts';
import { demand, isOnDemand } from '../memory/pod-demand.ts';
import type { Step } from '../port.ts';
import type { Running } from '../tlb/linear-cache.ts';
import { lookUp, lowBytes, readRuns, writeRuns, type Run } from './hardware.ts';
import { translateLinear, type LinearOutcome, type Wanted } from './linear-walker.ts';
import { hasControl, setControl, setRoot } from './registers.ts';

const ALL_ONES: Word = { lo: 0xffff_ffff, hi: 0xffff_ffff };

/** The rights that each access needs. */
const needs: Readonly<Record<AccessOp<'concrete'>['kind'], number>> = {
  'paging.read': RIGHT.read,
  'paging.write': RIGHT.write,
  'paging.compareExchange': RIGHT.read + RIGHT.write,
  'paging.fetch': RIGHT.execute,
};

/** What each access is by the guest's own tables. */
const wants: Readonly<Record<AccessOp<'concrete'>['kind'], Wanted>> = {
  'paging.read': 'read',
  'paging.write': 'write',
  'paging.compareExchange': 'write',
  'paging.fetch': 'fetch',
};

/** What a vCPU does, which runs on some pCPU. */
export function* pagingStep(m: Machine, call: Call, op: PagingOp<'concrete'>): Step<Reply> {
  const { agent } = call;
  if (agent.kind !== 'vcpu') return reply('EPERM');
  const key = agent.domain * m.geometry.capacity.vcpusPerDomain + agent.vcpu;
  if (op.kind === 'paging.setControl') return setControl(m, key, op);
  if (op.kind === 'paging.setRoot') return setRoot(m, runningOf(m, agent), op);
  for (;;) {
    const { answer, refused } = access(m, runningOf(m, agent), op);
    if (refused === undefined || !isOnDemand(m, agent.domain, refused)) return answer;
    const isServed = yield* demand(m, agent.domain, refused);
    // Stopped, or put off its processor while it was served: the instruction has not been performed.
    if (m.f.vcpuOn.get(key) === 0) return reply('gone');
    if (!isServed) return answer;
    m.flushing.resumed(m, m.f.vcpuOn.get(key) - 1, agent.domain);
    m.port.choose({ kind: 'anew' });
  }
}

/** Where a vCPU that runs does so. */
export function runningOf(m: Machine, { domain, vcpu }: VcpuAgent): Running {
  const key = domain * m.geometry.capacity.vcpusPerDomain + vcpu;
  return { pcpu: m.f.vcpuOn.get(key) - 1, key, root: m.f.domRoot.get(domain) };
}

/** What came of an access; `refused`: the gfn that the nested tables have refused. */
interface Attempt {
  readonly answer: Reply;
  readonly refused: number | undefined;
}

function access(m: Machine, of: Running, op: AccessOp<'concrete'>): Attempt {
  const runs = hasControl(m, of.key, 'paging') ? locateLinear(m, of, op) : locate(m, of, op);
  if ('answer' in runs) return runs;
  return { answer: perform(m, op, runs), refused: undefined };
}

/** Reads or writes what an access names. */
function perform(m: Machine, op: AccessOp<'concrete'>, runs: readonly Run[]): Reply {
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

/** What is read where the nested tables refuse it. */
function violation(op: AccessOp<'concrete'>, refused: number, out: readonly number[] = []): Attempt {
  const words = op.kind === 'paging.read' ? [lowBytes(ALL_ONES, op.size)] : [];
  return { answer: reply('violation', { out, words }), refused };
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

/** Where the bytes of an access without paging lie in the machine, or why they do not. */
function locate(m: Machine, of: Running, op: AccessOp<'concrete'>): readonly Run[] | Attempt {
  const size = bytesPerFrame(m.geometry);
  const query = { ...of, access: needs[op.kind], via: op.via };
  const runs: Run[] = [];
  let left = op.size;
  for (let at = op.offset; left > 0;) {
    const offset = at % size;
    const count = Math.min(left, size - offset);
    const gfn = op.gfn + Math.floor(at / size);
    if (!lookUp(m, { ...query, gfn })) return violation(op, gfn);
    runs.push({ mfn: m.walker.mfn, offset, count });
    at += count;
    left -= count;
  }
  return runs;
}

/** Linear frames of 64-bit addresses. */
export const PAGES = pow2(52);

/** The bits of a linear frame that tables translate. */
export const inTables = (m: Machine, page: number): number => page % pow2(m.geometry.levels * m.geometry.bitsPerLevel);

/** Whether the bits of a linear frame from the highest that is translated on are all the same. */
export function isCanonical(m: Machine, page: number): boolean {
  const half = pow2(m.geometry.levels * m.geometry.bitsPerLevel - 1);
  return page < half || page >= PAGES - half;
}

/** Where the bytes of an access with paging lie, or why they do not. */
function locateLinear(m: Machine, of: Running, op: AccessOp<'concrete'>): readonly Run[] | Attempt {
  const size = bytesPerFrame(m.geometry);
  const pieces: { page: number; offset: number; count: number }[] = [];
  for (let at = op.offset, left = op.size; left > 0;) {
    const count = Math.min(left, size - (at % size));
    pieces.push({ page: (op.gfn + Math.floor(at / size)) % PAGES, offset: at % size, count });
    at += count;
    left -= count;
  }
  if (!pieces.every(({ page }) => isCanonical(m, page)))
    return { answer: reply('generalProtection'), refused: undefined };
  const query = { ...of, wanted: wants[op.kind], by: op.as, access: needs[op.kind], via: op.via };
  const runs: Run[] = [];
  for (const { page, offset, count } of pieces) {
    const outcome = translateLinear(m, { ...query, page: inTables(m, page) });
    if (outcome.kind !== 'found') return refusal(op, outcome, { page, offset });
    runs.push({ mfn: outcome.mfn, offset, count });
  }
  return runs;
}

/** What the vCPU hears of a piece that was not translated. */
function refusal(
  op: AccessOp<'concrete'>,
  outcome: Exclude<LinearOutcome, { kind: 'found' }>,
  { page, offset }: { readonly page: number; readonly offset: number },
): Attempt {
  if (outcome.kind === 'violation') return violation(op, outcome.gfn, [outcome.gfn, outcome.isTable ? 1 : 0]);
  const address = { lo: low32((page % pow2(20)) * pow2(12) + offset), hi: Math.floor(page / pow2(20)) };
  return { answer: reply('pageFault', { out: [outcome.code], words: [address] }), refused: undefined };
}
