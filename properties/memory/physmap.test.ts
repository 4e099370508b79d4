// What addToPhysmap answers where something that holds a reference lies at the gfn, which is not taken away like RAM, and to large
// numbers of grant frames.
// A first reader may skip it. Seen on Xen 4.17.7+13 (oracles/README.md); source: Xen common/memory.c
// (guest_remove_page), common/grant_table.c (gnttab_get_shared_frame_mfn).

import { describe, expect, test } from 'vitest';
import { DOMID_SELF, type DomId, type GrantRef, type VcpuId } from '#abi/address.ts';
import type { Agent } from '#abi/agents.ts';
import { mapFlags } from '#abi/grants.ts';
import type { Op } from '#abi/operation.ts';
import { Lockstep } from '../harness/lockstep.ts';
import { smallDomain, smallHeader } from '../harness/small.testing.ts';
import { clean } from '../harness/subject.ts';

const GRANTS_AT = 4;
const MAPPED_AT = 5;

const ram = [0, 1].map((gfn) => ({ path: [gfn], order: 0 }));
const header = smallHeader([0, 1, 2].map((id) => smallDomain(id, { ram, grantsAt: [1, 0] })));

const vcpu = (domain: number): Agent => ({ kind: 'vcpu', domain: domain as DomId, vcpu: 0 as VcpuId });

const steps: readonly (readonly [Agent, Op<'symbolic'>])[] = [
  [
    vcpu(1),
    {
      kind: 'paging.write',
      gfn: { raw: GRANTS_AT },
      offset: 8,
      size: 8,
      value: { as: 'grantEntry', flags: 1, domain: 2 as DomId, gfn: { raw: 1 } },
      via: 0,
      as: 'supervisor',
    },
  ],
  [
    vcpu(2),
    {
      kind: 'grants.map',
      elements: [{ flags: mapFlags.host, domain: 1 as DomId, ref: 1 as GrantRef, gfn: { raw: MAPPED_AT } }],
      results: { in: 'null' },
      start: { raw: 0 },
    },
  ],
  [
    vcpu(2),
    {
      kind: 'memory.addToPhysmap',
      target: DOMID_SELF,
      space: 'gmfn',
      foreign: 2 as DomId,
      index: { raw: 1 },
      gfn: { raw: MAPPED_AT },
    },
  ],
];

describe('addToPhysmap', () => {
  test('does not take a granted frame away', () => {
    const run = new Lockstep({ subject: clean, header });
    const replies = steps.map(([agent, op], label) => run.apply({ label, agent, op }).reply);
    expect(run.failure).toBeUndefined();
    expect(replies[1]?.elements[0]?.status).toBe('okay');
    expect(replies[2]?.status).toBe('ENXIO');
  });

  test.each([
    [2 ** 32, 'ok'],
    [2 ** 32 + 2, 'EINVAL'],
    [2 ** 32 - 1, 'EINVAL'],
  ])('looks at 32 bits of the index of a grant frame: %d', (index, status) => {
    const run = new Lockstep({ subject: clean, header });
    const op = {
      kind: 'memory.addToPhysmap',
      target: DOMID_SELF,
      space: 'grantTable',
      foreign: 2 as DomId,
      index: { raw: index },
      gfn: { raw: MAPPED_AT },
    } as const;
    expect(run.apply({ label: 0, agent: vcpu(2), op }).reply?.status).toBe(status);
    expect(run.failure).toBeUndefined();
  });
});
