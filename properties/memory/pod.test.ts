// Memory on demand where other things meet it: a log of writes, calls of device models, permissions for devices.
// A first reader may skip it. Sources: Xen arch/x86/mm/p2m-pod.c (p2m_pod_demand_populate, guest_physmap_mark_populate_on_demand,
// p2m_pod_set_mem_target), arch/x86/hvm/dm.c (set_mem_type, modified_memory).

import { describe, expect, test } from 'vitest';
import type { DomId, VcpuId } from '#abi/address.ts';
import type { Agent } from '#abi/agents.ts';
import type { Op } from '#abi/operation.ts';
import type { Reply } from '#abi/reply.ts';
import { Lockstep } from '../harness/lockstep.ts';
import { smallDomain, smallHeader } from '../harness/small.testing.ts';
import { clean } from '../harness/subject.ts';

const target = 1 as DomId;
const header = smallHeader([0, 1].map((id) => smallDomain(id, { ram: [{ path: [0], order: 0 }] })));

type Call = readonly [Agent, Op<'symbolic'>];

const toolstack = (op: Op<'symbolic'>): Call => [{ kind: 'toolstack' }, op];

const anew = { raw: 0 };
const mark = toolstack({
  kind: 'memory.populateOnDemand',
  target,
  extents: { by: 'value', gfns: [{ raw: 2 }] },
  order: 1,
  start: anew,
});
const pay = toolstack({ kind: 'memory.setPodTarget', target, pages: 3 });
const log = toolstack({ kind: 'memory.enableLogDirty', target });
const permit = toolstack({ kind: 'memory.iomemPermission', target, frame: { raw: 96 }, count: 1, allow: 'yes' });
const owed = toolstack({ kind: 'memory.podTarget', target });
const read: Call = [
  { kind: 'vcpu', domain: target, vcpu: 0 as VcpuId },
  { kind: 'paging.read', gfn: { raw: 2 }, offset: 0, size: 8, via: 0, as: 'supervisor' },
];
const peek = toolstack({
  kind: 'memory.logDirty',
  target,
  action: 'peeks',
  pages: 8,
  bitmap: { in: 'null' },
  resuming: 'anew',
});
const modified = toolstack({ kind: 'memory.modifiedMemory', target, gfn: { raw: 2 }, count: 1, start: anew });
const retype = toolstack({
  kind: 'memory.setMemType',
  target,
  gfn: { raw: 2 },
  count: 1,
  type: 'ramRo',
  start: anew,
});

/** What the callers hear; no law breaks. */
function replies(calls: readonly Call[]): readonly (Reply | undefined)[] {
  const run = new Lockstep({ subject: clean, header });
  const heard = calls.map(([agent, op], label) => run.apply({ label, agent, op }).reply);
  run.finish();
  expect(run.failure).toBeUndefined();
  return heard;
}

const last = (calls: readonly Call[]): Reply | undefined => replies(calls).at(-1);

/** How many gfns a look at the log, the last call, tells as marked since it was cleaned. */
const marked = (calls: readonly Call[]): number | undefined => last(calls)?.out.at(-1);

describe('memory on demand', () => {
  test('is owed until it is used', () => {
    expect(last([mark, pay, owed])?.out).toEqual([3, 2, 2]);
    expect(last([mark, pay, read, owed])?.out).toEqual([3, 1, 1]);
  });

  test('is as good as written when it has been populated', () => {
    expect(marked([mark, pay, log, peek])).toBe(0);
    expect(marked([mark, pay, log, read, peek])).toBe(1);
  });

  test('has no page that a device model could have written', () => {
    expect(marked([mark, pay, log, modified, peek])).toBe(0);
    expect(last([mark, pay, log, modified, owed])?.out).toEqual([3, 2, 2]);
  });

  test('is populated before its type is set', () => {
    expect(replies([mark, pay, retype, owed]).map((one) => one?.status)).toEqual(['ok', 'ok', 'ok', 'ok']);
    expect(last([mark, pay, retype, owed])?.out).toEqual([3, 1, 1]);
  });

  test('is not for who may have devices', () => {
    expect(replies([permit, mark]).map((one) => one?.status)).toEqual(['ok', 'ENOTEMPTY']);
    expect(replies([mark, permit, pay]).map((one) => one?.status)).toEqual(['ok', 'ok', 'ENOTEMPTY']);
  });
});
