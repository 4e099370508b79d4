// Tables that lead to tables of their own level: what is counted where, also when it is refused, raced for, or left partial.
// Directed. A first reader may skip nothing.

import { describe, expect, it } from 'vitest';
import { DOMID_SELF } from '#abi/address.ts';
import { stopAt } from '../execution.ts';
import { bits, Guest, LEAVES, MIDDLE, OTHER_ROOT, ROOT, toolstack, vcpu } from './guest.testing.ts';
import { linearOf } from './linear.ts';

const READ = bits.P + bits.U;
const NOTHING = { lo: 0, hi: 0 };

/** A guest with two pinned roots; the other one leads to the same table. */
function guestOf(width = {}): Guest {
  const guest = new Guest({ linear: true, width });
  guest.word(OTHER_ROOT, 0, MIDDLE);
  for (const frame of [ROOT, OTHER_ROOT]) guest.asks('pinL3', { frame }, toolstack);
  return guest;
}

const link = (guest: Guest, from: number, to: number, { lo = READ as number, index = 1 } = {}): string =>
  guest.update(from, index, guest.entry(to, { lo }));

const said = (guest: Guest, ...frames: readonly number[]): readonly string[] =>
  frames.map((frame) => `${guest.typed(frame)}, ${guest.refs(frame)}, ${linearOf(guest.m, guest.mfn(frame))}`);

describe('a linear entry', () => {
  it('is counted in both tables, and its table once more as what it is', () => {
    const guest = guestOf();
    expect(link(guest, OTHER_ROOT, ROOT)).toBe('ok');
    expect(said(guest, ROOT, OTHER_ROOT)).toEqual(['l3 2 valid pinned, 3, -1', 'l3 1 valid pinned, 2, 1']);
    expect(guest.update(OTHER_ROOT, 1, NOTHING)).toBe('ok');
    expect(said(guest, ROOT, OTHER_ROOT)).toEqual(['l3 1 valid pinned, 2, 0', 'l3 1 valid pinned, 2, 0']);
  });

  it('to its own table is counted nowhere', () => {
    const guest = guestOf();
    expect([link(guest, ROOT, ROOT), link(guest, MIDDLE, MIDDLE, { index: 3 })]).toEqual(['ok', 'ok']);
    expect(said(guest, ROOT, MIDDLE)).toEqual(['l3 1 valid pinned, 2, 0', 'l2 2 valid, 3, 0']);
    guest.asks('unpin', { frame: ROOT }, toolstack);
    guest.asks('unpin', { frame: OTHER_ROOT }, toolstack);
    expect(said(guest, ROOT, MIDDLE)).toEqual(['l3 0, 1, 0', 'l2 0, 1, 0']);
  });

  it.each<readonly [string, (guest: Guest) => string]>([
    ['may be written through', (guest) => link(guest, ROOT, ROOT, { lo: bits.all })],
    ['leads to a table of another level', (guest) => link(guest, ROOT, LEAVES)],
    ['leads to what is no table of any', (guest) => link(guest, ROOT, 8)],
    ['stands in a table that is led to so', (guest) => `${link(guest, OTHER_ROOT, ROOT)}, ${link(guest, ROOT, OTHER_ROOT)}`], // prettier-ignore
  ])('is refused and counted nowhere when it %s', (_, act) => {
    const guest = guestOf();
    if (act(guest) === 'ok, EINVAL') guest.update(OTHER_ROOT, 1, NOTHING);
    expect(said(guest, ROOT, OTHER_ROOT, LEAVES)).toEqual(['l3 1 valid pinned, 2, 0', 'l3 1 valid pinned, 2, 0', 'l1 1 valid, 2, 0']); // prettier-ignore
  });

  it('is refused when a count is full', () => {
    const guest = guestOf({ linear: 2 });
    expect([link(guest, OTHER_ROOT, ROOT), link(guest, OTHER_ROOT, ROOT, { index: 3 })]).toEqual(['ok', 'EINVAL']);
    expect(said(guest, ROOT, OTHER_ROOT)).toEqual(['l3 2 valid pinned, 3, -1', 'l3 1 valid pinned, 2, 1']);
  });

  it('is refused when the table that it leads to goes meanwhile', () => {
    const guest = guestOf();
    const value = guest.entry(ROOT, { lo: READ });
    const making = guest.start(toolstack, guest.updates([{ frame: OTHER_ROOT as never, index: 1, value }]));
    // Past the page, the type of the level below, the page again: before the entry is counted.
    making.run(stopAt(guest.m.port, { class: 'reference', object: 'frame', nth: 5 }));
    expect(guest.asks('unpin', { frame: ROOT })).not.toBe('ok');
    guest.asks('unpin', { frame: ROOT }, toolstack);
    expect(making.run()).toMatchObject({ reply: { status: 'EINVAL' } });
    guest.m.finish(making);
    expect(said(guest, ROOT, OTHER_ROOT)).toEqual(['l3 0, 1, 0', 'l3 1 valid pinned, 2, 0']);
  });
});

describe('a tree with linear entries', () => {
  it('that is stopped in is no longer led to so, and is gone on with', () => {
    const guest = Guest.running({ linear: true });
    // Two tables of level 2: one leads to the other, which then is used by nothing else.
    guest.word(8, 0, 9).word(8, 1, 10);
    expect([guest.asks('pinL2', { frame: 8 }), guest.asks('pinL2', { frame: OTHER_ROOT })]).toEqual(['ok', 'ok']);
    expect([link(guest, OTHER_ROOT, 8, { index: 3 }), guest.asks('unpin', { frame: 8 })]).toEqual(['ok', 'ok']);
    expect(said(guest, 8, OTHER_ROOT)).toEqual(['l2 1 valid, 2, -1', 'l2 1 valid pinned, 2, 1']);
    const unpin = guest.extended([{ command: 'unpin', frame: OTHER_ROOT as never }], { owner: DOMID_SELF });
    expect(guest.does(vcpu, unpin, 1).reply.status).toBe('preempted');
    expect(said(guest, 8, OTHER_ROOT)).toEqual(['l2 1, 3, 0', 'l2 1, 3, 0']);
    expect(guest.asks('tlbFlushLocal')).toBe('ok');
    expect(said(guest, 8, OTHER_ROOT)).toEqual(['l2 0, 1, 0', 'l2 0, 1, 0']);
  });
});
