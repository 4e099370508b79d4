// A map that has failed keeps its handle until it gives it back, after it has let go of the grant: who asks for a handle in
// between finds none left. A first reader may skip it.

import { expect, test } from 'vitest';
import { grantFlags } from '#abi/grants.ts';
import type { DomId, GrantRef, VcpuId } from '#abi/address.ts';
import { Lockstep } from '../harness/lockstep.ts';
import { smallDomain, smallHeader } from '../harness/small.testing.ts';
import { clean } from '../harness/subject.ts';

const ram = [{ path: [0], order: 0 }] as const;
const header = smallHeader([
  smallDomain(0, { ram: [] }),
  { ...smallDomain(1, { ram, grantsAt: [1] }), on: [0] },
  { ...smallDomain(2, { ram }), vcpus: 2, on: [1, 2] },
]);

const vcpu = (domain: number, n = 0) => ({ kind: 'vcpu', domain: domain as DomId, vcpu: n as VcpuId }) as const;
const READ_WRITE = 2;
const READ_ONLY = 6;

test('a failing map gives its handle back in the end', () => {
  const run = new Lockstep({ subject: clean, header: { ...header, pcpus: 3 } });
  let label = 0;
  const act = (step: object): string => {
    const { kind, reply } = run.apply({ label: (label += 1), ...step } as Parameters<Lockstep['apply']>[0]);
    return kind === 'returned' ? (reply?.elements.at(-1)?.status ?? reply?.status ?? '') : kind;
  };
  const map = (flags: readonly number[], first: number): object => ({
    kind: 'grants.map',
    elements: flags.map((one, i) => ({ flags: one, domain: 1 as DomId, ref: 1 as GrantRef, gfn: { raw: first + i } })),
    results: { in: 'null' },
    start: { raw: 0 },
  });
  const entry = { as: 'grantEntry', flags: grantFlags.permitAccess, domain: 2 as DomId, gfn: { raw: 0 } };
  const store = { kind: 'paging.write', gfn: { raw: 1 }, offset: 8, size: 8, value: entry, via: 0, as: 'supervisor' };
  expect(act({ agent: vcpu(1), op: store })).toBe('ok');
  // Four that write are as many as the counter of pins holds; with three that read seven handles of eight are in use.
  const four = [READ_WRITE, READ_WRITE, READ_WRITE, READ_WRITE];
  expect(act({ agent: vcpu(2), op: map(four, 8) })).toBe('okay');
  expect(act({ agent: vcpu(2), op: map([READ_ONLY, READ_ONLY, READ_ONLY], 16) })).toBe('okay');
  const pause = { class: 'unlock', object: 'activeLock', nth: 1 };
  expect(act({ agent: vcpu(2), op: map([READ_WRITE], 24), pause })).toBe('paused');
  const failing = label;
  const unmap = { handle: { step: 2, index: 0 }, gfn: { raw: 8 }, dev: 'none' };
  const elements = [unmap];
  expect(act({ agent: vcpu(2, 1), op: { kind: 'grants.unmap', elements, results: { in: 'null' }, start: { raw: 0 } } })).toBe('okay'); // prettier-ignore
  expect(act({ agent: vcpu(2, 1), op: map([READ_ONLY], 28) })).toBe('okay');
  expect(act({ agent: vcpu(2, 1), op: map([READ_ONLY], 29) })).toBe('noSpace');
  run.finish();
  expect(run.failure?.sentence).toBeUndefined();
  expect(run.replyOf(failing)?.elements.map(({ status }) => status)).toEqual(['generalError']);
});
