// What a processor asks of memory: 1 to 8 bytes at a guest-physical address, perhaps across a frame border.
// Each piece is translated by a walk of the present tables or by a cached translation, whichever the hardware says it
// used; a cached one must be what the P2M says now or what this processor may still remember. Nothing is read or written
// before every piece is translated. An access without the right reads all ones, writes nothing and is a violation.
// Sources: Intel SDM vol. 3C, "EPT Violations", "Caching Translation Information"; AMD64 APM vol. 2, "Nested Paging"; Xen
// arch/x86/hvm/hvm.c (hvm_hap_nested_page_fault).

import type { Gfn, Mfn, Word } from '#abi/address.ts';
import type { VcpuAgent } from '#abi/agents.ts';
import type { PagingOp } from '#abi/paging.ts';
import { RIGHT } from '#abi/rights.ts';
import { hasAll } from '#lib/bits.ts';
import { match } from 'ts-pattern';
import { ask, refuse, type Cut } from '../cut.ts';
import { rightsOfEntry } from '../p2m.ts';
import { at, end, type Task, type Turn } from '../progress.ts';
import { entryOf, frameOf, placeOfVcpu, type State } from '../state.ts';
import { bytesOf, pieces, readBytes, wordOf, writeBytes, type Piece } from '../words.ts';

/** The rights that each access needs. */
const needs: Readonly<Record<PagingOp<'concrete'>['kind'], number>> = {
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

/** A cached translation as the hardware says it used it. */
interface Answer {
  readonly mfn: Mfn;
  readonly rights: number;
}

/** Whether the processor of `agent` may use `answer` for `gfn`: the P2M says so, or said so and was not invalidated there. */
function isUsable(state: State, agent: VcpuAgent, use: { gfn: Gfn; answer: Answer }): boolean {
  const { gfn, answer } = use;
  const entry = entryOf(state, agent.domain, gfn);
  if (entry?.mfn === answer.mfn && hasAll(rightsOfEntry(entry), answer.rights)) return true;
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

/** Where a piece lies in the machine, by the logged way; `run` is undefined if the tables refuse it. */
function translate(cut: Cut, agent: VcpuAgent, piece: Piece & { need: number }): { cut: Cut; run: Run | undefined } {
  const { cut: after, choice } = ask(cut, ['walked', 'cached']);
  const { offset, count, need } = piece;
  const gfn = piece.gfn as Gfn;
  if (choice.kind === 'cached') {
    if (!hasAll(choice.rights, need))
      return refuse(`gfn ${gfn} is used beyond the rights of the cached entry`, 'STALE');
    if (!isUsable(after.state, agent, { gfn, answer: choice }))
      return refuse(`gfn ${gfn} leads to frame ${choice.mfn} by a cached entry that nobody may use any more`, 'STALE');
    return { cut: after, run: { mfn: choice.mfn, offset, count } };
  }
  const entry = entryOf(after.state, agent.domain, gfn);
  const isAllowed = entry !== undefined && hasAll(rightsOfEntry(entry), need);
  return { cut: after, run: isAllowed ? { mfn: entry.mfn, offset, count } : undefined };
}

/** All pieces of an access; `runs` is undefined if one is refused. The pieces after it are not looked at. */
function locate(cut: Cut, agent: VcpuAgent, op: PagingOp<'concrete'>): { cut: Cut; runs: readonly Run[] | undefined } {
  let now = cut;
  const runs: Run[] = [];
  for (const piece of pieces(cut.state, op, op.size)) {
    const { cut: after, run } = translate(now, agent, { ...piece, need: needs[op.kind] });
    now = after;
    if (run === undefined) return { cut: now, runs: undefined };
    runs.push(run);
  }
  return { cut: now, runs };
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

/** An access: one micro-step. Only processors have accesses. */
export function pagingStep(cut: Cut, task: Task<PagingOp<'concrete'>>): Turn {
  const { agent, op } = task;
  if (agent.kind !== 'vcpu') return end(cut, 'EPERM');
  const { cut: after, runs } = locate(cut, agent, op);
  if (runs === undefined) {
    const words = op.kind === 'paging.read' ? [wordOf(bytesOf(ALL_ONES, op.size))] : [];
    return end(after, 'violation', { words });
  }
  return match(op)
    .with({ kind: 'paging.read' }, { kind: 'paging.fetch' }, () =>
      end(after, 'ok', { words: [load(after.state, runs)] }),
    )
    .with({ kind: 'paging.write' }, ({ value, size }) =>
      end(at(after, store(after.state, runs, { value, size, agent })), 'ok'),
    )
    .with({ kind: 'paging.compareExchange' }, (access) => exchange(after, agent, { op: access, runs }))
    .exhaustive();
}
