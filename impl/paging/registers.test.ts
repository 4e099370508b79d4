// Registers of a vCPU and accesses through them, as calls: what is refused, what a change makes unusable, where an access is cut.
// Directed; what tables say is in linear-walker.test.ts. A first reader may skip nothing.

import { describe, expect, it } from 'vitest';
import type { Gfn } from '#abi/address.ts';
import { controls, type Control } from '#abi/paging.ts';
import { vendors } from '#abi/vendor.ts';
import { bits, frameOf, Guest, KEY, LEAVES, MIDDLE, NOWHERE, READ_ONLY, TOP } from './guest.testing.ts';
import { hasControl, resetRegisters } from './registers.ts';

const HIGH = 2 ** 52;
const REFUSED = 'generalProtection';

/** A guest with these controls on and no others. */
function having(vendor: (typeof vendors)[number], on: readonly Control[]): Guest {
  const guest = new Guest(vendor);
  guest.m.f.vcpuControls.set(KEY, 0);
  return guest.turnOn(...on);
}

const turn = (guest: Guest, control: Control, to: 'on' | 'off'): string =>
  guest.does({ kind: 'paging.setControl', control, to }).reply.status;

const setRoot = (guest: Guest, gfn: number, pcid = 0, flush: 'flushing' | 'keeping' = 'flushing'): string =>
  guest.does({ kind: 'paging.setRoot', gfn: gfn as Gfn, pcid, flush }).reply.status;

describe.each(vendors)('controls with %s', (vendor) => {
  it.each<readonly [on: readonly Control[], pcid: number, change: readonly [Control, 'on' | 'off'], status: string]>([
    [[], 0, ['paging', 'on'], 'ok'],
    [['paging'], 0, ['paging', 'off'], 'ok'],
    [['paging', 'pcids'], 0, ['paging', 'off'], REFUSED],
    [['paging', 'pcids'], 0, ['paging', 'on'], 'ok'],
    [['paging', 'pcids'], 3, ['pcids', 'off'], 'ok'],
    [[], 0, ['pcids', 'on'], REFUSED],
    [['paging'], 3, ['pcids', 'on'], REFUSED],
    [['paging'], 0, ['pcids', 'on'], 'ok'],
    [[], 3, ['pcids', 'off'], 'ok'],
    [[], 0, ['smep', 'on'], 'ok'],
    [['paging', 'pcids'], 3, ['smap', 'on'], 'ok'],
    [['paging', 'pcids'], 3, ['writeProtect', 'off'], 'ok'],
  ])('%s, PCID %s: %s', (on, pcid, ...[[control, to], status]) => {
    const guest = having(vendor, on);
    guest.m.f.vcpuPcid.set(KEY, pcid);
    expect(turn(guest, control, to)).toBe(status);
    const after = controls.filter((one) => hasControl(guest.m, KEY, one));
    const expected = controls.filter((one) => (one === control && status === 'ok' ? to === 'on' : on.includes(one)));
    expect(after).toEqual(expected);
  });

  it.each<readonly [Control, isEndedOn: boolean, isEndedOff: boolean]>([
    ['paging', true, true],
    ['writeProtect', false, false],
    ['executeDisable', false, false],
    ['globalPages', true, true],
    ['pcids', false, true],
    ['smep', true, true],
    ['smap', false, false],
  ])('%s ends the use of what is remembered', (control, ...isEnded) => {
    const base: readonly Control[] = control === 'paging' ? [] : ['paging'];
    for (const [at, to] of (['on', 'off'] as const).entries()) {
      const guest = having(vendor, to === 'on' ? base : [...base, control]);
      const before = guest.m.f.pcpuAsid.get(0);
      turn(guest, control, to === 'on' ? 'off' : 'on');
      expect(guest.m.f.pcpuAsid.get(0)).toBe(before);
      turn(guest, control, to);
      expect(guest.m.f.pcpuAsid.get(0) !== before).toBe(isEnded[at]);
    }
  });

  it('and root and PCID are clear in a vCPU that begins', () => {
    const guest = new Guest(vendor).turnOn('smap');
    guest.m.f.vcpuPcid.set(KEY, 3);
    resetRegisters(guest.m, KEY);
    const { f } = guest.m;
    expect([f.vcpuControls.get(KEY), f.vcpuRoot.getWide(KEY), f.vcpuPcid.get(KEY)]).toEqual([0, 0, 0]);
  });
});

describe.each(vendors)('a root with %s', (vendor) => {
  it.each([
    [2 ** 34 - 1, 0, 'flushing', false, 'ok', 0],
    [2 ** 34, 0, 'flushing', false, REFUSED, 7],
    [LEAVES, 3, 'flushing', false, 'ok', 0],
    [LEAVES, 3, 'keeping', false, REFUSED, 7],
    [LEAVES, 3, 'keeping', true, 'ok', 3],
    [LEAVES, 3, 'flushing', true, 'ok', 3],
    [2 ** 34, 3, 'keeping', true, REFUSED, 7],
  ] as const)('at %s, PCID %s, %s, with PCIDs %s: %s', (gfn, pcid, flush, ...[hasPcids, status, after]) => {
    const guest = having(vendor, hasPcids ? ['paging', 'pcids'] : ['paging']);
    guest.m.f.vcpuPcid.set(KEY, 7);
    expect(setRoot(guest, gfn, pcid, flush)).toBe(status);
    expect([guest.m.f.vcpuRoot.getWide(KEY), guest.m.f.vcpuPcid.get(KEY)]).toEqual([
      status === 'ok' ? gfn : TOP,
      after,
    ]);
  });

  it('that is loaded makes the processor forget what is of its PCID, unless it is to keep it', () => {
    const answers = (
      [
        [0, 'flushing'],
        [0, 'keeping'],
        [1, 'flushing'],
      ] as const
    ).map(([pcid, flush]) => {
      // prettier-ignore
      const guest = new Guest(vendor).turnOn('pcids');
      guest.read(0);
      setRoot(guest, TOP, pcid, flush);
      guest.m.f.vcpuPcid.set(KEY, 0);
      return guest.read(0);
    });
    expect(answers).toEqual(['gfn 0 walked', 'gfn 0 page', 'gfn 0 page']);
    const plain = new Guest(vendor);
    plain.read(0);
    setRoot(plain, TOP, 5);
    expect(plain.read(0)).toBe('gfn 0 walked');
  });
});

describe.each(vendors)('an access with %s', (vendor) => {
  it('is for vCPUs', () => {
    const op = { kind: 'paging.setControl', control: 'smep', to: 'on' } as const;
    expect(new Guest(vendor).does(op, { kind: 'toolstack' }).reply.status).toBe('EPERM');
  });

  it('that straddles two frames is translated twice, and refused for the second with its address', () => {
    const guest = new Guest(vendor).entry(LEAVES, 2, 2, { lo: 0 });
    const { m } = guest;
    guest.word(frameOf(0), 3, 0x1111_1111, 0x2222_2222);
    guest.word(frameOf(1), 0, 0x3333_3333, 0x4444_4444);
    const read = guest.does({ kind: 'paging.read', gfn: 0 as Gfn, offset: 28, size: 8, via: 0, as: 'user' });
    expect([read.reply.status, read.reply.words]).toEqual(['ok', [{ lo: 0x2222_2222, hi: 0x3333_3333 }]]);
    expect(read.how.filter((one) => one !== 'cached' && one !== 'walked').at(-1)).toBe('level 2');
    expect([guest.read(1, { offset: 28 }), guest.write(1, { offset: 30 })]).toEqual(['fault 0 at 0:2000', 'fault 2 at 0:2000']); // prettier-ignore
    expect([guest.read(2, { offset: 28 }), guest.read(2, { offset: 4, size: 1 })]).toEqual(['fault 0 at 0:201c', 'fault 0 at 0:2004']); // prettier-ignore
    expect(guest.read(0, { offset: 64 })).toBe('fault 0 at 0:2000');
    // Nothing of what was refused is written.
    expect(m.f.memory.get(8 * frameOf(1) + 7)).toBe(0);
  });

  it.each([
    [31, 0, 'fault'],
    [31, 28, REFUSED],
    [32, 0, REFUSED],
    [HIGH - 33, 0, REFUSED],
    [HIGH - 33, 28, REFUSED],
    [HIGH - 32, 0, 'gfn'],
    [HIGH - 1, 28, 'fault'],
  ])('at %s+%s: %s', (page, offset, seen) => {
    // Half of all linear frames is under the third entry of the root.
    const guest = new Guest(vendor).entry(TOP, 2, MIDDLE);
    expect(guest.read(page, { offset }).split(' ')[0]).toBe(seen);
  });

  it('tells a high address', () => {
    expect(new Guest(vendor).read(HIGH - 1, { offset: 8 })).toBe('fault 0 at ffffffff:fffff008');
  });

  it('without paging is by gfn, frame by frame', () => {
    const guest = having(vendor, []);
    guest.word(frameOf(4), 3, 0x1111_1111, 0x2222_2222);
    guest.word(frameOf(5), 0, 0x3333_3333, 0x4444_4444);
    const ask = (gfn: number, offset: number, size = 8) => guest.does({ kind: 'paging.read', gfn: gfn as Gfn, offset, size, via: 0, as: 'user' }).reply; // prettier-ignore
    expect(ask(4, 28).words).toEqual([{ lo: 0x2222_2222, hi: 0x3333_3333 }]);
    expect(ask(3, 32 + 28, 4).words).toEqual([{ lo: 0x2222_2222, hi: 0 }]);
    expect(ask(40, 0)).toMatchObject({ status: 'violation', words: [{ lo: 0xffff_ffff, hi: 0xffff_ffff }], out: [] });
    expect(ask(NOWHERE, 0, 2)).toMatchObject({ status: 'violation', words: [{ lo: 0xffff, hi: 0 }] });
    expect([guest.write(READ_ONLY), guest.exchange(READ_ONLY), guest.fetch(READ_ONLY)].map((text) => text.split(/[ :]/u)[0])).toEqual(['violation', 'violation', 'gfn']); // prettier-ignore
    expect(guest.does({ kind: 'paging.write', gfn: NOWHERE as Gfn, offset: 0, size: 8, via: 0, as: 'user', value: { lo: 0, hi: 0 } }).reply.words).toEqual([]); // prettier-ignore
  });

  it('that compares writes only if all bytes that count are what was expected', () => {
    const guest = new Guest(vendor);
    const swap = (expected: { lo: number; hi: number }, size = 8) => guest.does({ kind: 'paging.compareExchange', gfn: 0 as Gfn, offset: 0, size, via: 0, as: 'user', expected, value: { lo: 7, hi: 8 } }).reply.words[0]; // prettier-ignore
    const old = { lo: 0x100, hi: 0 };
    expect([swap({ lo: 0x101, hi: 0 }), swap({ lo: 0x100, hi: 1 }), swap({ lo: 0x100, hi: 0 })]).toEqual([old, old, old]); // prettier-ignore
    expect(swap({ lo: 0xff07, hi: 1 }, 1)).toEqual({ lo: 7, hi: 0 });
    expect(swap({ lo: 7, hi: 8 })).toEqual({ lo: 7, hi: 8 });
    expect(guest.flags(LEAVES, 0)).toBe(bits.all + bits.A + bits.D);
  });
});
