// In which order a grant copy refuses: domains first, then the source with its claim, then the destination.
// A first reader may skip it. Measured on Xen 4.17.7+13 (oracles/README.md).

import { describe, expect, test } from 'vitest';
import type { DomId, GrantRef, VcpuId } from '#abi/address.ts';
import { DOMID_SELF } from '#abi/address.ts';
import { Lockstep } from '../harness/lockstep.ts';
import { smallDomain, smallHeader } from '../harness/small.testing.ts';
import { clean } from '../harness/subject.ts';

const header = smallHeader([0, 1, 2].map((id) => smallDomain(id, { ram: [{ path: [0], order: 0 }] })));

interface Side {
  readonly domain: number;
  readonly gfn: number;
}

/** What d1 hears of one element that names both sides by gfn. */
function copy(source: Side, dest: Side): string | undefined {
  const run = new Lockstep({ subject: clean, header });
  const element = {
    sourceBy: 'gfn',
    sourceDomain: source.domain as DomId,
    sourceRef: 0 as GrantRef,
    sourceGfn: { raw: source.gfn },
    sourceOffset: 0,
    destBy: 'gfn',
    destDomain: dest.domain as DomId,
    destRef: 0 as GrantRef,
    destGfn: { raw: dest.gfn },
    destOffset: 0,
    length: 1,
  } as const;
  const op = { kind: 'grants.copy', elements: [element], results: { in: 'null' }, start: { raw: 0 } } as const;
  const { reply } = run.apply({ label: 0, agent: { kind: 'vcpu', domain: 1 as DomId, vcpu: 0 as VcpuId }, op });
  expect(run.failure).toBeUndefined();
  return reply?.elements[0]?.status;
}

const own = { domain: DOMID_SELF, gfn: 0 };
const hole = { domain: DOMID_SELF, gfn: 3 };
const nobody = { domain: 3, gfn: 0 };
const other = { domain: 2, gfn: 0 };

describe('a grant copy refuses', () => {
  test.each([
    ['nobody as a destination before a hole as the source', hole, nobody, 'badDomain'],
    ['nobody as a source before another by gfn as the destination', nobody, other, 'badDomain'],
    ['another by gfn as the source before a hole as the destination', other, hole, 'permissionDenied'],
    ['a hole as the source before another by gfn as the destination', hole, other, 'badPage'],
    ['another by gfn as the destination', own, other, 'permissionDenied'],
    ['nothing else', own, own, 'okay'],
  ])('%s', (_, source, dest, status) => {
    expect(copy(source, dest)).toBe(status);
  });
});
