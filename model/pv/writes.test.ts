// Writes of a guest's kernel to its own tables: what they come to, and when they are none that the hypervisor helps with.
// A first reader may skip this file.

import type { Gfn, Word } from '#abi/address.ts';
import type { Choice } from '#abi/choices.ts';
import { tableFlags } from '#abi/paging.ts';
import { describe, expect, it } from 'vitest';
import type { Progress } from '../progress.ts';
import { ABSENT, entry, guest, Machine, page, READ_ONLY, WRITABLE } from './guest.testing.ts';

const { global } = tableFlags;

const WALKED: readonly Choice[] = [{ kind: 'walked' }];

/** Linear frame 2 is the lowest table itself, for reading; its guest has asked that writes to it be made. */
function writer(): Machine {
  const machine = new Machine();
  machine.boot();
  machine.call(guest, { kind: 'pv.vmAssist', command: 'enable', assist: 'writablePagetables' });
  return machine;
}

const at = (offset: number, size: number) => ({ gfn: 2 as Gfn, offset, size, via: 15, as: 'supervisor' }) as const;

const write = (value: Word, { offset = 0, size = 8 } = {}): Progress['op'] => ({
  kind: 'paging.write',
  ...at(offset, size),
  value,
});

const exchange = (expected: Word, value: Word, { offset = 0, size = 8 } = {}): Progress['op'] => ({
  kind: 'paging.compareExchange',
  ...at(offset, size),
  expected,
  value,
});

describe('writable page tables', () => {
  it('take what is new, and let go of what was there', () => {
    const machine = writer();
    expect(machine.call(guest, write(entry(page(5))), WALKED).status).toBe('ok');
    expect(machine.word(2, 0)).toEqual(entry(page(5), WRITABLE + global));
    expect([machine.frame(3).typeCount, machine.frame(5).typeCount]).toEqual([0, 1]);
    expect(machine.call(guest, write(ABSENT), WALKED).status).toBe('ok');
    expect([machine.frame(5).typeCount, machine.frame(5).refs]).toEqual([0, 1]);
  });

  it('are written in part as well, the rest being as it is', () => {
    const machine = writer();
    expect(machine.call(guest, write({ lo: READ_ONLY, hi: 0 }, { size: 1 }), WALKED).status).toBe('ok');
    expect([machine.word(2, 0), machine.frame(3).typeCount]).toEqual([entry(page(3), READ_ONLY + global), 0]);
  });

  it('leave the guest with its fault where an update would be refused, or nothing is written at once', () => {
    const machine = writer();
    const faulted = { status: 'pageFault', out: [3] };
    expect(machine.call(guest, write(entry(page(1))), WALKED)).toMatchObject(faulted);
    expect(machine.call(guest, write(entry(page(5)), { offset: 4 }), WALKED)).toMatchObject(faulted);
    expect(machine.call(guest, write(entry(page(5)), { size: 3 }), WALKED)).toMatchObject(faulted);
    expect([machine.frame(1).refs, machine.frame(5).refs, machine.frame(2).locked]).toEqual([2, 1, false]);
  });

  it('are compared before they are exchanged', () => {
    const machine = writer();
    const there = machine.word(2, 0);
    expect(machine.call(guest, exchange(ABSENT, entry(page(5))), WALKED)).toMatchObject({
      status: 'ok',
      words: [there],
    });
    expect(machine.frame(5).typeCount).toBe(0);
    expect(machine.call(guest, exchange(there, entry(page(5))), WALKED)).toMatchObject({
      status: 'ok',
      words: [there],
    });
    expect([machine.frame(5).typeCount, machine.frame(3).typeCount]).toEqual([1, 0]);
    const low = exchange({ lo: 0xff, hi: 0 }, ABSENT, { size: 1 });
    expect(machine.call(guest, low, WALKED).words).toEqual([{ lo: WRITABLE % 0x100, hi: 0 }]);
  });

  it('are written by who has asked alone', () => {
    const machine = writer();
    machine.call(guest, { kind: 'pv.vmAssist', command: 'disable', assist: 'writablePagetables' });
    expect(machine.call(guest, write(ABSENT), WALKED).status).toBe('pageFault');
  });
});
