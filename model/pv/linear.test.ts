// Tables that lead to tables of their own level: which may, what counts, and what a processor makes of them.
// A first reader may skip this file.

import { walkRight } from '#abi/rights.ts';
import { describe, expect, it } from 'vitest';
import { authority } from '../isolation.ts';
import { ABSENT, entry, GUEST, guest, Machine, page, READ_ONLY, toolstack, WRITABLE } from './guest.testing.ts';

const booted = (parts: ConstructorParameters<typeof Machine>[0] = {}): Machine => {
  const machine = new Machine({ pvLinear: 'on', ...parts });
  machine.boot();
  return machine;
};

/** Another root that is pinned: page 8. */
function withSecond(machine: Machine): Machine {
  machine.update(toolstack, { mfn: page(8), index: 0 }, entry(page(1)));
  machine.extended(toolstack, 'pinL3', page(8));
  return machine;
}

const counts = (machine: Machine, ...pages: readonly number[]): readonly (readonly number[])[] =>
  pages.map((n) => {
    const { typeCount, refs, linear } = machine.frame(n);
    return [typeCount, refs, linear];
  });

describe('a linear entry', () => {
  it('is refused where tables may not be linear, and when it may be written through', () => {
    const off = new Machine();
    off.boot();
    expect(off.update(guest, { mfn: page(0), index: 1 }, entry(page(0), READ_ONLY))).toBe('EINVAL');
    const machine = booted();
    expect(machine.update(guest, { mfn: page(0), index: 1 }, entry(page(0), WRITABLE))).toBe('EINVAL');
    expect(machine.update(guest, { mfn: page(2), index: 3 }, entry(page(2), READ_ONLY))).toBe('ok');
    expect(machine.frame(2).linear).toBe(0);
  });

  it('to the table that it stands in is no use of it', () => {
    const machine = booted();
    const before = counts(machine, 0);
    expect(machine.update(guest, { mfn: page(0), index: 1 }, entry(page(0), READ_ONLY))).toBe('ok');
    expect(counts(machine, 0)).toEqual(before);
    expect(machine.update(guest, { mfn: page(0), index: 1 }, ABSENT)).toBe('ok');
    expect(counts(machine, 0)).toEqual(before);
  });

  it('shows a guest its own tables, which it does not write', () => {
    const machine = booted();
    machine.update(guest, { mfn: page(0), index: 1 }, entry(page(0), READ_ONLY));
    // By the root as a table of level 2, and then as one of level 1: the frame of the table below it.
    expect(machine.access('paging.read', 16 + 4).status).toBe('ok');
    expect(machine.access('paging.write', 16 + 4).status).toBe('pageFault');
    const ways = authority(machine.state, page(0)).filter(({ domain }) => domain === GUEST);
    expect(ways.map(({ rights }) => rights)).toEqual([5 + walkRight(1) + walkRight(2) + walkRight(3)]);
  });

  it('to another table counts on both sides, and goes with the table', () => {
    const machine = withSecond(booted());
    expect(counts(machine, 0, 8)).toEqual([[2, 3, 0], [1, 2, 0]]); // prettier-ignore
    expect(machine.update(guest, { mfn: page(8), index: 1 }, entry(page(0), READ_ONLY))).toBe('ok');
    expect(counts(machine, 0, 8)).toEqual([[3, 4, -1], [1, 2, 1]]); // prettier-ignore
    expect(machine.extended(toolstack, 'unpin', page(8))).toBe('ok');
    expect(counts(machine, 0, 8)).toEqual([[2, 3, 0], [0, 1, 0]]); // prettier-ignore
    expect(machine.extended(toolstack, 'pinL3', page(8))).toBe('ok');
    expect(counts(machine, 0, 8)).toEqual([[3, 4, -1], [1, 2, 1]]); // prettier-ignore
    expect(machine.update(guest, { mfn: page(8), index: 1 }, ABSENT)).toBe('ok');
    expect(counts(machine, 0, 8)).toEqual([[2, 3, 0], [1, 2, 0]]); // prettier-ignore
  });

  it('leads from no table that is led to so, and to none that has such entries', () => {
    const machine = withSecond(booted());
    machine.update(guest, { mfn: page(8), index: 1 }, entry(page(0), READ_ONLY));
    expect(machine.update(guest, { mfn: page(0), index: 1 }, entry(page(8), READ_ONLY))).toBe('EINVAL');
    expect(counts(machine, 0, 8)).toEqual([[3, 4, -1], [1, 2, 1]]); // prettier-ignore
    machine.update(toolstack, { mfn: page(9), index: 1 }, entry(page(8), READ_ONLY));
    expect(machine.extended(toolstack, 'pinL3', page(9))).toBe('EINVAL');
    // The very table may have one that leads to itself: that counts as nothing.
    expect(machine.update(guest, { mfn: page(0), index: 1 }, entry(page(0), READ_ONLY))).toBe('ok');
  });

  it('is refused when the count is full', () => {
    const machine = withSecond(booted({ width: { linear: 2 } }));
    const linear = (index: number): string => machine.update(guest, { mfn: page(8), index }, entry(page(0), READ_ONLY));
    expect([linear(1), linear(3)]).toEqual(['ok', 'EINVAL']);
  });

  it('leads to nothing that has not been found fit', () => {
    const machine = withSecond(booted());
    machine.extended(toolstack, 'unpin', page(8));
    expect(machine.update(guest, { mfn: page(0), index: 1 }, entry(page(8), READ_ONLY))).toBe('EINVAL');
  });
});
