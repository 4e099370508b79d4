// The rarest state that the generators must reach, written out: a processor that answers from an upper entry whose table is no
// longer linked, between the change and the flush, on the correct implementation. And what becomes of ASIDs in the shortest
// histories. The laws are tried by ../harness/suite.test.ts.

import { expect, it } from 'vitest';
import type { DomId, PcpuId, VcpuId } from '#abi/address.ts';
import type { Header, Trace } from '#abi/trace.ts';
import { vendors } from '#abi/vendor.ts';
import { runTrace } from '../harness/run.ts';
import { smallHeader } from '../harness/small.testing.ts';
import { clean } from '../harness/subject.ts';

const header: Header = {
  ...smallHeader([]),
  superpages: true,
  domains: [
    { id: 0 as DomId, kind: 'control', vcpus: 1, maxPages: 16, poolFrames: 6, grantFrames: 0, ram: [], on: [-1] },
    {
      id: 1 as DomId,
      kind: 'hvm',
      vcpus: 1,
      maxPages: 32,
      poolFrames: 8,
      grantFrames: 0,
      ram: [
        { path: [1, 0], order: 0 },
        { path: [1, 1], order: 0 },
      ],
      on: [0],
    },
  ],
};

const guest = { kind: 'vcpu', domain: 1 as DomId, vcpu: 0 as VcpuId } as const;
const read = (label: number, digit: number) =>
  ({
    label,
    agent: guest,
    op: { kind: 'paging.read', gfn: { path: [1, digit] }, offset: 0, size: 8, via: 0, as: 'supervisor' },
  }) as const;

const schedule = (label: number, pcpu: number) =>
  ({
    label,
    agent: { kind: 'fate' },
    op: { kind: 'tlb.schedule', target: 1 as DomId, vcpu: 0 as VcpuId, pcpu: pcpu as PcpuId },
  }) as const;

const steps: Trace['steps'] = [
  schedule(1, 0),
  read(2, 0),
  {
    label: 3,
    agent: { kind: 'toolstack' },
    op: {
      kind: 'memory.populate',
      target: 1 as DomId,
      extents: { by: 'value', gfns: [{ path: [1, 0] }] },
      order: 2,
      start: { raw: 0 },
    },
    pause: { class: 'flush', object: 'cache', nth: 1 },
  },
  read(4, 1),
];

it.each(vendors)('%s: answers from an upper entry whose table was replaced, until the flush', (vendor) => {
  const { failure, marks } = runTrace(clean, { header: { ...header, vendor }, steps });
  expect(failure?.sentence).toBe(undefined);
  expect([...marks]).toContain('answered:structure');
});

const amd = (width: Header['width']): Header => ({ ...header, vendor: 'amd', width });

it('keeps what an old ASID has loaded, and does not use it', () => {
  const { failure, marks } = runTrace(clean, { header: amd({}), steps });
  expect(failure?.sentence).toBe(undefined);
  expect([...marks]).toContain('asid:renewed');
  expect([...marks]).toContain('asid:stale');
});

it('has one ASID: every switch begins another round', () => {
  const { failure, marks } = runTrace(clean, { header: amd({ asid: 1 }), steps: [...steps, schedule(5, 1)] });
  expect(failure?.sentence).toBe(undefined);
  expect([...marks]).toContain('asid:round');
  expect([...marks]).not.toContain('asid:stale');
});

it('has a generation of two bits: it wraps, and ASIDs are given up', () => {
  const moves = [5, 6, 7, 8].map((label) => schedule(label, 0));
  const { failure, marks } = runTrace(clean, {
    header: amd({ asidGeneration: 2 }),
    steps: [...steps, ...moves, read(9, 0)],
  });
  expect(failure?.sentence).toBe(undefined);
  expect([...marks]).toContain('asid:wrapped');
});
