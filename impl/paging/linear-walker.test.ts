// A processor with a guest's own tables in front of it: what they grant and refuse, which flags it sets, from what it remembers it
// answers. Directed; whole histories are run where the laws are. A first reader may begin at the rows of rights.

import { describe, expect, it } from 'vitest';
import type { Control, Privilege } from '#abi/paging.ts';
import { vendors } from '#abi/vendor.ts';
import { bits, Guest, KEY, LEAVES, MIDDLE, NOWHERE, NX, OTHER, READ_ONLY, TOP } from './guest.testing.ts';

const { P, W, U, A, D, S, G, all, PAT } = bits;
const OK = -1;
const tables = { 1: LEAVES, 2: MIDDLE, 3: TOP } as const;
const nextOf = { 1: 0, 2: LEAVES, 3: MIDDLE } as const;

type Row = readonly [
  lo: number,
  hi: number,
  on: readonly Control[],
  by: Privilege,
  codes: readonly [read: number, write: number, fetch: number],
];

/** What one entry gives (the others give all), and the error codes of the three accesses. */
const rights: readonly Row[] = [
  [P + W + U, 0, [], 'supervisor', [OK, OK, OK]],
  [P + W + U, 0, [], 'user', [OK, OK, OK]],
  [P + W + U, 0, ['writeProtect', 'executeDisable'], 'user', [OK, OK, OK]],
  [P + W, 0, [], 'supervisor', [OK, OK, OK]],
  [P + W, 0, [], 'user', [5, 7, 5]],
  [P + W, 0, ['executeDisable'], 'user', [5, 7, 21]],
  [P + W, 0, ['smep'], 'user', [5, 7, 21]],
  [P + W, 0, ['smap', 'globalPages'], 'user', [5, 7, 5]],
  [P + W, 0, ['smep', 'smap'], 'supervisor', [OK, OK, OK]],
  [P + U, 0, [], 'supervisor', [OK, OK, OK]],
  [P + U, 0, [], 'user', [OK, 7, OK]],
  [P + U, 0, ['writeProtect'], 'supervisor', [OK, 3, OK]],
  [P + U, 0, ['writeProtect'], 'supervisorAc', [OK, 3, OK]],
  [P, 0, [], 'user', [5, 7, 5]],
  [P + W + U, 0, ['smap'], 'supervisor', [1, 3, OK]],
  [P + W + U, 0, ['smap'], 'supervisorAc', [OK, OK, OK]],
  [P + W + U, 0, ['smap', 'smep'], 'user', [OK, OK, OK]],
  [P + W + U, 0, ['smep'], 'supervisor', [OK, OK, 17]],
  [P + W + U, 0, ['smep'], 'supervisorAc', [OK, OK, 17]],
  [P + W + U, NX, ['executeDisable'], 'supervisor', [OK, OK, 17]],
  [P + W + U, NX, ['executeDisable'], 'user', [OK, OK, 21]],
  [P + W, NX, ['executeDisable', 'smap'], 'supervisor', [OK, OK, 17]],
  [P + W + U, NX, [], 'supervisor', [9, 11, 9]],
  [P + W + U, NX, ['smep'], 'user', [13, 15, 29]],
  [W + U, 0, [], 'supervisor', [0, 2, 0]],
  [W + U, NX, ['smep'], 'user', [4, 6, 20]],
  [0, NX, [], 'user', [4, 6, 4]],
];

describe.each(vendors)('rights with %s', (vendor) => {
  const cases = ([1, 2, 3] as const).flatMap((level) => rights.map((row) => [level, ...row] as const));
  it.each(cases)('level %s: %s, %s, %s, %s', (level, ...[lo, hi, on, by, codes]) => {
    const answers = codes.map((_, at) => {
      // One of the accesses to the supervisor's page has to be granted by its own tables.
      const guest = new Guest(vendor).turnOn(...on).entry(tables[level], 0, nextOf[level], { lo, hi });
      return [guest.read(0, { by }), guest.write(0, { by }), guest.fetch(0, { by })][at] as string;
    });
    const seen = answers.map((text) => (text.startsWith('fault ') ? Number(text.split(' ')[1]) : OK));
    expect(seen).toEqual(codes);
    expect(answers.filter((text) => !/^(?:fault \d+ at 0:[08]|ok|gfn 0.*)$/u.test(text))).toEqual([]);
  });

  it('a compare-exchange is a write', () => {
    const guest = new Guest(vendor).turnOn('writeProtect').entry(LEAVES, 0, 0, { lo: P + U });
    expect([guest.exchange(0), guest.exchange(1)]).toEqual(['fault 3 at 0:0', 'gfn 1']);
    expect(guest.flags(LEAVES, 1)).toBe(all + A + D);
  });
});

describe.each(vendors)('bits that must be clear, with %s', (vendor) => {
  it.each<readonly [level: 1 | 2 | 3, lo: number, hi: number, seen: string]>([
    [1, P, 2 ** 14, 'fault 9'],
    [2, P, 2 ** 14, 'fault 9'],
    [3, P, 2 ** 14, 'fault 9'],
    [3, P, 2 ** 19, 'fault 9'],
    [1, P, 2 ** 13, 'violation: page'],
    [2, P, 2 ** 13, 'violation: table'],
    [3, P, 2 ** 13, 'violation: table'],
    [1, P, 2 ** 20, 'gfn 0'],
    [2, P, 2 ** 30, 'gfn 0'],
    [3, P + S, 0, 'fault 9'],
    [3, P + G, 0, vendor === 'amd' ? 'fault 9' : 'gfn 0'],
    [2, P + G, 0, 'gfn 0'],
    [1, P + G + S, 0, 'gfn 0'],
  ])('level %s: %s, %s', (level, lo, hi, seen) => {
    const guest = new Guest(vendor).entry(tables[level], 0, nextOf[level], { lo, hi });
    expect(guest.read(0)).toMatch(new RegExp(`^${seen}`, 'u'));
  });

  it.each([
    [12, S, 'gfn 15'],
    [12, S + PAT, 'gfn 15'],
    [14, S, 'fault 9 at 0:3000'],
    [14, S + PAT, 'fault 9 at 0:3000'],
  ])('a page of four frames at %s, %s', (to, lo, seen) => {
    const guest = new Guest(vendor).entry(MIDDLE, 0, to, { lo: P + W + lo });
    expect(guest.read(3).replace(' walked', '')).toBe(seen);
    if (seen.startsWith('gfn')) expect([guest.read(3), guest.read(2), guest.read(0)]).toEqual(['gfn 15 page', 'gfn 14 level 3', 'gfn 12 level 3']); // prettier-ignore
  });
});

describe.each(vendors)('accessed and dirty flags with %s', (vendor) => {
  const flagsOf = (guest: Guest): readonly number[] => [guest.flags(TOP, 0), guest.flags(MIDDLE, 0), guest.flags(LEAVES, 0)]; // prettier-ignore

  it('are set where a walk has been, the dirty one in the page that is written', () => {
    const guest = new Guest(vendor);
    guest.read(0);
    expect(flagsOf(guest)).toEqual([all + A, all + A, all + A]);
    guest.write(0);
    expect(flagsOf(guest)).toEqual([all + A, all + A, all + A + D]);
    const other = new Guest(vendor).entry(MIDDLE, 0, 12, { lo: all + S });
    expect([other.write(0), flagsOf(other)]).toEqual(['ok', [all + A, all + S + A + D, all]]);
  });

  it.each<readonly [string, (guest: Guest) => string]>([
    ['page fault', (guest) => guest.entry(LEAVES, 0, 0, { lo: P + W }).read(0, { by: 'user' })],
    ['violation', (guest) => guest.entry(LEAVES, 0, READ_ONLY).write(0)],
    ['violation at a table', (guest) => guest.entry(MIDDLE, 0, READ_ONLY).read(0)],
  ])('are not set by a %s', (_, act) => {
    const guest = new Guest(vendor);
    act(guest);
    expect(flagsOf(guest).map((flags) => flags >= A)).toEqual([false, false, false]);
  });
});

describe.each(vendors)('nested tables under those of the guest, with %s', (vendor) => {
  it.each<readonly [string, (guest: Guest) => string]>([
    [`violation: page ${NOWHERE}`, (guest) => guest.entry(LEAVES, 0, NOWHERE).read(0)],
    [`violation: page ${READ_ONLY}`, (guest) => guest.entry(LEAVES, 0, READ_ONLY).write(0)],
    [`violation: page ${OTHER}`, (guest) => guest.nested(OTHER, 'foreign').entry(LEAVES, 0, OTHER).fetch(0)],
    [`gfn ${READ_ONLY} walked`, (guest) => guest.entry(LEAVES, 0, READ_ONLY).read(0)],
    [`violation: table ${NOWHERE}`, (guest) => guest.entry(MIDDLE, 0, NOWHERE).read(0)],
    [`violation: table ${READ_ONLY}`, (guest) => guest.entry(TOP, 0, READ_ONLY).read(0)],
    ['violation: page 70', (guest) => guest.entry(LEAVES, 0, 70).read(0)],
  ])('%s', (seen, act) => {
    expect(act(new Guest(vendor))).toBe(seen);
  });

  it('refuse a root as well', () => {
    const guest = new Guest(vendor);
    guest.m.f.vcpuRoot.setWide(KEY, NOWHERE);
    expect(guest.read(0)).toBe(`violation: table ${NOWHERE}`);
  });

  it('that were remembered as writable serve a read, and only what the access needs', () => {
    const guest = new Guest(vendor).entry(LEAVES, 0, READ_ONLY);
    expect([guest.read(0), guest.read(0), guest.write(0)]).toEqual([
      `gfn ${READ_ONLY} walked`,
      `gfn ${READ_ONLY} page`,
      `violation: page ${READ_ONLY}`,
    ]);
  });
});

describe.each(vendors)('what %s remembers', (vendor) => {
  const changed = (): Guest => {
    const guest = new Guest(vendor);
    guest.read(0);
    // Each level now leads elsewhere: the page to gfn 4, another table of pages to 5, another table above to 6.
    guest.entry(LEAVES, 0, 4).entry(MIDDLE, 0, 12).entry(12, 0, 5);
    return guest.entry(TOP, 0, 13).entry(13, 0, 14).entry(14, 0, 6);
  };

  it.each([
    [0, 'gfn 0 page'],
    [1, 'gfn 4 level 2'],
    [2, 'gfn 5 level 3'],
    [3, 'gfn 6 walked'],
    [9, 'gfn 6 walked'],
  ])('answers %s back: %s', (via, seen) => {
    expect(changed().read(0, { via })).toBe(seen);
  });

  it('answers for other pages from above', () => {
    const guest = new Guest(vendor);
    expect([guest.read(0), guest.read(1), guest.read(1), guest.read(16)]).toEqual([
      'gfn 0 walked',
      'gfn 1 level 2',
      'gfn 1 page',
      'fault 0 at 0:10000',
    ]);
    guest.entry(TOP, 1, OTHER).entry(OTHER, 0, 12, { lo: P + S });
    expect([guest.read(17), guest.read(18)]).toEqual(['gfn 13 walked', 'gfn 14 level 3']);
  });

  it('gives no more from a table above than its entry did', () => {
    const guest = new Guest(vendor).entry(MIDDLE, 0, LEAVES, { lo: P + W });
    guest.read(0);
    guest.entry(MIDDLE, 0, LEAVES);
    expect([guest.read(1), guest.read(1, { by: 'user' })]).toEqual(['gfn 1 level 2', 'fault 5 at 0:1000']);
    // What was used for the fault is forgotten.
    expect(guest.read(1, { by: 'user' })).toMatch(/^gfn 1/u);
  });

  it('as clean does not serve a write, as dirty does', () => {
    const guest = new Guest(vendor);
    guest.read(0);
    guest.entry(LEAVES, 0, 4);
    expect([guest.read(0), guest.write(0), guest.read(0)]).toEqual(['gfn 0 page', 'ok', 'gfn 4 page']);
    expect(guest.flags(LEAVES, 0)).toBe(all + A + D);
    guest.entry(LEAVES, 0, 5);
    expect([guest.write(0), guest.flags(LEAVES, 0)]).toEqual(['ok', all]);
    const other = new Guest(vendor).entry(LEAVES, 0, 0, { lo: all + D });
    other.read(0);
    other.entry(LEAVES, 0, 5);
    expect([other.write(0), other.flags(LEAVES, 0)]).toEqual(['ok', all]);
  });

  it('refuses at once with EPT, is walked again with NPT', () => {
    const guest = new Guest(vendor).entry(LEAVES, 0, 0, { lo: P + W });
    guest.read(0);
    guest.entry(LEAVES, 0, 4);
    expect(guest.read(0, { by: 'user' })).toBe(vendor === 'intel' ? 'fault 5 at 0:0' : 'gfn 4 level 2');
    expect(guest.read(0, { by: 'user' })).toMatch(/^gfn 4/u);
  });

  it('of a global page serves under another PCID, if pages can be global', () => {
    const answers = [false, true].map((hasGlobals) => {
      const guest = new Guest(vendor).entry(LEAVES, 0, 0, { lo: all + G });
      if (hasGlobals) guest.turnOn('globalPages');
      guest.read(0);
      guest.read(1);
      guest.m.f.vcpuPcid.set(KEY, 1);
      return [guest.read(0), guest.read(1)];
    });
    expect(answers).toEqual([['gfn 0 walked', 'gfn 1 level 2'], ['gfn 0 page', 'gfn 1 walked']]); // prettier-ignore
  });

  it('comes of walking ahead too, rights or not; and a walk that fails ahead forgets nothing', () => {
    const guest = new Guest(vendor).turnOn('smap');
    guest.fill(0);
    expect([guest.flags(LEAVES, 0), guest.read(0, { by: 'user' })]).toEqual([all + A, 'gfn 0 page']);
    guest.entry(LEAVES, 0, 0, { lo: 0 });
    guest.fill(0);
    expect(guest.read(0, { by: 'user' })).toBe('gfn 0 page');
    const other = new Guest(vendor);
    expect([other.fill(40), other.fill(0, 1), other.fill(0, 7)]).toEqual(['ok', 'ok', 'ok']);
    expect(other.flags(TOP, 0)).toBe(all);
  });
});
