// The call by which the toolstack claims frames for a domain before it populates it: so many that the domain will have so many pages in
// all. One claim at a time; it shrinks as pages are taken, not as they are given back, and goes when the domain is killed.
// A dying domain cannot claim.
// A first reader may skip nothing. Sources: Xen common/memory.c (XENMEM_claim_pages), common/page_alloc.c (domain_set_outstanding_pages).

import type { Errno } from '#abi/reply.ts';
import { claimedFrames, freeFrames } from '../claims.ts';
import type { Cut } from '../cut.ts';
import { at, end, type OpOf, type Task, type Turn } from '../progress.ts';
import { withDomain, type Domain, type State } from '../state.ts';

function objection(
  state: State,
  { claim, totalPages, maxPages, state: life }: Domain,
  pages: number,
): Errno | undefined {
  if (claim > 0 || life !== 'running' || pages <= totalPages || pages > maxPages) return 'EINVAL';
  return pages - totalPages > freeFrames(state) - claimedFrames(state) ? 'ENOMEM' : undefined;
}

/** No pages: the claim is given up. */
export function claimPages(cut: Cut, task: Task<OpOf<'memory.claimPages'>>): Turn {
  const { target, pages } = task.op;
  const domain = cut.state.domains.get(target);
  if (domain === undefined) return end(cut, 'EINVAL');
  if (task.caller !== 0) return end(cut, 'EPERM');
  if (pages === 0) return end(at(cut, withDomain(cut.state, target, { claim: 0 })), 'ok');
  const errno = objection(cut.state, domain, pages);
  if (errno !== undefined) return end(cut, errno);
  return end(at(cut, withDomain(cut.state, target, { claim: pages - domain.totalPages })), 'ok');
}
