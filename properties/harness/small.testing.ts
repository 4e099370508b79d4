// The smallest machine that tests write traces for by hand: two pCPUs, eager flushes, frames scrubbed when they are freed.
// A first reader may skip it.

import type { DomId } from '#abi/address.ts';
import { TRACE_VERSION, type Header } from '#abi/trace.ts';

type DomainSpec = Header['domains'][number];

/** Domain `id` with one vCPU, on a pCPU of its own unless it is the control domain, which has neither RAM nor a place. */
export const smallDomain = (id: number, parts: Pick<DomainSpec, 'ram' | 'grantsAt'>): DomainSpec => ({
  id: id as DomId,
  kind: id === 0 ? 'control' : 'hvm',
  vcpus: 1,
  maxPages: 8,
  poolFrames: 8,
  grantFrames: 1,
  ...(id === 0 ? { ram: [] } : parts),
  on: [id - 1],
});

/** The machine of these domains, without superpages. */
export const smallHeader = (domains: Header['domains']): Header => ({
  version: TRACE_VERSION,
  geometry: 'tiny',
  width: {},
  pcpus: 2,
  iommus: [],
  flush: 'eager',
  scrub: 'always',
  scrubAt: 'free',
  superpages: false,
  domains,
});
