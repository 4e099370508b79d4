// An exchange by a translated caller whose numbers are forged: its array is read before its beginning, like any other memory of the
// caller's, and the exchange is refused all the same.
// A first reader may skip it. Source: Xen common/memory.c (memory_exchange).

import { expect, test } from 'vitest';
import { DOMID_SELF, type DomId, type VcpuId } from '#abi/address.ts';
import type { Agent } from '#abi/agents.ts';
import type { Op } from '#abi/operation.ts';
import { Lockstep } from '../harness/lockstep.ts';
import { smallDomain, smallHeader } from '../harness/small.testing.ts';
import { clean } from '../harness/subject.ts';

const ram = [0, 1].map((gfn) => ({ path: [gfn], order: 0 }));
const header = smallHeader([0, 1].map((id) => smallDomain(id, { ram })));
const guest: Agent = { kind: 'vcpu', domain: 1 as DomId, vcpu: 0 as VcpuId };

/** The array begins at a gfn; the call goes on at the last element before it. */
const forged = (gfn: number): Op<'symbolic'> => ({
  kind: 'memory.exchange',
  target: DOMID_SELF,
  given: { by: 'buffer', buffer: { in: 'guest', gfn: { raw: gfn }, offset: 0 }, count: 0 },
  givenOrder: 0,
  taken: { by: 'value', gfns: [] },
  takenOrder: 0,
  start: { raw: 0 },
  before: 1,
});

test.each([
  ['in its memory, where a number stands that it has', 1, 'EOPNOTSUPP'],
  ['where it has none', 3, 'EFAULT'],
  ['at the end of all addresses', 0, 'EFAULT'],
])('an element before an array that lies %s', (_, gfn, status) => {
  const run = new Lockstep({ subject: clean, header });
  expect(run.apply({ label: 1, agent: guest, op: forged(gfn) })).toMatchObject({ reply: { status } });
  run.finish();
  expect(run.failure).toBeUndefined();
});
