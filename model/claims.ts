// Claims: frames that a domain has said it will take, before it takes them. What is claimed is not there for anybody else, nor for the
// hypervisor itself. Their sum is a recount, not a counter. The call that makes a claim: memory/claims.ts.
// A first reader may skip nothing. Source: Xen common/page_alloc.c (domain_set_outstanding_pages, domain_adjust_tot_pages,
// alloc_heap_pages).

import type { DomId } from '#abi/address.ts';
import type { FrameRole } from '#abi/roles.ts';
import { pow2 } from '#lib/bits.ts';
import type { State } from './state.ts';

/** Frames that are claimed and have not been taken, by all domains. */
export const claimedFrames = ({ domains }: State): number =>
  domains.values().reduce((sum, { claim }) => sum + claim, 0);

/** Frames on the heap. */
export function freeFrames({ frames, geometry }: State): number {
  let used = 0;
  frames.forEach(({ role }, mfn) => {
    if (role !== 'free' && mfn < geometry.frameCount) used += 1;
  });
  return geometry.frameCount - used;
}

/** What is asked of the heap, for whom and as what. */
export interface Wanted {
  readonly order: number;
  readonly owner: DomId | undefined;
  readonly role: FrameRole | undefined;
}

/** Whether what is free is claimed, and not by who asks: only RAM is asked for in a domain's own name. */
export function isClaimed(state: State, want: Wanted): boolean {
  const claimed = claimedFrames(state);
  const request = pow2(want.order);
  if (claimed === 0 || claimed + request <= freeFrames(state)) return false;
  const own = want.role === 'ram' && want.owner !== undefined ? (state.domains.get(want.owner)?.claim ?? 0) : 0;
  return own < request;
}
