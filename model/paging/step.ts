// What a processor asks of memory: 1 to 8 bytes at a guest-physical or, with paging on, a linear address, perhaps across a frame
// border. Each piece is translated (nested.ts, linear.ts) before anything is read or written. An access that the nested tables
// refuse reads all ones, writes nothing and is a violation; one that the guest's tables refuse is a page fault.
// Sources: Intel SDM vol. 3C, "EPT Violations", "Caching Translation Information"; AMD64 APM vol. 2, "Nested Paging"; Xen
// arch/x86/hvm/hvm.c (hvm_hap_nested_page_fault).

import type { Gfn, Mfn, Word } from '#abi/address.ts';
import { NOWHERE, type VcpuAgent } from '#abi/agents.ts';
import type { AccessOp, PagingOp } from '#abi/paging.ts';
import type { Reply } from '#abi/reply.ts';
import { RIGHT } from '#abi/rights.ts';
import { hasAll, without } from '#lib/bits.ts';
import { match } from 'ts-pattern';
import { ask, failure, type Cut, type Wished } from '../cut.ts';
import { crash } from '../frames.ts';
import { wish } from '../memory/pod-demand.ts';
import { setP2m, settle } from '../p2m.ts';
import { at, end, go, noting, type Task, type Turn } from '../progress.ts';
import { beginHelp, help, type Faulted } from '../pv/help.ts';
import { enterMode } from '../pv/roots.ts';
import { refusePrivileged, setPvRoot } from '../pv/privileged.ts';
import { entryOf, isParavirtual, placeOfVcpu, type State } from '../state.ts';
import { bytesOf, pieces, readBytes, wordOf, writeBytes } from '../words.ts';
import { attemptOf, isCanonicalPage, linearAddress, linearContext, PAGES } from './context.ts';
import { ERROR_USER, type Attempt } from './rights.ts';
import { TABLE_NEED, translateLinear } from './linear.ts';
import { heed, isKeptFrom, meetMalformed } from './heed.ts';
import { locate } from './nested.ts';
import { setControl, setRoot } from './registers.ts';

/** The rights that each access needs. */
const needs: Readonly<Record<AccessOp<'concrete'>['kind'], number>> = {
  'paging.read': RIGHT.read,
  'paging.write': RIGHT.write,
  'paging.compareExchange': RIGHT.read + RIGHT.write,
  'paging.fetch': RIGHT.execute,
};

/** Bytes of a machine frame. */
interface Run {
  readonly mfn: Mfn;
  readonly offset: number;
  readonly count: number;
}

/** Why an access comes to nothing: with paging on, the reply says it all. */
type Refusal = Pick<Reply, 'status'> & Partial<Reply>;

/** A gfn that the nested tables refuse, whether it is one of the guest's tables, and what was to be done: a table is always written too. */
interface Refused extends Pick<Wished, 'gfn' | 'isTable'> {
  readonly need: number;
}

/** The bytes of an access, or what the caller hears instead. */
interface Located {
  readonly cut: Cut;
  readonly runs: readonly Run[];
  readonly refusal: Refusal | undefined;
  readonly refused?: Refused | undefined;
  readonly faulted?: Faulted;
}

const VIOLATION: Refusal = { status: 'violation' };

/** All pieces of an access without paging. The pieces after a refused one are not looked at. */
function locatePhysical(cut: Cut, agent: VcpuAgent, op: AccessOp<'concrete'>): Located {
  let now = cut;
  const runs: Run[] = [];
  for (const { gfn, offset, count } of pieces(cut.state, op, op.size)) {
    const { cut: after, answer } = locate(now, agent, { gfn: gfn as Gfn, need: needs[op.kind] });
    now = after;
    if (answer === undefined)
      return {
        cut: now,
        runs,
        refusal: VIOLATION,
        refused: { gfn: gfn as Gfn, isTable: false, need: needs[op.kind] },
      };
    runs.push({ mfn: answer.mfn, offset, count });
  }
  return { cut: now, runs, refusal: undefined };
}

const violationOf = ({ gfn, isTable }: Pick<Wished, 'gfn' | 'isTable'>): Refusal => ({
  status: 'violation',
  out: [gfn, isTable ? 1 : 0],
});

/**
 * How an access looks to the processor, and what of the error code tells who made it: a paravirtual guest's kernel runs in the ring of
 * its user, and hears what it would hear in its own.
 */
function asSeen({ state }: Cut, { domain }: VcpuAgent, op: AccessOp<'concrete'>): { attempt: Attempt; hidden: number } {
  const attempt = attemptOf(op);
  if (!isParavirtual(state, domain)) return { attempt, hidden: 0 };
  return { attempt: { ...attempt, privilege: 'user' }, hidden: op.as === 'user' ? 0 : ERROR_USER };
}

/** All pieces of an access with paging. Addresses wrap at the end of the 64 bits; none may lie in the hole before. */
function locateLinear(cut: Cut, agent: VcpuAgent, op: AccessOp<'concrete'>): Located {
  const { geometry } = cut.state;
  const runs: Run[] = [];
  const parts = pieces(cut.state, op, op.size).map((part) => ({ ...part, gfn: part.gfn % PAGES }));
  if (!parts.every(({ gfn }) => isCanonicalPage(geometry, gfn)))
    return { cut, runs, refusal: { status: 'generalProtection' } };
  const { attempt, hidden } = asSeen(cut, agent, op);
  let now = cut;
  for (const { gfn: page, offset, count } of parts) {
    const aim = { page, attempt, need: needs[op.kind] };
    const { cut: after, linear } = translateLinear(now, agent, aim);
    now = after;
    if (linear.kind === 'violation') {
      const refused = { ...linear, need: linear.isTable ? TABLE_NEED : needs[op.kind] };
      return { cut: now, runs, refusal: violationOf(linear), refused };
    }
    if (linear.kind !== 'found') {
      const fault = { code: without(linear.code, hidden), address: linearAddress({ gfn: page, offset }) };
      const refusal = { status: 'pageFault', out: [fault.code], words: [fault.address] } as const;
      return { cut: now, runs, refusal, faulted: { ...fault, piece: { gfn: page, offset, count } } };
    }
    runs.push({ mfn: linear.mfn, offset, count });
  }
  return { cut: now, runs, refusal: undefined };
}

const load = (state: State, runs: readonly Run[]): Word =>
  wordOf(runs.flatMap((run) => readBytes(state, run, run.count)));

function store(state: State, runs: readonly Run[], from: { value: Word; size: number; agent: VcpuAgent }): State {
  const bytes = bytesOf(from.value, from.size);
  let now = state;
  let done = 0;
  for (const run of runs) {
    now = writeBytes(now, { ...run, author: from.agent.domain }, bytes.slice(done, done + run.count));
    done += run.count;
  }
  return now;
}

/** Writes if the bytes are what was expected; answers what they were. */
function exchange(
  cut: Cut,
  agent: VcpuAgent,
  on: { op: Extract<PagingOp<'concrete'>, { kind: 'paging.compareExchange' }>; runs: readonly Run[] },
): Turn {
  const { op, runs } = on;
  const old = load(cut.state, runs);
  const expected = wordOf(bytesOf(op.expected, op.size));
  const isEqual = old.lo === expected.lo && old.hi === expected.hi;
  const state = isEqual ? store(cut.state, runs, { value: op.value, size: op.size, agent }) : cut.state;
  return end(at(cut, state), 'ok', { words: [old] });
}

const ALL_ONES: Word = { lo: 0xffff_ffff, hi: 0xffff_ffff };

/** Ends with what the caller hears instead. */
function refuseAccess(cut: Cut, op: AccessOp<'concrete'>, { status, ...parts }: Refusal): Turn {
  const reads = op.kind === 'paging.read' && status === 'violation';
  return end(cut, status, reads ? { ...parts, words: [wordOf(bytesOf(ALL_ONES, op.size))] } : parts);
}

/** Whether the vCPU has been stopped, or put off its processor: then the instruction has not been performed. */
const isGone = ({ state }: Cut, { domain, vcpu }: VcpuAgent): boolean => placeOfVcpu(state, domain, vcpu) === NOWHERE;

/** What was on demand has been populated, and the access is made again; or it could not be. */
function afterDemand(cut: Cut, task: Task<AccessOp<'concrete'>>, agent: VcpuAgent): Turn {
  const { op, work } = task;
  const [denied] = work.trail.refused;
  if (denied === undefined) return go(ask(cut, ['retried']).cut, task, { part: work.part + 1 });
  if (isGone(cut, agent)) return end(cut, 'ERESTART');
  return refuseAccess(cut, op, linearContext(cut.state, agent) === undefined ? VIOLATION : violationOf(denied));
}

/**
 * An access that nothing interrupts is one micro-step. Memory on demand that it meets is populated, and a write to RAM whose
 * writes are logged is noted first; then it is made again.
 */
function perform(cut: Cut, task: Task<AccessOp<'concrete'>>, agent: VcpuAgent): Turn {
  const { op, work } = task;
  if (work.trail.isServed) return afterDemand(cut, task, agent);
  if (isGone(cut, agent) || work.part === RETRIES_MAX) return end(cut, 'ERESTART');
  const entered = enterMode(cut.state, agent, op.as === 'user');
  if (entered === undefined) return end(at(cut, crash(cut.state, agent.domain)), 'gone');
  const find = linearContext(cut.state, agent) === undefined ? locatePhysical : locateLinear;
  const { cut: after, runs, refusal, refused, faulted } = find(at(cut, entered), agent, op);
  const answered = refused && answerRefused(after, task, agent, refused);
  if (answered !== undefined) return answered;
  const helped = faulted && beginHelp(after, task, agent, faulted);
  if (helped !== undefined) return helped;
  if (refusal !== undefined) return refuseAccess(after, op, refusal);
  return match(op)
    .with({ kind: 'paging.read' }, { kind: 'paging.fetch' }, () =>
      end(after, 'ok', { words: [load(after.state, runs)] }),
    )
    .with({ kind: 'paging.write' }, ({ value, size }) =>
      end(at(after, store(after.state, runs, { value, size, agent })), 'ok'),
    )
    .with({ kind: 'paging.compareExchange' }, (one) => exchange(after, agent, { op: one, runs }))
    .exhaustive();
}

/** So often an access is made anew before its processor is left to itself. */
const RETRIES_MAX = 16;

/** What the hypervisor does for an access that the nested tables refuse; undefined: nothing. */
function answerRefused(
  cut: Cut,
  task: Task<AccessOp<'concrete'>>,
  agent: VcpuAgent,
  refused: Refused,
): Turn | undefined {
  const { gfn, need } = refused;
  const { domain } = agent;
  const met = meetMalformed(cut, task, { domain, gfn });
  if (met !== undefined) return met;
  wish(cut, task.work, { ...refused, domain });
  if (isKeptFrom(cut.state, domain, refused)) return go(cut, task, { at: 'heed', gfn, handle: need });
  return isLogged(cut.state, agent, refused) ? go(cut, task, { at: 'mark', gfn }) : undefined;
}

/** Whether a refused write is one to RAM whose writes are logged. */
const isLogged = (state: State, { domain }: VcpuAgent, { gfn, need }: Refused): boolean =>
  hasAll(need, RIGHT.write) && entryOf(state, domain, gfn)?.type === 'ramLogDirty';

/**
 * The hypervisor's answer to such a write: it is noted, then the gfn becomes writable, which may take a table (a superpage is
 * split). Whatever the gfn has become meanwhile, the access is made again; without a table it never succeeds.
 */
function logWrite(cut: Cut, task: Task<AccessOp<'concrete'>>, agent: VcpuAgent): Turn {
  const { work } = task;
  const { gfn } = work;
  const { domain } = agent;
  const entry = entryOf(cut.state, domain, gfn);
  if (work.at === 'complete') {
    const { cut: after } = ask(at(cut, settle(cut.state, task.debts)), ['retried']);
    return go(after, task, { at: 'next', part: work.part + 1 });
  }
  if (work.at === 'mark') {
    const isRam = entry?.type === 'ramRw' || entry?.type === 'ramLogDirty';
    return go(isRam ? noting(cut, { domain, gfn }) : cut, task, { at: 'install' });
  }
  const isChanging = entry?.type === 'ramLogDirty';
  const failed = isChanging ? failure(cut, { class: 'pool', domain }) : undefined;
  if (failed !== undefined) return end(failed, 'ERESTART');
  const changed = isChanging ? setP2m(cut.state, { domain, gfn }, { mfn: entry.mfn, type: 'ramRw' }) : cut.state;
  return go(at(cut, changed), task, { at: 'complete' });
}

/** What a processor does for its guest. Only processors have accesses and registers. */
export function pagingStep(cut: Cut, { agent, caller, op, work, debts }: Task<PagingOp<'concrete'>>): Turn {
  if (agent.kind !== 'vcpu') return end(cut, 'EPERM');
  const isGuestsOwn = !isParavirtual(cut.state, agent.domain);
  if (op.kind === 'paging.setControl') return isGuestsOwn ? setControl(cut, agent, op) : refusePrivileged(cut);
  if (op.kind === 'paging.setRoot')
    return isGuestsOwn ? setRoot(cut, agent, op) : setPvRoot(cut, { agent, caller, op, work, debts }, agent);
  const access = { agent, caller, op, work, debts };
  if (work.at === 'help') return help(cut, access);
  if (work.at === 'heed') return heed(cut, access, agent.domain);
  return work.at === 'mark' || work.at === 'install' || work.at === 'complete'
    ? logWrite(cut, access, agent)
    : perform(cut, access, agent);
}
