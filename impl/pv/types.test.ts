// What frames are typed as and how often: pins that look trees through and let go of them, entries that cannot be taken, counts that are
// full, and who waits for whom. Directed. A first reader may skip nothing.

import { describe, expect, it } from 'vitest';
import { stopAt } from '../execution.ts';
import { bits, DOM, Guest, LEAVES, machine, MIDDLE, MORE, OTHER_ROOT, ROOT, toolstack } from './guest.testing.ts';

const pinned = (guest: Guest, command: 'pinL1' | 'pinL2' | 'pinL3' | 'pinL4' | 'unpin', frame: number): string =>
  guest.asks(command, { frame }, toolstack);

describe('a tree', () => {
  it('is looked through when it is pinned, and let go of when it is not', () => {
    const guest = new Guest();
    const all = (): readonly string[] => [ROOT, MIDDLE, LEAVES, MORE, 0, 7, 8].map((frame) => `${guest.typed(frame)}, ${guest.refs(frame)}`); // prettier-ignore
    expect(pinned(guest, 'pinL3', ROOT)).toBe('ok');
    expect(all()).toEqual([
      'l3 1 valid pinned, 2',
      'l2 1 valid, 2',
      'l1 1 valid, 2',
      'l1 1 valid, 2',
      'writable 1 valid, 2',
      'writable 1 valid, 2',
      'none 0, 1',
    ]);
    expect([pinned(guest, 'pinL3', ROOT), pinned(guest, 'pinL2', ROOT), pinned(guest, 'pinL4', machine(99))]).toEqual(['EINVAL', 'EINVAL', 'ok']); // prettier-ignore
    expect([pinned(guest, 'unpin', MIDDLE), pinned(guest, 'unpin', ROOT), pinned(guest, 'unpin', ROOT)]).toEqual(['EINVAL', 'ok', 'EINVAL']); // prettier-ignore
    expect(all()).toEqual([
      'l3 0, 1',
      'l2 0, 1',
      'l1 0, 1',
      'l1 0, 1',
      'writable 0 valid, 1',
      'writable 0 valid, 1',
      'none 0, 1',
    ]);
  });

  it('has its entries made as they may be, and the slots of the hypervisor cleared', () => {
    const guest = new Guest();
    guest.word(LEAVES, 0, 0, { lo: bits.P }).word(LEAVES, 1, 1, { lo: bits.P + bits.G, hi: 2 ** 20 });
    guest.word(ROOT, 2, 5).word(MIDDLE, 0, LEAVES, { lo: bits.P });
    expect(pinned(guest, 'pinL3', ROOT)).toBe('ok');
    expect([guest.flags(LEAVES, 0), guest.flags(LEAVES, 1), guest.flags(LEAVES, 2)]).toEqual([
      [bits.P + bits.U, 2 ** 20],
      [bits.P + bits.U + bits.G, 2 ** 20],
      [bits.all + bits.G, 0],
    ]);
    expect([guest.flags(MIDDLE, 0), guest.flags(ROOT, 0)]).toEqual([[bits.P + bits.U, 0], [bits.all + bits.A, 0]]); // prettier-ignore
    expect([guest.m.f.memory.get(8 * guest.mfn(ROOT) + 4), guest.typed(5)]).toEqual([0, 'writable 1 valid']);
  });
});

describe('a table that is not looked through to its end', () => {
  it.each<readonly [string, string, (guest: Guest) => void, kept: readonly [table: string, of: string]]>([
    ['maps another table writable', 'EBUSY', (g) => g.word(LEAVES, 3, OTHER_ROOT), ['none 0', 'none 0']],
    ['maps itself writable', 'EBUSY', (g) => g.word(LEAVES, 3, LEAVES), ['none 0', 'none 0']],
    [
      'maps the frame of a domain structure',
      'EBUSY',
      (g) => g.word(LEAVES, 3, machine(g.m.f.domStructure.get(DOM))),
      ['none 0', 'none 0'],
    ],
    ['maps nobody’s frame', 'EBUSY', (g) => g.word(LEAVES, 3, machine(90)), ['none 0', 'none 0']],
    ['maps a device', 'EPERM', (g) => g.word(LEAVES, 3, machine(100)), ['none 0', 'none 0']],
    [
      'has a flag that it may not have',
      'EINVAL',
      (g) => g.word(LEAVES, 3, 3, { lo: bits.all + bits.PCD }),
      ['none 0', 'none 0'],
    ],
    ['leads first to what is no table', 'EINVAL', (g) => g.word(MIDDLE, 0, MIDDLE), ['none 0', 'none 0']],
    ['leads then to what is no table', 'EINVAL', (g) => g.word(MIDDLE, 1, MIDDLE), ['l1 0', 'l2 0']],
    [
      'leads then to a superpage',
      'EINVAL',
      (g) => g.word(MIDDLE, 1, MORE, { lo: bits.all + bits.PAT }),
      ['l1 0', 'l2 0'],
    ],
  ])('because it %s: %s', (_, errno, change, [table, middle]) => {
    const guest = new Guest();
    change(guest);
    pinned(guest, 'pinL1', OTHER_ROOT);
    expect(pinned(guest, 'pinL2', MIDDLE)).toBe(errno);
    expect([guest.typed(LEAVES), guest.typed(MIDDLE)]).toEqual([table, middle]);
    for (const frame of [LEAVES, MIDDLE, 0, 1, 2]) expect(guest.refs(frame)).toBe(1);
    expect(guest.typed(0)).toMatch(/^(?:none 0|writable 0 valid)$/u);
  });

  it('cannot be pinned in the name of a device that it may not have, and can with one', () => {
    const guest = new Guest();
    const device = machine(100);
    guest.word(LEAVES, 3, device);
    expect(pinned(guest, 'pinL1', LEAVES)).toBe('EPERM');
    guest.m.f.domIomem.set(DOM * 16 + 4, 1);
    expect(pinned(guest, 'pinL1', LEAVES)).toBe('ok');
    expect(guest.flags(LEAVES, 3)[0]).toBe(bits.all + bits.G + bits.PWT + bits.PCD);
    expect(pinned(guest, 'unpin', LEAVES)).toBe('ok');
  });
});

describe('counts', () => {
  it('are never more than they can say', () => {
    const guest = new Guest({ width: { typeCount: 2 } });
    for (let index = 0; index < 4; index += 1) guest.word(LEAVES, index, 0);
    expect([pinned(guest, 'pinL1', LEAVES), guest.typed(0), guest.refs(0)]).toEqual(['EBUSY', 'writable 0 valid', 1]);
    guest.word(LEAVES, 3, 0, { lo: bits.P });
    expect([pinned(guest, 'pinL1', LEAVES), guest.typed(0), guest.refs(0)]).toEqual(['ok', 'writable 3 valid', 5]);
    // Its page cannot be locked, nor another use be had.
    expect([guest.update(0, 0, { lo: 1, hi: 0 }), guest.update(0, 0, { lo: 1, hi: 0 })]).toEqual(['EINVAL', 'EINVAL']);
  });

  it('of references, too', () => {
    const guest = new Guest({ width: { refCount: 3 } });
    for (let index = 0; index < 4; index += 1) guest.word(LEAVES, index, 0).word(MORE, index, 0);
    expect([pinned(guest, 'pinL1', LEAVES), pinned(guest, 'pinL1', MORE)]).toEqual(['ok', 'EBUSY']);
    expect([guest.refs(0), guest.typed(0)]).toEqual([5, 'writable 4 valid']);
  });
});

describe('whoever comes by while a table is looked through', () => {
  const pin = (guest: Guest) => guest.start(toolstack, guest.extended([{ command: 'pinL1', frame: LEAVES as never }]));

  it('waits, and finds it valid', () => {
    const guest = new Guest();
    const first = pin(guest);
    expect(first.run(stopAt(guest.m.port, { class: 'load', object: 'table', nth: 2 })).kind).toBe('paused');
    expect(guest.typed(LEAVES)).toBe('l1 1');
    const other = guest.start(toolstack, guest.extended([{ command: 'pinL2', frame: MIDDLE as never }]));
    expect(other.run(() => false)).toEqual({ kind: 'blocked', slot: first.slot });
    expect([first.run().kind, other.run().kind]).toEqual(['done', 'done']);
    expect([guest.typed(LEAVES), guest.typed(MIDDLE)]).toEqual(['l1 2 valid pinned', 'l2 1 valid pinned']);
  });

  it('waits while it is let go of, and looks it through again', () => {
    const guest = new Guest();
    pinned(guest, 'pinL1', LEAVES);
    const first = guest.start(toolstack, guest.extended([{ command: 'unpin', frame: LEAVES as never }]));
    first.run(stopAt(guest.m.port, { class: 'load', object: 'table', nth: 1 }));
    const other = pin(guest);
    expect(other.run(() => false).kind).toBe('blocked');
    expect([first.run().kind, other.run().kind, guest.typed(LEAVES)]).toEqual(['done', 'done', 'l1 1 valid pinned']);
  });

  it('cannot write it meanwhile', () => {
    const guest = new Guest();
    const first = pin(guest);
    first.run(stopAt(guest.m.port, { class: 'load', object: 'table', nth: 2 }));
    expect(guest.update(LEAVES, 0, { lo: 0, hi: 0 })).toBe('EINVAL');
    first.run();
    expect(guest.update(LEAVES, 0, { lo: 0, hi: 0 })).toBe('ok');
  });

  it('does not end the last use of a page that is locked', () => {
    const guest = new Guest();
    pinned(guest, 'pinL1', LEAVES);
    const first = guest.start(toolstack, guest.updates([{ frame: LEAVES as never, index: 0 }]));
    first.run(stopAt(guest.m.port, { class: 'load', object: 'table', nth: 1 }));
    const other = guest.start(toolstack, guest.extended([{ command: 'unpin', frame: LEAVES as never }]));
    expect(other.run(() => false)).toEqual({ kind: 'blocked', slot: first.slot });
    expect([first.run().kind, other.run().kind, guest.typed(LEAVES)]).toEqual(['done', 'done', 'l1 0']);
    expect(guest.refs(OTHER_ROOT)).toBe(1);
  });
});
