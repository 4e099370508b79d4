// A guest's kernel has written where its tables let it read alone, and may be helped: the hypervisor looks whether a lowest table lies
// there (writes.ts). If not, or if what was written may not stand there, the guest hears of its page fault.
// A first reader may skip nothing. Source: Xen arch/x86/traps.c (fixup_page_fault), arch/x86/pv/ro-page-fault.c (pv_ro_page_fault).

import { ZERO_WORD, type Gfn, type Mfn } from '#abi/address.ts';
import type { VcpuAgent } from '#abi/agents.ts';
import type { AccessOp } from '#abi/paging.ts';
import { hasAll } from '#lib/bits.ts';
import type { Cut } from '../cut.ts';
import { contextOf } from '../paging/context.ts';
import { ERROR_PRESENT, ERROR_RESERVED, ERROR_WRITE } from '../paging/rights.ts';
import { end, go, type Task, type Turn } from '../progress.ts';
import { bytesOf, wordOf, type Piece } from '../words.ts';
import { runOne } from './run.ts';
import { isGuests } from './update.ts';
import { changedPv, pvWork, type PageFault, type TableWrite } from './work.ts';

/** A page fault, and the bytes of the access whose page it was. */
export interface Faulted extends PageFault {
  readonly piece: Piece;
}

/**
 * The begin of help, once an access has faulted. Undefined: nobody helps with what is no write, or a user's, or where nothing is
 * present or a reserved bit is set, or in the hypervisor's own slots, or in a guest that has not asked for it.
 */
export function beginHelp(cut: Cut, task: Task<AccessOp<'concrete'>>, agent: VcpuAgent, at: Faulted): Turn | undefined {
  const { op } = task;
  const { state } = cut;
  const { domain } = agent;
  const { code, address, piece } = at;
  const page = piece.gfn as Gfn;
  const isFit = hasAll(code, ERROR_PRESENT + ERROR_WRITE) && !hasAll(code, ERROR_RESERVED) && isGuests(state, page);
  if (!isFit || op.as === 'user' || state.domains.get(domain)?.writesTables !== true) return undefined;
  const value = 'value' in op ? op.value : ZERO_WORD;
  const expected = 'expected' in op ? op.expected : undefined;
  const write: TableWrite = { domain, page, offset: piece.offset, count: piece.count, size: op.size, value, expected };
  const root = contextOf(state, agent).root as number as Mfn;
  const todo = [{ do: 'seek', mfn: root, level: state.geometry.levels, write }] as const;
  return go(cut, task, { at: 'help', pv: pvWork(todo, { fault: { code, address } }) });
}

/** One micro-step of it. */
export function help(cut: Cut, task: Task<AccessOp<'concrete'>>): Turn {
  const { op, work } = task;
  const { fault } = work.pv;
  const ran = runOne(cut, work.pv.todo);
  const pv = changedPv(work.pv, { todo: ran.todo, seen: ran.seen });
  if (ran.todo.length > 0) return go(ran.cut, task, { pv });
  if (ran.failed !== undefined && fault !== undefined)
    return end(ran.cut, 'pageFault', { out: [fault.code], words: [fault.address] });
  if (op.kind !== 'paging.compareExchange') return end(ran.cut, 'ok');
  return end(ran.cut, 'ok', { words: [pv.seen ?? wordOf(bytesOf(op.expected, op.size))] });
}
