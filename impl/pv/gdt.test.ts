// Descriptor tables: what a GDT holds and lets go of, who may write it, and what happens between its steps. Directed.
// A first reader may skip nothing.

import { describe, expect, it } from 'vitest';
import type { DomId, Gfn } from '#abi/address.ts';
import { stopAt } from '../execution.ts';
import { fitDescriptor } from './descriptors.ts';
import { bits, DOM, Guest, LEAVES, MIDDLE, MORE, OTHER_ROOT, toolstack, vcpu } from './guest.testing.ts';

const CODE = { lo: 0xffff, hi: 0x00af_9a00 };
const FIT = { lo: 0xffff, hi: 0x00af_fa00 };
const INTERRUPT_GATE = { lo: 0x0008_0000, hi: 0x8e00 };

const gdt = (guest: Guest, frames: readonly number[], entries: number) =>
  ({ kind: 'pv.setGdt', frames: frames.map((frame) => ({ frame: guest.mfn(frame) as never })), entries }) as const;

const load = (guest: Guest, frames: readonly number[], entries = 4 * frames.length): string =>
  guest.by(vcpu, gdt(guest, frames, entries)).status;

const write = (guest: Guest, frame: number, value: typeof CODE, offset = 0): string =>
  guest.by(vcpu, { kind: 'pv.updateDescriptor', frame: guest.mfn(frame) as never, index: 1, offset, value }).status;

function wordOf(guest: Guest, frame: number, index: number): readonly number[] {
  const at = 8 * guest.mfn(frame) + 2 * index;
  return [guest.m.f.memory.get(at), guest.m.f.memory.get(at + 1)];
}

describe('descriptors', () => {
  it('of systems other than call gates are refused, and gates to what is the hypervisor’s', () => {
    const { m } = new Guest();
    expect(fitDescriptor(m, CODE)).toEqual(FIT);
    expect(fitDescriptor(m, INTERRUPT_GATE)).toBeUndefined();
    const gate = (selector: number) => fitDescriptor(m, { lo: selector * 0x1_0000 + 5, hi: 0xec00 });
    // Three frames of four descriptors are the guest's.
    expect([gate(8 * 11)?.lo, gate(8 * 12), gate(8 * 12 + 4)?.lo]).toEqual([0x005b_0005, undefined, 0x0067_0005]);
  });
});

describe('a GDT', () => {
  it('makes descriptors of memory, and lets go of them', () => {
    const guest = Guest.running();
    guest.word(8, 1, 0, { lo: 0, hi: 0 });
    expect(write(guest, 8, CODE)).toBe('ok');
    expect([load(guest, [8, 9], 5), guest.typed(8), guest.refs(8), guest.typed(9)]).toEqual(['ok', 'descriptors 1 valid', 2, 'descriptors 1 valid']); // prettier-ignore
    expect(wordOf(guest, 8, 1)).toEqual([FIT.lo, FIT.hi]);
    expect([write(guest, 9, CODE), write(guest, 9, INTERRUPT_GATE), write(guest, 9, CODE, 1)]).toEqual(['ok', 'EINVAL', 'EINVAL']); // prettier-ignore
    expect(wordOf(guest, 9, 1)).toEqual([FIT.lo, FIT.hi]);
    expect(load(guest, [9, 9])).toBe('ok');
    expect([guest.typed(8), guest.refs(8), guest.typed(9), guest.refs(9)]).toEqual(['descriptors 0 valid', 1, 'descriptors 2 valid', 3]); // prettier-ignore
    expect([load(guest, []), guest.typed(9), guest.refs(9)]).toEqual(['ok', 'descriptors 0 valid', 1]);
  });

  it('is not loaded when a frame of it is a table, is mapped for writing, or holds what may not be', () => {
    const guest = Guest.running();
    guest.m.f.memory.set(8 * guest.mfn(10) + 1, INTERRUPT_GATE.hi);
    expect([load(guest, [8, LEAVES]), load(guest, [8, 0]), load(guest, [8, 10])]).toEqual(['EINVAL', 'EINVAL', 'EINVAL']); // prettier-ignore
    expect([guest.typed(8), guest.refs(8), guest.typed(10)]).toEqual(['descriptors 0 valid', 1, 'none 0']);
    expect([load(guest, [8], 13), load(guest, [8], 5)]).toEqual(['EINVAL', 'EFAULT']);
    expect(guest.by(toolstack, gdt(guest, [8], 4)).status).toBe('ENOSYS');
  });

  it('is neither written as a table nor mapped for writing', () => {
    const guest = Guest.running();
    load(guest, [8]);
    expect(guest.update(8, 0, guest.entry(0))).toBe('EINVAL');
    expect(guest.update(LEAVES, 0, guest.entry(8))).toBe('EBUSY');
    expect(guest.asks('pinL1', { frame: 8 })).toBe('EINVAL');
    expect([load(guest, []), guest.asks('pinL1', { frame: 8 })]).toEqual(['ok', 'ok']);
  });

  it('has each frame found fit before anybody else may use it', () => {
    const guest = Guest.running();
    guest.word(OTHER_ROOT, 0, 8);
    const loading = guest.start(vcpu, gdt(guest, [8], 4));
    loading.run(stopAt(guest.m.port, { class: 'store', object: 'frame', nth: 1 }));
    expect(guest.typed(8)).toBe('descriptors 1');
    expect(guest.asks('pinL3', { frame: OTHER_ROOT }, toolstack)).toBe('EINVAL');
    expect(loading.run()).toMatchObject({ reply: { status: 'ok' } });
    guest.m.finish(loading);
    expect(guest.typed(8)).toBe('descriptors 1 valid');
  });

  it('is let go of with its guest', () => {
    const guest = Guest.running();
    load(guest, [8, 9]);
    const mfn = guest.mfn(8);
    expect(guest.by(toolstack, { kind: 'memory.killDomain', target: DOM as DomId }).status).toBe('ok');
    expect([guest.m.f.frameOwner.get(mfn), guest.m.f.frameRefs.get(mfn)]).toEqual([0, 0]);
  });
});

describe('an LDT', () => {
  const set = (guest: Guest, page: number, entries: number): string =>
    guest.by(vcpu, { kind: 'pv.setLdt', page: page as Gfn, entries }).status;
  const segment = (guest: Guest, index: number) => guest.by(vcpu, { kind: 'pv.loadSegment', index });
  /** Linear frames 0 and 1 are frames that can be descriptors. */
  const mapped = (): Guest => {
    const guest = Guest.running();
    for (const [index, frame] of [8, 9].entries()) guest.update(LEAVES, index, guest.entry(frame, { lo: bits.P + bits.U })); // prettier-ignore
    write(guest, 8, CODE);
    return guest;
  };

  it('has its frames held from the first load on, whatever becomes of the entries', () => {
    const guest = mapped();
    expect([set(guest, 0, 8), guest.typed(8)]).toEqual(['ok', 'writable 0 valid']);
    expect(segment(guest, 1)).toMatchObject({ status: 'ok', words: [FIT] });
    expect([guest.typed(8), guest.refs(8), guest.typed(9)]).toEqual(['descriptors 1 valid', 3, 'none 0']);
    expect(guest.update(LEAVES, 0, { lo: 0, hi: 0 })).toBe('ok');
    expect([segment(guest, 1).status, guest.refs(8)]).toEqual(['ok', 2]);
    expect([set(guest, 1, 4), guest.typed(8), guest.refs(8)]).toEqual(['ok', 'descriptors 0 valid', 1]);
  });

  it('is left with another root', () => {
    const guest = mapped();
    set(guest, 0, 8);
    segment(guest, 0);
    guest.word(OTHER_ROOT, 0, MIDDLE);
    expect([guest.asks('newBaseptr', { frame: OTHER_ROOT }), guest.typed(8), guest.refs(8)]).toEqual(['ok', 'descriptors 0 valid', 2]); // prettier-ignore
    expect([segment(guest, 0).status, guest.refs(8)]).toEqual(['ok', 3]);
  });

  it('faults where nothing is mapped, or nothing that can be descriptors', () => {
    const guest = mapped();
    expect([set(guest, 2, 8), segment(guest, 0), segment(guest, 8).status]).toMatchObject([
      'ok',
      { status: 'pageFault', out: [0], words: [{ lo: 0x2000, hi: 0 }] },
      'generalProtection',
    ]);
    guest.update(MORE, 0, { lo: 0, hi: 0 });
    expect([set(guest, 4, 8), segment(guest, 1)]).toMatchObject(['ok', { status: 'pageFault', words: [{ lo: 0x4008, hi: 0 }] }]); // prettier-ignore
  });

  it('has at most so many descriptors, and lies where the guest may name memory', () => {
    const guest = mapped();
    expect([set(guest, 0, 9), set(guest, 32, 8), set(guest, 32, 0), set(guest, 0, 8)]).toEqual(['EINVAL', 'EINVAL', 'ok', 'ok']); // prettier-ignore
    expect(guest.by(toolstack, { kind: 'pv.setLdt', page: 0 as Gfn, entries: 0 }).status).toBe('EINVAL');
    expect(guest.by(toolstack, { kind: 'pv.loadSegment', index: 0 }).status).toBe('generalProtection');
  });

  it('is none when a vCPU begins', () => {
    const guest = mapped();
    set(guest, 0, 8);
    guest.by(toolstack, { kind: 'memory.killDomain', target: DOM as DomId });
    guest.by(toolstack, { kind: 'memory.createDomain', target: DOM as DomId, vcpus: 2, maxPages: 64, grantFrames: 0, guest: 'pv' }); // prettier-ignore
    const key = DOM * guest.m.geometry.capacity.vcpusPerDomain;
    expect([guest.m.f.vcpuLdtEntries.get(key), guest.m.f.vcpuLdtBase.getWide(key)]).toEqual([0, 0]);
  });
});
