// Claims of frames: as much as a domain may still have, or as there is; and given up.
// A first reader may skip this file.

import type { MemoryOp } from '#abi/memory.ts';
import { claimedFrames, freeFrames } from '#model/claims.ts';
import type { Domain } from '#model/state.ts';
import { domainsOf } from '../harness/census.ts';
import type { Gen, Generators, Needs, Weights } from '../harness/decisions.ts';

type ClaimOp = Extract<MemoryOp<'symbolic'>, { kind: 'memory.claimPages' }>;

export const weights: Weights<ClaimOp> = { 'memory.claimPages': 5 };

const canClaim = ({ state, claim, totalPages, maxPages }: Domain): boolean =>
  state === 'running' && claim === 0 && totalPages < maxPages;

function claimPages(g: Gen): ClaimOp {
  g.asToolstack();
  const isGivenUp = g.share(12);
  const of = g.prefer(domainsOf(g.state), isGivenUp ? ({ claim }) => claim > 0 : canClaim);
  if (of === undefined) return { kind: 'memory.claimPages', target: g.domain(1 as Domain['id']), pages: 1 };
  const { id, totalPages, maxPages } = of;
  const left = freeFrames(g.state) - claimedFrames(g.state);
  const more = g.prng.pick([1, 2, 4, left, left, maxPages - totalPages, maxPages - totalPages]);
  const usual = Math.min(totalPages + more, g.share(80) ? maxPages : totalPages + left + 1);
  const pages = isGivenUp ? 0 : g.bends() ? g.prng.pick([totalPages, maxPages + 1, 4096]) : Math.max(0, usual);
  return { kind: 'memory.claimPages', target: g.domain(id), pages: Math.min(4096, pages) };
}

export const generators: Generators<ClaimOp> = { 'memory.claimPages': claimPages };

/** When a legal operation is possible. */
export const needs: Needs<ClaimOp> = { 'memory.claimPages': (g) => domainsOf(g.state).some(canClaim) };
