// What all grant batches share: the checks before the first element, and the status of each element, which is written to
// the caller's results as well as repeated in the reply.
// Elements come by value; only the results are in guest memory. Source: Xen common/grant_table.c (do_grant_table_op).

import type { DomId } from '#abi/address.ts';
import { grantStatus } from '#abi/grants.ts';
import type { Buffer } from '#abi/operand.ts';
import { reply, type Reply, type Status } from '#abi/reply.ts';
import { low32 } from '#lib/bits.ts';
import type { Machine } from '../machine.ts';
import { storeWord } from '../memory/guest.ts';
import { exists } from '../memory/target.ts';
import type { Step } from '../port.ts';

/** A batch of elements of any kind. */
export interface Batch {
  readonly elements: readonly unknown[];
  readonly results: Buffer<'concrete'>;
  readonly start: number;
}

/** The answer to a batch of which nothing is done: too long, nobody's, or at its end already. */
export function answerAtOnce(m: Machine, caller: number, { elements, start }: Batch): Reply | undefined {
  if (elements.length > m.geometry.capacity.batch) return reply('E2BIG');
  if (!exists(m, caller)) return reply('ESRCH');
  return start >= elements.length ? reply('ok', { done: start }) : undefined;
}

/** The code of a status; those of elements are grant statuses. */
const codeOf = (status: Status): number => (grantStatus as Partial<Record<Status, number>>)[status] ?? 0;

/** Writes the status of element `index` to the results, a signed 64-bit number; false: that faulted. */
export function* copyBack(
  m: Machine,
  domain: DomId,
  result: { readonly to: Buffer<'concrete'>; readonly index: number; readonly status: Status },
): Step<boolean> {
  const { to: buffer, index } = result;
  if (buffer.in === 'null') return true;
  const code = codeOf(result.status);
  const word = { lo: low32(code), hi: code < 0 ? low32(-1) : 0 };
  return yield* storeWord(m, { domain, purpose: 'guest' }, { domain, buffer, index, ...word });
}
