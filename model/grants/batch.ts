// What all grant batches share: the checks before the first element, the border between two, and the status of each
// element, which is written to the caller's results and repeated in the reply.
// Elements come by value; only the results are in guest memory. Source: Xen common/grant_table.c (do_grant_table_op).

import { ZERO_WORD, type Word } from '#abi/address.ts';
import { grantStatus, type GrantStatus } from '#abi/grants.ts';
import type { Buffer } from '#abi/operand.ts';
import type { ElementReply } from '#abi/reply.ts';
import { low32 } from '#lib/bits.ts';
import { failure, type Cut } from '../cut.ts';
import { end, go, type Task, type Turn } from '../progress.ts';
import { storeWord } from '../buffers.ts';

/** A batch of elements of any kind. */
export interface Batch {
  readonly elements: readonly unknown[];
  readonly results: Buffer<'concrete'>;
  readonly start: number;
}

/** Refuses what is too long, and ends at once what has nothing left to do. */
export function beginBatch(cut: Cut, task: Task<Batch>): Turn {
  const { elements, start } = task.op;
  if (elements.length > cut.state.geometry.capacity.batch) return end(cut, 'E2BIG');
  if (!cut.state.domains.has(task.caller)) return end(cut, 'ESRCH');
  return start >= elements.length ? end(cut, 'ok', { done: start }) : go(cut, task, { at: 'next', index: start });
}

/** The outcome of the element in hand goes to the results next. */
export const conclude = (cut: Cut, task: Task<Batch>, outcome: ElementReply): Turn =>
  go(cut, task, { at: 'copyBack', elements: [...task.work.elements, outcome] });

/** A status as the guest reads it: a signed 64-bit number. */
export function statusWord(status: GrantStatus): Word {
  const code = grantStatus[status];
  return code === 0 ? ZERO_WORD : { lo: low32(code), hi: 0xffff_ffff };
}

/** Writes the last outcome to the results; `ok` is false if that faulted. */
export function copyBack(cut: Cut, task: Task<Batch>): { readonly cut: Cut; readonly ok: boolean } {
  const { op, work } = task;
  if (op.results.in === 'null') return { cut, ok: true };
  const failed = failure(cut, { class: 'copyBack', done: work.index, nth: work.index - op.start + 1 });
  if (failed !== undefined) return { cut: failed, ok: false };
  const status = work.elements.at(-1)?.status as GrantStatus;
  return storeWord(cut, task, { buffer: op.results, index: work.index, word: statusWord(status) });
}

/** What the caller hears of when the last result could not be written: not of that element, though its effects stay. */
export const delivered = (task: Task<Batch>): readonly ElementReply[] => task.work.elements.slice(0, -1);

/** The end of a batch, with all elements so far. */
export const endBatch = (cut: Cut, task: Task<Batch>, status: 'ok' | 'preempted'): Turn =>
  end(cut, status, { done: task.work.index, elements: task.work.elements });
