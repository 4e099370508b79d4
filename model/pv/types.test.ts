// What a frame is used as: tables found fit and let go of, what is refused, and counts that are full.
// A first reader may skip this file.

import type { DomId, Gfn, Mfn, VcpuId } from '#abi/address.ts';
import { walkRight } from '#abi/rights.ts';
import { describe, expect, it } from 'vitest';
import { authority } from '../isolation.ts';
import { ownGfn } from '../p2m.ts';
import { ABSENT, entry, GUEST, guest, Machine, page, READ_ONLY, toolstack, WRITABLE } from './guest.testing.ts';

const booted = (parts: ConstructorParameters<typeof Machine>[0] = {}): Machine => {
  const machine = new Machine(parts);
  machine.boot();
  return machine;
};

describe('memory', () => {
  it('is called by its guest what it was populated as', () => {
    const machine = new Machine();
    expect(machine.frame(5)).toMatchObject({ type: 'none', typeCount: 0, refs: 1, pseudo: 5 });
    expect(ownGfn(machine.state, page(5))).toBe(5);
    expect(machine.state.domains.get(GUEST)?.p2m.size).toBe(0);
  });

  it('is given back by frame, and stays while a table refers to it', () => {
    const machine = booted();
    const decrease = (mfn: number): string =>
      machine.call(guest, {
        kind: 'memory.decrease',
        target: GUEST,
        extents: { by: 'value', gfns: [mfn as Gfn] },
        order: 0,
        start: 0,
      }).status;
    expect([decrease(page(3)), decrease(page(9)), decrease(page(9)), decrease(4096)]).toEqual([
      'ok',
      'ok',
      'ENXIO',
      'EINVAL',
    ]);
    expect(machine.frame(3)).toMatchObject({ role: 'ram', refs: 1, allocated: false });
    expect(machine.frame(9).role).toBe('free');
    machine.update(guest, { mfn: page(2), index: 0 }, ABSENT);
    expect(machine.frame(3)).toMatchObject({ role: 'free', type: 'none', pseudo: undefined });
  });

  it('has its shared page typed, and keeps it', () => {
    const machine = new Machine();
    expect(machine.state.frames.get(4)).toMatchObject({ role: 'sharedInfo', type: 'writable', typeCount: 1 });
    expect(machine.extended(toolstack, 'pinL1', 4 as Mfn)).toBe('EINVAL');
    expect(machine.extended(toolstack, 'pinL1', 3 as Mfn)).toBe('EINVAL');
  });
});

describe('a tree', () => {
  it('is typed from its pin down', () => {
    const machine = booted();
    expect([0, 1, 2, 3, 4].map((n) => machine.frame(n).type)).toEqual(['l3', 'l2', 'l1', 'writable', 'none']);
    expect([0, 1, 2, 3, 4].map((n) => machine.frame(n).typeCount)).toEqual([2, 1, 1, 1, 0]);
    expect(machine.frame(0).pinned).toBe(true);
    expect(machine.word(0, 0)).toEqual(entry(page(1)));
  });

  it('is taken apart when nothing keeps it', () => {
    const machine = new Machine();
    machine.boot();
    machine.call(toolstack, { kind: 'memory.killDomain', target: GUEST });
    expect([0, 1, 2, 3, 4].map((n) => machine.frame(n).role)).toEqual(Array.from({ length: 5 }, () => 'free'));
    expect(machine.state.domains.has(GUEST)).toBe(false);
  });

  it('has its entries marked as those of the guest kernel or user, and the hypervisor has its slots', () => {
    const machine = new Machine();
    machine.update(toolstack, { mfn: page(2), index: 0 }, entry(page(3), WRITABLE - 4));
    machine.update(toolstack, { mfn: page(2), index: 1 }, entry(page(4), WRITABLE));
    machine.update(toolstack, { mfn: page(0), index: 2 }, entry(page(9)));
    expect(machine.extended(toolstack, 'pinL1', page(2))).toBe('ok');
    expect(machine.extended(toolstack, 'pinL3', page(0))).toBe('ok');
    expect(machine.word(2, 0)).toEqual({ lo: page(3) * 0x1000 + WRITABLE, hi: 2 ** 20 });
    expect(machine.word(2, 1)).toEqual({ lo: page(4) * 0x1000 + WRITABLE + 0x100, hi: 0 });
    expect(machine.word(0, 2)).toEqual(ABSENT);
    expect(machine.update(toolstack, { mfn: page(0), index: 2 }, ABSENT)).toBe('EINVAL');
  });

  it('loses its types with its pin', () => {
    const machine = new Machine();
    machine.update(toolstack, { mfn: page(2), index: 0 }, entry(page(3)));
    machine.extended(toolstack, 'pinL1', page(2));
    expect(machine.extended(toolstack, 'pinL1', page(2))).toBe('EINVAL');
    expect(machine.extended(toolstack, 'unpin', page(2))).toBe('ok');
    expect(machine.extended(toolstack, 'unpin', page(2))).toBe('EINVAL');
    expect(machine.frame(2)).toMatchObject({ type: 'l1', typeCount: 0, validated: false, refs: 1 });
    expect(machine.frame(3)).toMatchObject({ type: 'writable', typeCount: 0, validated: true, refs: 1 });
  });
});

describe('what is unfit', () => {
  it('is a table that leads to a writable table, and nothing is kept of it', () => {
    const machine = new Machine();
    machine.update(toolstack, { mfn: page(2), index: 0 }, entry(page(3)));
    machine.update(toolstack, { mfn: page(2), index: 3 }, entry(page(2)));
    expect(machine.extended(toolstack, 'pinL1', page(2))).toBe('EBUSY');
    expect(machine.frame(2)).toMatchObject({ type: 'none', typeCount: 0, refs: 1, pinned: false });
    expect(machine.frame(3)).toMatchObject({ typeCount: 0, refs: 1 });
  });

  it('keeps its type above the lowest level where an entry was tried before', () => {
    const machine = new Machine();
    machine.update(toolstack, { mfn: page(1), index: 1 }, entry(4000));
    expect(machine.extended(toolstack, 'pinL2', page(1))).toBe('EINVAL');
    expect(machine.frame(1)).toMatchObject({ type: 'l2', typeCount: 0, validated: false });
    machine.update(toolstack, { mfn: page(1), index: 0 }, entry(4000));
    expect(machine.extended(toolstack, 'pinL2', page(1))).toBe('EINVAL');
    expect(machine.frame(1).type).toBe('none');
  });

  it('is a writable entry for a table, and a table as memory', () => {
    const machine = booted();
    expect(machine.update(guest, { mfn: page(2), index: 3 }, entry(page(1)))).toBe('EBUSY');
    expect(machine.update(guest, { mfn: page(2), index: 3 }, entry(page(1), READ_ONLY))).toBe('ok');
    expect(machine.update(guest, { mfn: page(2), index: 0 }, entry(page(3), WRITABLE + 0x10))).toBe('EINVAL');
    expect(machine.update(guest, { mfn: page(2), index: 0 }, entry(100))).toBe('EPERM');
    expect(machine.extended(guest, 'clearPage', page(2))).toBe('EINVAL');
    expect(machine.extended(guest, 'pinL1', page(3))).toBe('EINVAL');
  });

  it('is one use more than a count can hold', () => {
    const machine = booted({ width: { typeCount: 2 } });
    expect(machine.update(guest, { mfn: page(2), index: 1 }, entry(page(3)))).toBe('ok');
    expect(machine.update(guest, { mfn: page(2), index: 2 }, entry(page(3)))).toBe('ok');
    expect(machine.frame(3).typeCount).toBe(3);
    expect(machine.update(guest, { mfn: page(2), index: 3 }, entry(page(3)))).toBe('EBUSY');
    expect(machine.frame(3)).toMatchObject({ typeCount: 3, refs: 4 });
  });
});

describe('authority', () => {
  const rights = (machine: Machine, n: number): readonly (readonly [string, number])[] =>
    authority(machine.state, page(n)).map(({ why, rights: bits }) => [why, bits] as const);

  it('goes with the type', () => {
    const machine = booted();
    expect(rights(machine, 2)).toEqual([['own', 5 + walkRight(1)]]);
    expect(rights(machine, 0)).toEqual([['own', 5 + walkRight(3)]]);
    expect(rights(machine, 3)).toEqual([['own', 7]]);
    expect(authority(machine.state, 3 as Mfn)).toEqual([]);
  });

  it('outlives a frame on the heap until the next flush, if flushes are lazy', () => {
    const machine = booted({ flush: 'lazy' });
    const extents = { by: 'value', gfns: [page(3) as number as Gfn] } as const;
    machine.call(guest, { kind: 'memory.decrease', target: GUEST, extents, order: 0, start: 0 });
    machine.update(guest, { mfn: page(2), index: 0 }, ABSENT);
    expect(rights(machine, 3)).toEqual([['stale', 7]]);
    machine.extended(guest, 'tlbFlushLocal', page(0));
    expect(rights(machine, 3)).toEqual([]);
  });
});

describe('who is no paravirtual guest', () => {
  it('has no such calls, but for pins and updates of the control domain', () => {
    const machine = new Machine();
    const kernel = { kind: 'vcpu', domain: 0 as DomId, vcpu: 0 as VcpuId } as const;
    expect(machine.extended(toolstack, 'newBaseptr', page(0))).toBe('EOPNOTSUPP');
    expect(machine.call(kernel, { kind: 'pv.mmuUpdate', elements: [], owner: GUEST, start: 0 }).status).toBe('gone');
    const elements = [{ command: 'normal', frame: page(0), index: 0, value: ABSENT }] as const;
    expect(machine.call(toolstack, { kind: 'pv.mmuUpdate', elements, owner: 0 as DomId, start: 0 }).status).toBe(
      'ESRCH',
    );
    expect(machine.call(toolstack, { kind: 'pv.mmuUpdate', elements, owner: 0x7ff0 as DomId, start: 0 }).status).toBe(
      'EOPNOTSUPP',
    );
  });
});
