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
import { hasAll, hasAny } from '#lib/bits.ts';
import { unreachable } from '#lib/invariant.ts';
import type { Call } from '../execution.ts';
import type { Machine } from '../machine.ts';
import { crash } from '../memory/life.ts';
import { demand, isOnDemand } from '../memory/pod-demand.ts';
import { isParavirtual } from '../memory/target.ts';
import type { Step } from '../port.ts';
import { emulateWrite, type Faulted } from '../pv/emulated-write.ts';
import { enterMode } from '../pv/mode.ts';
import { emulateSetRoot } from '../pv/roots.ts';
import type { Running } from '../tlb/linear-cache.ts';
import { domainOn } from '../tlb/rules.ts';
import { lookUp, lowBytes, readRuns, writeRuns, type Run } from './hardware.ts';
import { heed, isKeptFrom, type Use } from './heed.ts';
import { TABLE_ACCESS, translateLinear, type LinearOutcome, type Wanted } from './linear-walker.ts';
import { isLogged, logWrite } from './log-write.ts';
import { addressOf, inTables, isCanonical, PAGES } from './pages.ts';
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
  const isNative = isParavirtual(m, agent.domain);
  if (op.kind === 'paging.setControl') return isNative ? reply('generalProtection') : setControl(m, key, op);
  // Bit 63 is no part of a frame number that there is.
  if (op.kind === 'paging.setRoot' && isNative)
    return op.flush === 'keeping' ? reply('generalProtection') : yield* emulateSetRoot(m, key, op.gfn);
  return op.kind === 'paging.setRoot' ? setRoot(m, runningOf(m, agent), op) : yield* access(m, agent, op);
}

/** Where a vCPU that runs does so. */
export function runningOf(m: Machine, { domain, vcpu }: VcpuAgent): Running {
  const key = domain * m.geometry.capacity.vcpusPerDomain + vcpu;
  return { pcpu: m.f.vcpuOn.get(key) - 1, key, root: m.f.domRoot.get(domain) };
}

/** So often an access is made anew before its processor is left to itself. */
const RETRIES_MAX = 16;

/** What the nested tables refuse: a gfn, what was needed of it, whether its entry is malformed, and what the vCPU hears unless there is help. */
interface Refused extends Use {
  readonly isMalformed: boolean;
  readonly reply: Reply;
}

/** What the guest's own tables refuse: where, and what the vCPU hears unless the hypervisor can help. */
interface PageFault extends Faulted {
  readonly reply: Reply;
}

/** An access, made again after each gfn that was populated for it, and each write that it had to have logged. */
function* access(m: Machine, agent: VcpuAgent, op: AccessOp<'concrete'>): Step<Reply> {
  for (let retries = 0; retries < RETRIES_MAX; retries += 1) {
    const of = runningOf(m, agent);
    if (of.pcpu < 0) return reply('ERESTART');
    if (isParavirtual(m, agent.domain) && !enterMode(m, of, op.as === 'user')) {
      crash(m, agent.domain);
      return reply('gone');
    }
    const answer = perform(m, of, op);
    if ('page' in answer) return (yield* emulate(m, agent, op, answer)) ?? answer.reply;
    if (!('gfn' in answer)) return answer;
    if (answer.isMalformed) return meetMalformed(m, agent, op);
    const ended = yield* resolve(m, agent, answer);
    const on = m.f.vcpuOn.get(of.key);
    if (ended !== undefined) return on === 0 ? reply('ERESTART') : ended;
    if (on !== 0) m.flushing.resumed(m, on - 1, agent.domain);
  }
  return reply('ERESTART');
}

/** Bits of the error code of a page fault. */
const FAULT = { present: 1, write: 2, reserved: 8 } as const;

/** A write by the kernel of a guest that writes its tables may be made for it, unless it was refused for a bit that must be 0. */
function* emulate(m: Machine, agent: VcpuAgent, op: AccessOp<'concrete'>, fault: PageFault): Step<Reply | undefined> {
  if (op.kind !== 'paging.write' && op.kind !== 'paging.compareExchange') return undefined;
  const isHelped = op.as !== 'user' && m.f.domWritesTables.get(agent.domain) === 1;
  const [code = 0] = fault.reply.out;
  if (!isHelped || !hasAll(code, FAULT.present + FAULT.write) || hasAny(code, FAULT.reserved)) return undefined;
  return yield* emulateWrite(m, agent, op, fault);
}

/** Does for a refused attempt what there is to do; undefined: another is worth making. */
function* resolve(m: Machine, { domain }: VcpuAgent, refused: Refused): Step<Reply | undefined> {
  const { gfn, need, reply: refusal } = refused;
  if (isOnDemand(m, domain, gfn)) {
    if (!(yield* demand(m, domain, gfn))) return refusal;
    m.port.choose({ kind: 'retried' });
    return undefined;
  }
  if (isKeptFrom(m, domain, refused))
    return (yield* heed(m, domain, refused)) === 'waits' ? reply('ERESTART') : undefined;
  if (!hasAll(need, RIGHT.write) || !isLogged(m, domain, gfn)) return refusal;
  return (yield* logWrite(m, domain, gfn)) ? undefined : reply('ERESTART');
}

/** One attempt. */
function perform(m: Machine, of: Running, op: AccessOp<'concrete'>): Reply | Refused | PageFault {
  const runs = hasControl(m, of.key, 'paging') ? locateLinear(m, of, op) : locate(m, of, op);
  if ('status' in runs || 'gfn' in runs || 'page' in runs) return runs;
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

/** The processor cannot go on with an entry that it does not understand: a kernel is stopped for it, a user hears of it. */
function meetMalformed(m: Machine, { domain }: VcpuAgent, op: AccessOp<'concrete'>): Reply {
  if (op.as === 'user') return reply('invalidOpcode');
  crash(m, domain);
  return reply('ERESTART');
}

/** Whether the walk that has just been refused ended at an entry that is malformed. */
const isMalformed = (m: Machine, { root }: Running): boolean => root !== 0 && m.walker.outcome === 'misconfiguration';

/** What is read where the nested tables refuse it. */
const violation = (op: AccessOp<'concrete'>, out: readonly number[] = []): Reply =>
  reply('violation', { out, words: op.kind === 'paging.read' ? [lowBytes(ALL_ONES, op.size)] : [] });

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

/** Where the bytes of an access without paging lie in the machine, or that they do not. */
function locate(m: Machine, of: Running, op: AccessOp<'concrete'>): readonly Run[] | Refused {
  const size = bytesPerFrame(m.geometry);
  const { pcpu, root } = of;
  const access = needs[op.kind];
  const runs: Run[] = [];
  let left = op.size;
  for (let at = op.offset; left > 0;) {
    const offset = at % size;
    const count = Math.min(left, size - offset);
    const gfn = op.gfn + Math.floor(at / size);
    if (!lookUp(m, { pcpu, root, gfn, access, via: op.via }))
      return { gfn, need: needs[op.kind], isMalformed: isMalformed(m, of), reply: violation(op) };
    runs.push({ mfn: m.walker.mfn, offset, count });
    at += count;
    left -= count;
  }
  return runs;
}

/** Where the bytes of an access with paging lie, or why they do not. */
function locateLinear(m: Machine, of: Running, op: AccessOp<'concrete'>): readonly Run[] | Reply | Refused | PageFault {
  const size = bytesPerFrame(m.geometry);
  const pieces: { page: number; offset: number; count: number }[] = [];
  for (let at = op.offset, left = op.size; left > 0;) {
    const count = Math.min(left, size - (at % size));
    pieces.push({ page: (op.gfn + Math.floor(at / size)) % PAGES, offset: at % size, count });
    at += count;
    left -= count;
  }
  if (!pieces.every(({ page }) => isCanonical(m, page))) return reply('generalProtection');
  // The kernel of a paravirtual guest is no supervisor: it runs where its user runs.
  const by = isParavirtual(m, domainOn(m, of.pcpu)) ? 'user' : op.as;
  const { pcpu, key, root } = of;
  const { via, as: told } = op;
  const wanted = wants[op.kind];
  const access = needs[op.kind];
  const runs: Run[] = [];
  for (const at of pieces) {
    const { page, offset, count } = at;
    const outcome = translateLinear(m, { pcpu, key, root, page: inTables(m, page), wanted, by, told, access, via });
    if (outcome.kind !== 'found') return refusal(op, outcome, { ...at, isMalformed: isMalformed(m, of) });
    runs.push({ mfn: outcome.mfn, offset, count });
  }
  return runs;
}

/** What the vCPU hears of a piece that was not translated. */
function refusal(
  op: AccessOp<'concrete'>,
  outcome: Exclude<LinearOutcome, { kind: 'found' }>,
  { isMalformed: isBad, ...at }: Faulted & { readonly isMalformed: boolean },
): Refused | PageFault {
  if (outcome.kind === 'violation') {
    const { gfn, isTable } = outcome;
    const need = isTable ? TABLE_ACCESS : needs[op.kind];
    return { gfn, need, isMalformed: isBad, reply: violation(op, [gfn, isTable ? 1 : 0]) };
  }
  const { page, offset } = at;
  return { ...at, reply: reply('pageFault', { out: [outcome.code], words: [addressOf(page, offset)] }) };
}
