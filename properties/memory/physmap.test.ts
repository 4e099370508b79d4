// What addToPhysmap answers where something that holds a reference lies at the gfn, which is not taken away like RAM, and to large
// numbers of grant frames; and how ranges and batches go on.
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
      elements: [{ flags: mapFlags.host, domain: 1 as DomId, ref: 1 as GrantRef, gfn: { raw: MAPPED_AT }, offset: 0 }],
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

const store = (gfn: number, lo: number): Op<'symbolic'> => ({ kind: 'paging.write', gfn: { raw: gfn }, offset: 0, size: 8, value: { as: 'word', lo, hi: 0 }, via: 0, as: 'supervisor' }); // prettier-ignore
const load = (gfn: number, offset = 0): Op<'symbolic'> => ({ kind: 'paging.read', gfn: { raw: gfn }, offset, size: 8, via: 0, as: 'supervisor' }); // prettier-ignore

/** What guest 2 hears of these. */
function heard(...ops: readonly Op<'symbolic'>[]) {
  const run = new Lockstep({ subject: clean, header });
  const replies = ops.map((op, label) => run.apply({ label, agent: vcpu(2), op }).reply);
  expect(run.failure).toBeUndefined();
  return replies;
}

const range = (index: number, gfn: number, count: number, start = 0): Op<'symbolic'> => ({ kind: 'memory.addRange', target: DOMID_SELF, index: { raw: index }, gfn: { raw: gfn }, count, start: { raw: start } }); // prettier-ignore

describe('addRange', () => {
  test.each([
    ['up, from its end', 0, 1, [undefined, 10, 11]],
    ['far away', 0, 8, [undefined, undefined]],
  ])('moves pages %s', (_, index, gfn, there) => {
    const replies = heard(store(0, 10), store(1, 11), range(index, gfn, 2), ...there.map((_word, at) => load(at)));
    expect(replies[2]).toMatchObject({ status: 'ok', done: 2 });
    const words = replies.slice(3).map((reply) => (reply?.status === 'ok' ? reply.words[0]?.lo : undefined));
    expect(words).toEqual(there);
  });

  test('moves pages down from its beginning', () => {
    const replies = heard(range(0, 9, 2), store(9, 10), store(10, 11), range(9, 8, 2), load(8), load(9), load(10));
    expect(replies.slice(3).map((reply) => [reply?.status, reply?.words[0]?.lo])).toEqual([['ok', undefined], ['ok', 10], ['ok', 11], ['violation', 0xffff_ffff]]); // prettier-ignore
  });

  test.each([
    ['EINVAL', 2, range(0, 8, 3)],
    ['ok', 2, range(5, 8, 2, 2)],
    ['EILSEQ', 3, range(0, 8, 2, 3)],
    ['EOVERFLOW', 0, range(2 ** 52 - 1, 8, 1)],
    ['EINVAL', 0, range(0, 2 ** 52 - 1, 1)],
    ['ok', 0, range(2 ** 52 - 1, 8, 0)],
  ])('answers %s after %i', (status, done, op) => {
    expect(heard(op)[0]).toMatchObject({ status, done });
  });
});

describe('addBatch', () => {
  const raws = (...gfns: readonly number[]) => ({ by: 'value', gfns: gfns.map((raw) => ({ raw })) }) as const;
  const plain = { kind: 'memory.addBatch', target: DOMID_SELF, space: 'gmfn', foreign: 2 as DomId, start: { raw: 0 } } as const; // prettier-ignore
  const nowhere = { in: 'null' } as const;

  test('goes on after an element that fails, and tells in memory what became of each', () => {
    const results = { in: 'guest', gfn: { raw: 0 }, offset: 0 } as const;
    const [reply, ...words] = heard(
      { ...plain, indices: raws(7, 1), gfns: raws(8, 9), results },
      load(0),
      load(0, 8),
      load(9),
    );
    expect(reply).toMatchObject({ status: 'ok', done: 2, elements: [{ status: 'EINVAL' }, { status: 'ok' }] });
    expect(words.map((one) => one?.words[0])).toEqual([{ lo: 2 ** 32 - 22, hi: 2 ** 32 - 1 }, { lo: 0, hi: 0 }, { lo: 0, hi: 0 }]); // prettier-ignore
  });

  test.each<readonly [string, number, Op<'symbolic'>]>([
    ['EINVAL', 1, { ...plain, indices: raws(0, 1), gfns: raws(8, 2 ** 52 - 1), results: nowhere }],
    ['EFAULT', 1, { ...plain, indices: raws(0, 1), gfns: raws(8), results: nowhere }],
    ['EFAULT', 0, { ...plain, indices: raws(0), gfns: raws(8), results: { in: 'hypervisor' } }],
    ['EOPNOTSUPP', 0, { ...plain, space: 'gmfnRange', indices: raws(0), gfns: raws(8), results: nowhere }],
    ['EACCES', 0, { ...plain, space: 'devMmio', indices: raws(0), gfns: raws(8), results: nowhere }],
    ['EILSEQ', 1, { ...plain, indices: raws(0), gfns: raws(8), results: nowhere, start: { raw: 1 } }],
    ['ok', 0, { ...plain, indices: raws(), gfns: raws(), results: nowhere }],
    ['E2BIG', 0, { ...plain, indices: raws(0, 0, 0, 0, 0, 0, 0), gfns: raws(0), results: nowhere }],
  ])('answers %s after %i', (status, done, op) => {
    expect(heard(op)[0]).toMatchObject({ status, done });
  });
});
