// What traces, replies, cases and machines look like in words. The examples are the specification: a change of wording is a
// change here. A first reader can take them as samples of the language.

import { expect, test } from 'vitest';
import {
  DOMID_SELF,
  type DomId,
  gfn,
  type GrantHandle,
  type GrantRef,
  INVALID_GFN,
  type PcpuId,
  type VcpuId,
} from './address.ts';
import { describeCase, describeHeader, describeOp, describeReply, describeStep, describeTrace } from './describe.ts';
import { declarationOf, opKinds } from './operation.ts';
import { fieldsOf } from './fields.ts';
import { reply } from './reply.ts';
import { freshTag } from './tags.ts';
import type { Header } from './trace.ts';
import { ordinal } from './words.ts';

const d = (n: number) => n as DomId;
const at = (...path: number[]) => ({ path });

test('every name in braces of every sentence is a field', () => {
  for (const kind of opKinds) {
    const names = [...(declarationOf(kind)?.says ?? '').matchAll(/\{(\w+)\}/gu)].map((match) => match[1]);
    for (const name of names) expect(Object.keys(fieldsOf(kind)), kind).toContain(name);
  }
});

test('operations as stored', () => {
  const write = { kind: 'paging.write', gfn: at(1, 0, 2), offset: 8, size: 8, via: 0, as: 'supervisor' } as const;
  const grant = { as: 'grantEntry', flags: 5, domain: d(2), gfn: at(0, 0, 1) } as const;
  expect(describeOp({ ...write, value: { as: 'fresh' } })).toBe('writes a fresh tag (8 bytes) at gfn 1.0.2+8');
  expect(describeOp({ ...write, value: grant, size: 1 })).toBe(
    'writes a grant of gfn 0.0.1 to d2 (read-only) (1 byte) at gfn 1.0.2+8',
  );
  expect(describeOp({ ...write, value: { ...grant, flags: 0x8018 } })).toContain(
    'an unused grant entry with gfn 0.0.1 for d2 (in use for reading, in use for writing, flags 0x8000)',
  );
  expect(describeOp({ ...write, value: { as: 'gfn', gfn: { raw: 255 } } })).toContain('the number of gfn 0xff');
  expect(describeOp({ ...write, value: { as: 'word', lo: 1, hi: 2 } })).toContain('0x2_00000001');
});

test('extents, buffers, continuations and handed-out numbers', () => {
  const populate = { kind: 'memory.populate', target: DOMID_SELF, order: 1 } as const;
  const place = { in: 'guest', gfn: at(0, 3), offset: 16 } as const;
  expect(
    describeOp({ ...populate, extents: { by: 'value', gfns: [at(0, 1), at()] }, start: { step: 4, index: 0 } }),
  ).toBe('populates [gfn 0.1, gfn 0] of itself with order 1 from where step 4 stopped');
  expect(describeOp({ ...populate, extents: { by: 'buffer', buffer: place, count: 3 }, start: { raw: 0 } })).toBe(
    'populates 3 gfns listed at gfn 0.3+16 of itself with order 1 from the start',
  );
  expect(
    describeOp({
      kind: 'grants.unmap',
      elements: [{ handle: { step: 4, index: 0 }, gfn: at(1), dev: 'none', offset: 0 }],
      results: { in: 'nonCanonical' },
      start: { raw: 2 },
    }),
  ).toBe('unmaps (handle from step 4, gfn 1, dev none), statuses to a non-canonical address, from element 2');
  expect(
    describeOp({
      kind: 'grants.map',
      elements: [{ flags: 2, domain: d(1), ref: 3 as GrantRef, gfn: at(0, 1), offset: 0 }],
      results: { in: 'null' },
      start: { raw: 0 },
    }),
  ).toBe('maps (flags 2, domain d1, ref 3, gfn 0.1), statuses to a null pointer, from the start');
});

test('operations as executed', () => {
  expect(describeOp({ kind: 'memory.removeFromPhysmap', target: d(1), gfn: gfn(17) })).toBe('removes gfn 0x11 of d1');
  expect(describeOp({ kind: 'memory.removeFromPhysmap', target: d(1), gfn: INVALID_GFN })).toBe(
    'removes an invalid gfn of d1',
  );
  expect(
    describeOp({
      kind: 'grants.unmap',
      elements: [{ handle: 3 as GrantHandle, gfn: gfn(1), dev: 'none', offset: 0 }],
      results: { in: 'hypervisor' },
      start: 0,
    }),
  ).toBe('unmaps (handle 3, gfn 0x1, dev none), statuses to hypervisor memory, from the start');
  expect(
    describeOp({
      kind: 'paging.write',
      gfn: gfn(1),
      offset: 0,
      size: 8,
      value: freshTag(12, 3),
      via: 0,
      as: 'supervisor',
    }),
  ).toBe('writes the tag of step 12 (8 bytes) at gfn 0x1+0');
});

test('steps', () => {
  const agent = { kind: 'vcpu', domain: d(1), vcpu: 0 as VcpuId } as const;
  const op = { kind: 'memory.removeFromPhysmap', target: DOMID_SELF, gfn: at(0, 1) } as const;
  expect(
    describeStep({
      label: 7,
      agent,
      op,
      pause: { class: 'store', object: 'table', nth: 1 },
      failures: [{ class: 'heap', nth: 2 }],
      preempt: 3,
    }),
  ).toBe(
    '7: d1v0 removes gfn 0.1 of itself; the 2nd heap request fails; is preempted at the 3rd check; pauses before the 1st store to a table',
  );
  expect(describeStep({ label: 8, resume: 7 })).toBe('8: step 7 goes on');
  expect(describeStep({ label: 9, resume: 7, pause: { class: 'flush', object: 'cache', nth: 12 } })).toBe(
    '9: step 7 goes on; pauses before the 12th flush of a cache',
  );
  const schedule = { kind: 'tlb.schedule', target: d(1), vcpu: 1 as VcpuId, pcpu: -1 as PcpuId } as const;
  expect(describeStep({ label: 10, agent: { kind: 'fate' }, op: schedule })).toBe(
    '10: fate runs vCPU 1 of d1 on pCPU -1 (nowhere)',
  );
});

test('replies', () => {
  expect(describeReply(reply('ok'))).toBe('ok');
  expect(describeReply(reply('preempted', { done: 2 }))).toBe('preempted after 2');
  expect(describeReply(reply('ok', { out: [4, 5], words: [{ lo: 1, hi: 0 }] }))).toBe('ok; gives 4, 5; reads 0x1');
  const elements = [
    { status: 'okay', out: [0] },
    { status: 'badGntref', out: [] },
  ] as const;
  expect(describeReply(reply('ok', { done: 2, elements }))).toBe('ok after 2; elements: okay (gives 0), badGntref');
});

test('headers and whole traces', () => {
  const header: Header = {
    version: 1,
    geometry: 'tiny',
    width: { tlbClock: 2 },
    pcpus: 1,
    iommus: [],
    flush: 'eager',
    scrub: 'dying',
    scrubAt: 'free',
    superpages: false,
    domains: [
      {
        id: d(1),
        kind: 'hvm',
        vcpus: 1,
        maxPages: 8,
        poolFrames: 4,
        grantFrames: 1,
        ram: [{ path: [0, 1], order: 2 }],
        grantsAt: [1, 0, 0],
        on: [-1],
      },
    ],
  };
  expect(describeHeader(header)).toEqual([
    'tiny geometry: tables of 4 entries on 3 levels, 96 frames; 1 pCPU; tlb clock of 2 bits',
    'translations are flushed before a frame is freed; frames of dying domains are erased at once; no superpages',
    'd1 is a guest: 1 vCPU, 8 pages at most, a pool of 4 frames, 1 grant frame; memory at gfn 0.1 (order 2); grant frame 0 at gfn 1.0.0; vCPU 0 off',
  ]);
  expect(describeHeader({ ...header, vendor: 'amd', width: { asidGeneration: 3 } })[0]).toBe(
    'tiny geometry: tables of 4 entries on 3 levels, 96 frames; 1 pCPU made by AMD; asid generation of 3 bits',
  );
  expect(describeTrace({ header, steps: [{ label: 8, resume: 7 }] }).at(-1)).toBe('8: step 7 goes on');
});

test('cases', () => {
  expect(
    describeCase({
      engine: 'ept',
      version: 1,
      geometry: 'x86',
      registers: { root: 5, accessedDirty: 'on' },
      access: { kind: 'write', frame: 255 },
      image: [{ mfn: 5, index: 511, word: { lo: 7, hi: 1 } }],
    }),
  ).toEqual([
    'x86 geometry: write of guest frame 255 through EPT with root table 5, accessed and dirty flags on',
    'mfn 0x5, word 511: 0x1_00000007',
  ]);
});

test('ordinals', () => {
  expect([1, 2, 3, 4, 11, 12, 13, 21, 22, 101, 111].map(ordinal)).toEqual([
    '1st', '2nd', '3rd', '4th', '11th', '12th', '13th', '21st', '22nd', '101st', '111th',
  ]); // prettier-ignore
});
