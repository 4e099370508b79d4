// The hypervisor's walk of a guest's tables in a trace: what it grants and refuses, which flags it sets and when it leaves an entry
// alone. Directed; whole histories are run where the laws are. A first reader may begin at the rows of refusals.

import { describe, expect, it } from 'vitest';
import type { DomId } from '#abi/address.ts';
import type { Control } from '#abi/paging.ts';
import { vendors, type Vendor } from '#abi/vendor.ts';
import {
  bits,
  DEVICE,
  DOM,
  frameOf,
  Guest,
  KEY,
  LEAVES,
  MIDDLE,
  NOWHERE,
  NX,
  READ_ONLY,
  TOP,
} from './guest.testing.ts';
import { walkGuest } from './guest-walk.ts';

const { P, W, U, A, D, S, G, all, PAT } = bits;
const who = { domain: DOM as DomId, purpose: 'guest' } as const;

/** The gfn, or -1. `between` comes before each act. */
function walk(guest: Guest, page: number, write = false, between?: (n: number) => void): number {
  const step = walkGuest(guest.m, who, { key: KEY, dom: DOM, page, write });
  guest.m.port.armed = between !== undefined;
  let acts = 0;
  let next = step.next();
  for (; next.done !== true; next = step.next()) between?.((acts += 1));
  guest.m.port.armed = false;
  return next.value;
}

const tables = { 1: LEAVES, 2: MIDDLE, 3: TOP } as const;
const nextOf = { 1: 0, 2: LEAVES, 3: MIDDLE } as const;

type Row = readonly [lo: number, hi: number, on: readonly Control[], isRead: boolean, isWritten: boolean];

/** What one entry says (the others give all), and whether it may be read and written. */
const common: readonly Row[] = [
  [all, 0, [], true, true],
  [all, 0, ['writeProtect', 'executeDisable', 'smep', 'globalPages'], true, true],
  [all, 0, ['smap'], false, false],
  [P + W, 0, ['smap'], true, true],
  [P + U, 0, [], true, true],
  [P + U, 0, ['writeProtect'], true, false],
  [W + U, 0, [], false, false],
  [all, NX, [], false, false],
  [all, NX, ['executeDisable'], true, true],
  [all, 2 ** 14, [], false, false],
  [all, 2 ** 19, [], false, false],
  [all, 2 ** 20, [], true, true],
  [all, 2 ** 30, ['executeDisable'], true, true],
];

describe.each(vendors)('what one entry says, with %s', (vendor) => {
  const rows = ([1, 2, 3] as const).flatMap((level) => common.map((row) => [level, ...row] as const));
  it.each(rows)('level %s: %s, %s, %s', (level, lo, hi, ...[on, isRead, isWritten]) => {
    const guest = (): Guest => new Guest(vendor).turnOn(...on).entry(tables[level], 0, nextOf[level], { lo, hi });
    expect([walk(guest(), 0), walk(guest(), 0, true)]).toEqual([isRead ? 0 : -1, isWritten ? 0 : -1]);
  });

  it.each<readonly [level: 1 | 2 | 3, to: number, lo: number, gfn: number]>([
    [3, MIDDLE, all + S, -1],
    [3, MIDDLE, all + G, vendor === 'amd' ? -1 : 3],
    [2, LEAVES, all + G, 3],
    [1, 3, all + G + S, 3],
    [2, 12, all + S, 15],
    [2, 12, all + S + PAT, 15],
    [2, 14, all + S, -1],
    [2, 14, all + S + PAT, -1],
    [1, 70, all, 70],
    [2, NOWHERE, all, -1],
    [2, DEVICE, all, -1],
    [2, READ_ONLY, all, 3],
    [3, NOWHERE, all, -1],
    [3, 70, all, -1],
  ])('level %s leads to %s with %s: %s', (level, to, lo, gfn) => {
    const guest = new Guest(vendor).entry(tables[level], level === 1 ? 3 : 0, to, { lo });
    // What is read there would lead on.
    for (const table of [DEVICE, READ_ONLY]) guest.entry(table, 3, 3);
    expect(walk(guest, 3)).toBe(gfn);
  });
});

const flagsOf = (guest: Guest): readonly number[] => [guest.flags(TOP, 0), guest.flags(MIDDLE, 0), guest.flags(LEAVES, 0)]; // prettier-ignore

const fresh = (vendor: Vendor): Guest => new Guest(vendor);

describe.each(vendors)('flags with %s', (vendor) => {
  it('are set when the walk has arrived, the dirty one in the page that will be written', () => {
    const guest = fresh(vendor);
    expect([walk(guest, 0), flagsOf(guest)]).toEqual([0, [all + A, all + A, all + A]]);
    expect([walk(guest, 0, true), flagsOf(guest)]).toEqual([0, [all + A, all + A, all + A + D]]);
    const large = fresh(vendor).entry(MIDDLE, 0, 12, { lo: all + S });
    expect([walk(large, 1, true), flagsOf(large)]).toEqual([13, [all + A, all + S + A + D, all]]);
    const refused = fresh(vendor)
      .turnOn('writeProtect')
      .entry(LEAVES, 0, 0, { lo: P + U });
    expect([walk(refused, 0, true), flagsOf(refused)]).toEqual([-1, [all, all, P + U]]);
  });

  it('are set from the page up, each in an act of its own; what has them already takes none', () => {
    const guest = fresh(vendor);
    const seen: (readonly number[])[] = [];
    walk(guest, 0, false, () => seen.push(flagsOf(guest)));
    expect(seen).toEqual([
      [all, all, all],
      [all, all, all],
      [all, all, all],
      [all, all, all],
      [all, all, all + A],
      [all, all + A, all + A],
    ]);
    let acts = 0;
    walk(guest, 0, false, (n) => (acts = n));
    expect(acts).toBe(3);
    walk(guest, 0, true, (n) => (acts = n));
    expect(acts).toBe(4);
  });

  it.each<readonly [string, (guest: Guest) => unknown, after: number]>([
    ['has changed', (guest) => guest.entry(LEAVES, 0, 1), all],
    ['has changed in its high half', (guest) => guest.entry(LEAVES, 0, 0, { hi: 2 ** 20 }), all],
    ['lies where the guest may not write', (guest) => guest.nested(LEAVES, 'ramRo'), all],
    ['lies nowhere', (guest) => guest.nested(LEAVES, 'none'), all],
    ['is as it was', () => undefined, all + A],
  ])('are not set in an entry that %s', (_, act, after) => {
    const guest = fresh(vendor);
    const gfn = walk(guest, 0, false, (n) => n === 4 && act(guest));
    expect([gfn, flagsOf(guest)]).toEqual([0, [all + A, all + A, after]]);
  });

  it('of an entry whose frame was replaced are not set in the old one', () => {
    const guest = fresh(vendor);
    walk(guest, 0, false, (n) => n === 4 && guest.m.f.domRoot.set(DOM, 0));
    expect(flagsOf(guest)).toEqual([all, all, all]);
  });
});

it.each(vendors)('a root that is nowhere refuses, and each act is in the name of who asks, with %s', (vendor) => {
  const guest = fresh(vendor);
  const acts: string[] = [];
  guest.m.port.watcher = ({ domain, purpose }, verb, { mfn, index }) => {
    if (purpose === 'guest') acts.push(`${domain} ${verb} ${mfn}:${index}`);
  };
  walk(guest, 2);
  expect(acts.slice(0, 3)).toEqual([`1 load ${frameOf(TOP)}:0`, `1 load ${frameOf(MIDDLE)}:0`, `1 load ${frameOf(LEAVES)}:2`]); // prettier-ignore
  expect(acts.slice(3, 5)).toEqual([`1 load ${frameOf(LEAVES)}:2`, `1 store ${frameOf(LEAVES)}:2`]);
  guest.m.f.vcpuRoot.setWide(KEY, NOWHERE);
  expect(walk(guest, 2)).toBe(-1);
  guest.m.f.vcpuRoot.setWide(KEY, READ_ONLY);
  expect(walk(guest, 2)).toBe(-1);
});
