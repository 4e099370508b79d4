// Descriptor tables of a paravirtual guest: which descriptors may stand, what a GDT holds, and that nobody writes it.
// A first reader may skip this file.

import type { Gfn, Mfn, Word } from '#abi/address.ts';
import { geometries } from '#abi/geometry.ts';
import { describe, expect, it } from 'vitest';
import { contextOf } from '../paging/context.ts';
import { adjustedDescriptor } from './descriptors.ts';
import { ABSENT, entry, guest, Machine, page, READ_ONLY, toolstack, WRITABLE } from './guest.testing.ts';

const booted = (): Machine => {
  const machine = new Machine();
  machine.boot();
  return machine;
};

const load = (machine: Machine, pages: readonly number[], entries = pages.length * 4): string =>
  machine.call(guest, { kind: 'pv.setGdt', frames: pages.map((n) => ({ frame: page(n) })), entries }).status;

const write = (machine: Machine, n: number, value: Word, { index = 2, offset = 0 } = {}): string =>
  machine.call(guest, { kind: 'pv.updateDescriptor', frame: page(n), index, offset, value }).status;

const DATA: Word = { lo: 0xffff, hi: 0x00cf_9200 };
const TASK: Word = { lo: 0, hi: 0x8900 };

describe('a descriptor', () => {
  it.each<readonly [string, Word, Word | undefined]>([
    ['that is not present is whatever it is', { lo: 7, hi: 0x1200 }, { lo: 7, hi: 0x1200 }],
    ['of data is for ring 3', DATA, { lo: 0xffff, hi: 0x00cf_f200 }],
    ['of code is for ring 3', { lo: 0, hi: 0x00af_9a00 }, { lo: 0, hi: 0x00af_fa00 }],
    ['of a task may not be', TASK, undefined],
    ['of type 0 is half a gate', { lo: 1, hi: 0x8000 }, { lo: 1, hi: 0x8000 }],
    ['of a gate keeps its ring in the selector', { lo: 0x0008_1234, hi: 0xec00 }, { lo: 0x000b_1234, hi: 0x8c00 }],
    ['of a gate leads to no segment of the hypervisor', { lo: 0xe008_0000, hi: 0x8c00 }, undefined],
    ['of a gate leads to the flat kernel segment', { lo: 0xe033_0000, hi: 0x8c00 }, { lo: 0xe033_0000, hi: 0x8c00 }],
    ['of a gate leads into the LDT', { lo: 0xe00c_0000, hi: 0x8c00 }, { lo: 0xe00f_0000, hi: 0x8c00 }],
    ['of a gate has no reserved bits', { lo: 0x0008_0000, hi: 0x8c01 }, undefined],
  ])('%s', (_, word, wanted) => {
    expect(adjustedDescriptor(geometries.x86, word)).toEqual(wanted);
  });
});

describe('a GDT', () => {
  it('holds its frames as descriptors, made fit, until another is loaded', () => {
    const machine = booted();
    machine.update(guest, { mfn: page(9), index: 1 }, DATA);
    expect(load(machine, [9, 10], 5)).toBe('ok');
    expect([machine.frame(9), machine.frame(10)]).toMatchObject([
      { type: 'descriptors', typeCount: 1, refs: 2, validated: true },
      { type: 'descriptors', typeCount: 1, refs: 2, validated: true },
    ]);
    expect(machine.word(9, 1)).toEqual({ lo: 0xffff, hi: 0x00cf_f200 });
    expect(contextOf(machine.state, guest).gdt).toEqual({ frames: [page(9), page(10)], entries: 5 });
    expect(load(machine, [10])).toBe('ok');
    expect([machine.frame(9).typeCount, machine.frame(10).typeCount]).toEqual([0, 1]);
    expect(load(machine, [])).toBe('ok');
    expect(machine.frame(10)).toMatchObject({ type: 'descriptors', typeCount: 0, refs: 1 });
  });

  it('is refused whole if one frame is no table of descriptors', () => {
    const machine = booted();
    machine.update(guest, { mfn: page(10), index: 3 }, TASK);
    expect([load(machine, [9, 10]), load(machine, [9, 3]), load(machine, [9, 0])]).toEqual(['EINVAL', 'EINVAL', 'EINVAL']); // prettier-ignore
    expect(machine.frame(10)).toMatchObject({ type: 'none', typeCount: 0, refs: 1 });
    expect(machine.frame(9)).toMatchObject({ type: 'descriptors', typeCount: 0, refs: 1 });
    expect([load(machine, [9], 13), load(machine, [9], 5)]).toEqual(['EINVAL', 'EFAULT']);
    expect(machine.call(toolstack, { kind: 'pv.setGdt', frames: [], entries: 0 }).status).toBe('ENOSYS');
  });

  it('is written by the hypervisor alone', () => {
    const machine = booted();
    load(machine, [9]);
    expect(machine.update(guest, { mfn: page(9), index: 0 }, DATA)).toBe('EINVAL');
    expect(machine.update(guest, { mfn: page(2), index: 3 }, entry(page(9), WRITABLE))).toBe('EBUSY');
    expect(machine.extended(guest, 'clearPage', page(9))).toBe('EINVAL');
    expect([write(machine, 9, DATA), write(machine, 9, TASK), write(machine, 9, DATA, { offset: 4 })]).toEqual(['ok', 'EINVAL', 'EINVAL']); // prettier-ignore
    expect(machine.word(9, 2)).toEqual({ lo: 0xffff, hi: 0x00cf_f200 });
    expect(write(machine, 0, DATA)).toBe('EINVAL');
    expect(write(machine, 12, DATA)).toBe('ok');
    expect(machine.frame(12)).toMatchObject({ type: 'writable', typeCount: 0 });
    const stranger = { kind: 'pv.updateDescriptor', frame: 1 as Mfn, index: 0, offset: 0, value: DATA } as const;
    expect(machine.call(guest, stranger).status).toBe('EINVAL');
  });

  it('goes with its guest', () => {
    const machine = booted();
    load(machine, [9]);
    machine.call(toolstack, { kind: 'memory.killDomain', target: guest.domain });
    expect(machine.frame(9)).toMatchObject({ role: 'free', type: 'none' });
  });
});

describe('an LDT', () => {
  const set = (machine: Machine, at: number, entries: number): string =>
    machine.call(guest, { kind: 'pv.setLdt', page: at as Gfn, entries }).status;
  const segment = (machine: Machine, index: number) => machine.call(guest, { kind: 'pv.loadSegment', index });

  it('comes into use frame by frame, by the entries of the kernel as they stand', () => {
    const machine = booted();
    machine.update(guest, { mfn: page(2), index: 3 }, entry(page(9), READ_ONLY));
    write(machine, 9, DATA, { index: 1 });
    expect([set(machine, 3, 4), machine.frame(9).typeCount]).toEqual(['ok', 0]);
    expect(segment(machine, 1)).toMatchObject({ status: 'ok', words: [{ lo: 0xffff, hi: 0x00cf_f200 }] });
    expect(machine.frame(9)).toMatchObject({ type: 'descriptors', typeCount: 1, refs: 3 });
    machine.update(guest, { mfn: page(2), index: 3 }, ABSENT);
    expect([segment(machine, 0).status, machine.frame(9).refs]).toEqual(['ok', 2]);
    expect([set(machine, 3, 3), machine.frame(9).typeCount]).toEqual(['ok', 0]);
    expect(segment(machine, 0)).toMatchObject({ status: 'pageFault', out: [0], words: [{ lo: 0x3000, hi: 0 }] });
    expect(segment(machine, 3).status).toBe('generalProtection');
  });

  it('is no memory that is mapped for writing, no table, and nothing of the hypervisor’s', () => {
    const machine = booted();
    expect([set(machine, 0, 8), segment(machine, 1).status, set(machine, 2, 4), segment(machine, 0).status]).toEqual(['ok', 'pageFault', 'ok', 'pageFault']); // prettier-ignore
    expect([set(machine, 32, 4), set(machine, 0, 9), set(machine, 32, 0)]).toEqual(['EINVAL', 'EINVAL', 'ok']);
    expect(machine.call(toolstack, { kind: 'pv.setLdt', page: 0 as Gfn, entries: 0 }).status).toBe('EINVAL');
  });
});
