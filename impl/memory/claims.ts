// Claims of frames: a number for each domain, and their sum, which the heap asks for before it gives anything. Both change in one act, under
// the heap lock.
// A first reader may skip nothing. Sources: Xen common/page_alloc.c (domain_set_outstanding_pages, domain_adjust_tot_pages,
// alloc_heap_pages), common/memory.c (XENMEM_claim_pages).

import { DOMID_CONTROL } from '#abi/address.ts';
import type { MemoryOp } from '#abi/memory.ts';
import { reply, type Errno, type Reply } from '#abi/reply.ts';
import type { Call } from '../execution.ts';
import type { Machine } from '../machine.ts';
import type { Step } from '../port.ts';
import { lockHeap, setClaim, unlockHeap } from './heap.ts';
import { callerIn, exists, isAlive } from './target.ts';

type Claim = Extract<MemoryOp<'concrete'>, { kind: 'memory.claimPages' }>;

/** Makes a claim, or gives it up. */
export function* claimPages(m: Machine, call: Call, op: Claim): Step<Reply> {
  yield* lockHeap(m);
  const errno = objection(m, call, op);
  if (errno === undefined) setClaim(m, op.target, op.pages === 0 ? 0 : op.pages - m.f.domTotalPages.get(op.target));
  yield* unlockHeap(m);
  return reply(errno ?? 'ok');
}

/** Why not; the heap lock is held. */
function objection(m: Machine, call: Call, { target, pages }: Claim): Errno | undefined {
  const { f } = m;
  if (!exists(m, target)) return 'EINVAL';
  if (callerIn(call) !== DOMID_CONTROL) return 'EPERM';
  if (pages === 0) return undefined;
  if (f.domClaim.get(target) > 0 || !isAlive(m, target)) return 'EINVAL';
  const total = f.domTotalPages.get(target);
  if (pages <= total || pages > f.domMaxPages.get(target)) return 'EINVAL';
  return pages - total > f.heapFree.get(0) - f.heapClaimed.get(0) ? 'ENOMEM' : undefined;
}
