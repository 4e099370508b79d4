// A paravirtual guest's processor: whose root it walks, what it tells of faults, what it forgets when; and the calls about roots.
// A first reader may skip this file.

import type { DomId, Gfn, Mfn } from '#abi/address.ts';
import { describe, expect, it } from 'vitest';
import { contextOf } from '../paging/context.ts';
import { ABSENT, entry, GUEST, guest, Machine, page, READ_ONLY, toolstack } from './guest.testing.ts';

const SELF = 0x7ff0 as DomId;

const booted = (): Machine => {
  const machine = new Machine();
  machine.boot();
  return machine;
};

const loadedBy = (machine: Machine): number => contextOf(machine.state, guest).loaded.length;

describe('a processor', () => {
  it('does not run without a root', () => {
    const machine = new Machine();
    expect(machine.schedule()).toBe('EINVAL');
    expect(machine.access('paging.read', 0, { choices: [] }).status).toBe('gone');
  });

  it('reads and writes what the tables give, and faults as if it were in a ring of its own', () => {
    const machine = booted();
    expect(machine.access('paging.write', 0).status).toBe('ok');
    expect(machine.access('paging.read', 0).words).toEqual([{ lo: 0x5a, hi: 0 }]);
    expect(machine.access('paging.write', 1)).toMatchObject({ status: 'pageFault', out: [3] });
    expect(machine.access('paging.write', 2)).toMatchObject({ status: 'pageFault', out: [3] });
    expect(machine.access('paging.read', 3)).toMatchObject({ status: 'pageFault', out: [0] });
    expect(machine.access('paging.read', 2).status).toBe('ok');
  });

  it('uses what it remembers, until the guest has it forgotten', () => {
    const machine = booted();
    machine.access('paging.read', 0);
    const [, , leaf] = contextOf(machine.state, guest).loaded;
    const { level = 0, gfn = 0 as Gfn, mfn = 0 as Mfn, rights = 0, guest: bits = 0 } = leaf ?? {};
    const choice = { kind: 'combined', leaf: true, level, gfn, mfn, rights, guest: bits } as const;
    const read = { kind: 'paging.read', gfn: 0 as Gfn, offset: 0, size: 1, via: 0, as: 'supervisor' } as const;
    expect(machine.call(guest, read, [choice]).status).toBe('ok');
    machine.extended(guest, 'invlpgLocal', page(0), { page: 0 as Gfn });
    expect(() => machine.call(guest, read, [choice])).toThrow('invalidated');
  });

  it('forgets all of its guest when a table above the lowest changes', () => {
    const machine = booted();
    machine.access('paging.read', 0);
    expect(loadedBy(machine)).toBe(3);
    expect(machine.update(guest, { mfn: page(2), index: 3 }, entry(page(5)))).toBe('ok');
    expect(loadedBy(machine)).toBe(3);
    expect(machine.update(guest, { mfn: page(1), index: 0 }, ABSENT)).toBe('ok');
    expect(loadedBy(machine)).toBe(0);
    expect(machine.frame(2)).toMatchObject({ type: 'l1', typeCount: 0, refs: 1 });
  });

  it('cannot have instructions that need ring 0', () => {
    const machine = booted();
    const control = { kind: 'paging.setControl', control: 'paging', to: 'off' } as const;
    const invpcid = { kind: 'tlb.invpcid', type: 'everything', pcid: 0, gfn: 0 as Gfn } as const;
    const setRoot = (gfn: number) => ({ kind: 'paging.setRoot', gfn: gfn as Gfn, pcid: 0, flush: 'flushing' }) as const;
    const status = (op: Parameters<Machine['call']>[1]): string => machine.call(guest, op).status;
    expect([status(control), status(invpcid), status(setRoot(page(2)))]).toEqual(
      Array.from({ length: 3 }, () => 'generalProtection'),
    );
    expect(status(setRoot(page(0)))).toBe('ok');
    expect(status({ kind: 'tlb.invlpg', gfn: 0 as Gfn })).toBe('ok');
  });
});

describe('roots', () => {
  it('of the user are needed by the user', () => {
    const machine = booted();
    expect(machine.extended(guest, 'newUserBaseptr', page(0))).toBe('ok');
    expect(machine.frame(0)).toMatchObject({ typeCount: 3, refs: 4 });
    expect(machine.access('paging.write', 1, { as: 'user' })).toMatchObject({ status: 'pageFault', out: [7] });
    expect(contextOf(machine.state, guest).isUser).toBe(true);
    expect(machine.extended(guest, 'newUserBaseptr', 0 as Mfn)).toBe('ok');
    expect(contextOf(machine.state, guest)).toMatchObject({ isUser: false, userRoot: 0 });
    expect(machine.access('paging.read', 0, { as: 'user', choices: [] }).status).toBe('gone');
    expect(machine.state.domains.get(GUEST)?.crashed).toBe(true);
  });

  it('have PCIDs of their own, if they are on: what each loaded stays, until it is flushed for both', () => {
    const machine = new Machine({ pvPcids: 'on' });
    machine.boot();
    machine.extended(guest, 'newUserBaseptr', page(0));
    machine.access('paging.read', 0);
    machine.access('paging.read', 0, { as: 'user' });
    const pcids = (): readonly number[] => contextOf(machine.state, guest).loaded.map(({ pcid }) => pcid);
    expect([pcids(), contextOf(machine.state, guest).pcid]).toEqual([[0, 0, 0, 1, 1, 1], 1]);
    machine.extended(guest, 'invlpgLocal', page(0), { page: 1 as Gfn });
    expect([pcids(), contextOf(machine.state, guest).pcid]).toEqual([[0, 1], 0]);
    machine.extended(guest, 'tlbFlushLocal', page(0));
    expect(pcids()).toEqual([]);
  });

  it('can be replaced, and go when nothing else keeps them', () => {
    const machine = booted();
    machine.update(guest, { mfn: page(6), index: 0 }, entry(page(1)));
    expect(machine.extended(guest, 'newBaseptr', page(6))).toBe('ok');
    expect(machine.frame(6)).toMatchObject({ type: 'l3', typeCount: 1, refs: 2 });
    expect(machine.frame(1).typeCount).toBe(2);
    machine.extended(guest, 'unpin', page(0));
    expect(machine.frame(0)).toMatchObject({ typeCount: 0, refs: 1 });
    expect(machine.access('paging.read', 0).status).toBe('ok');
  });

  it('are given to a vCPU once', () => {
    const machine = booted();
    const give = (frame: Mfn): string =>
      machine.call(toolstack, { kind: 'pv.setContext', target: GUEST, vcpu: guest.vcpu, frame, by: 'asker' }).status;
    expect([give(page(0)), give(page(1))]).toEqual(['ok', 'EOPNOTSUPP']);
    expect(machine.state.domains.get(GUEST)?.held).toBe(0);
  });
});

describe('a linear frame', () => {
  const remap = (machine: Machine, gfn: number, value = entry(page(5))): string =>
    machine.call(guest, {
      kind: 'pv.updateVaMapping',
      page: gfn as Gfn,
      value,
      flush: 'page',
      on: 'all',
      vcpus: 0,
      owner: SELF,
    }).status;

  it('is mapped otherwise', () => {
    const machine = booted();
    expect(remap(machine, 0)).toBe('ok');
    expect(machine.frame(3)).toMatchObject({ typeCount: 0, refs: 1 });
    expect(machine.frame(5)).toMatchObject({ type: 'writable', typeCount: 1, refs: 2 });
  });

  it('is none of the hypervisor, has tables, and leads to no writable table', () => {
    const machine = booted();
    expect([remap(machine, 2 ** 52 - 32), remap(machine, 16), remap(machine, 4), remap(machine, 1000)]).toEqual(
      Array.from({ length: 4 }, () => 'EINVAL'),
    );
    expect(remap(machine, 0, entry(page(0)))).toBe('EBUSY');
    expect(remap(machine, 0, entry(page(0), READ_ONLY))).toBe('ok');
  });
});
