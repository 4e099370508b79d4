// Whole accesses, one directed case for each rule: paging modes, canonical addresses, accesses that straddle pages, and the flags
// that accesses leave in the tables. A first reader may skip the builders' file.

import type { AccessResult } from '#abi/case.ts';
import { describe, expect, test } from 'vitest';
import {
  ALL,
  bitAt,
  done,
  entry,
  fault,
  HIGH,
  invalid,
  mode32,
  mode5,
  modePae,
  modify,
  native,
  NO_WP,
  poke,
  protection,
  PS,
  READ_ONLY,
  rules,
  supervisor,
  tables32,
  tables4,
  tables5,
  tablesPae,
  unpaged,
  word,
  write,
} from './samples.testing.ts';
import { translateAccess } from './translate.ts';

rules('modes', [
  ['memory beyond the last frame reads as ones', native(tables4({ 4: entry(0x4000, ALL) })), fault(0xd)],
  ['no paging: the linear address is physical', native([], unpaged), done(0x60_3010)],
  ['32-bit paging walks two levels of 4-byte entries', native(tables32({}), mode32), done(0x20_0010)],
  ['PAE paging walks PDPTE, PDE and PTE', native(tablesPae({}), modePae), done(0x20_0010)],
  ['4-level paging walks four levels', native(tables4({})), done(0x20_0010)],
  ['5-level paging walks five levels', native(tables5({}), mode5), done(0x20_0010)],
  ['CR4.LA57 counts in long mode only', native(tablesPae({}), { ...modePae, cr4: mode5.cr4 }), done(0x20_0010)],
  ['CR3 bits 11:0 are no part of the root', native(tables4({}), { cr3: word(0x10fffn) }), done(0x20_0010)],
  ['with PCIDE they are the PCID', native(tables4({}), { cr3: word(0x10fffn), cr4: 0x2_0020 }), done(0x20_0010)],
  [
    '32-bit paging ignores CR3 bits 63:32',
    native(tables32({}), { ...mode32, cr3: word(0xfff_0001_0000n) }),
    done(0x20_0010),
  ],
  [
    'outside long mode bits 63:32 of the address are cut off',
    native(tables32({}), mode32, { linear: word(0x5_0060_3010n) }),
    done(0x20_0010),
  ],
]);

rules('states that do not exist', [
  ['PG without PE', native(tables32({}), { ...mode32, cr0: 0x8000_0000 }), invalid],
  ['long mode without PAE', native([], { cr4: 0 }), invalid],
  ['PCIDE outside long mode', native(tablesPae({}), { ...modePae, cr4: 0x2_0020 }), invalid],
  ['PCIDE without paging', native([], { ...unpaged, cr4: 0x2_0020 }), invalid],
  ['CR3 beyond MAXPHYADDR in long mode', native([], { cr3: word(bitAt(40)) }), invalid],
]);

rules('canonical addresses', [
  ['48 bits: bit 47 alone is not canonical', native([], {}, { linear: word(bitAt(47)) }), protection],
  ['48 bits: all from 47 up are', native([], {}, { linear: word(-bitAt(47)) }), fault(4, -bitAt(47))],
  ['57 bits: bit 47 alone is canonical', native([], mode5, { linear: word(bitAt(47)) }), fault(4, bitAt(47))],
  ['57 bits: bit 56 alone is not', native([], mode5, { linear: word(bitAt(56)) }), protection],
  [
    'an access that leaves the canonical range faults before its first page is looked at',
    native([], {}, { linear: word(bitAt(47) - 2n) }),
    protection,
  ],
]);

const twoPages = [...tables4({}), poke(0x13, 4, entry(0x205, ALL))];
const across = { linear: word(0x60_3ffen) };
const bothAt = (first: number, second: number): AccessResult => ({
  kind: 'done',
  bytes: [
    { maddr: first, count: 2 },
    { maddr: second, count: 2 },
  ],
});
const last = { linear: word(0xffff_fffen) };
const ends32 = [poke(0x10, 0x1ff, entry(0x400, ALL + PS) * HIGH), poke(0x10, 0, entry(0x400, ALL + PS))];
const ends4 = [
  ...tables4({ 2: 0n }),
  poke(0x12, 0, entry(0x400, ALL + PS)),
  poke(0x10, 511, entry(0x11, ALL)),
  poke(0x11, 511, entry(0x12, ALL)),
  poke(0x12, 511, entry(0x600, ALL + PS)),
];
rules('accesses that straddle pages', [
  ['have a run of bytes in each', native(twoPages, {}, across), bothAt(0x20_0ffe, 0x20_5000)],
  ['a fault of the second page is at its first byte', native(tables4({}), {}, across), fault(4, 0x60_4000n)],
  ['the lower page faults first', native([], {}, across), fault(4, 0x60_3ffen)],
  [
    'also where the second fault is graver',
    native([...tables4({ 1: 0n }), poke(0x13, 4, entry(0x200, ALL) + bitAt(40))], {}, across),
    fault(4, 0x60_3ffen),
  ],
  ['one byte before the border does not reach it', native(tables4({}), {}, { ...across, size: 2 }), done(0x20_0ffe, 2)],
  [
    'the second page has its own rights',
    native([...tables4({}), poke(0x13, 4, entry(0x205, READ_ONLY))], {}, { ...across, ...write }),
    fault(7, 0x60_4000n),
  ],
  ['32-bit addresses wrap to 0', native(ends32, mode32, last), bothAt(0x7f_fffe, 0x40_0000)],
  ['without paging too', native([], unpaged, last), bothAt(0xffff_fffe, 0)],
  ['64-bit addresses wrap to 0', native(ends4, {}, { linear: word(-2n) }), bothAt(0x7f_fffe, 0x40_0000)],
]);

describe('accessed and dirty flags', () => {
  const CLEAN = 0x07n;
  const fresh = tables4({
    4: entry(0x11, CLEAN),
    3: entry(0x12, CLEAN),
    2: entry(0x13, CLEAN),
    1: entry(0x200, CLEAN),
  });
  const mark = (mfn: number, index: number, bits: number) => ({ mfn, index, bits: { lo: bits, hi: 0 } });
  const upper = [mark(0x10, 0, 0x20), mark(0x11, 0, 0x20), mark(0x12, 3, 0x20)];

  test('a read sets accessed flags at every level', () => {
    expect(translateAccess(native(fresh)).required).toEqual([...upper, mark(0x13, 3, 0x20)]);
  });
  test('a write sets the dirty flag of the page as well', () => {
    expect(translateAccess(native(fresh, {}, write)).required).toEqual([...upper, mark(0x13, 3, 0x60)]);
  });
  test('so does a read-modify-write', () => {
    expect(translateAccess(native(fresh, {}, modify)).required).toEqual([...upper, mark(0x13, 3, 0x60)]);
  });
  test('without WP a supervisor dirties a read-only page', () => {
    const image = tables4({ 1: entry(0x200, 0x25n) });
    const { required } = translateAccess(native(image, { cr0: NO_WP }, { ...write, ...supervisor }));
    expect(required).toEqual([mark(0x13, 3, 0x40)]);
  });
  test('flags that are set are no marks', () => {
    expect(translateAccess(native(tables4({}), {}, write)).required).toEqual([]);
  });
  test('nothing more is allowed after success', () => {
    expect(translateAccess(native(fresh)).allowed).toEqual([]);
  });
  test('a large page keeps the flags in its own entry', () => {
    const image = tables4({ 2: entry(0x400, CLEAN + PS) });
    expect(translateAccess(native(image, {}, write)).required).toEqual([mark(0x12, 3, 0x60)]);
  });
  test('an absent page leaves open whether upper entries are accessed', () => {
    const { required, allowed } = translateAccess(native(fresh.slice(0, 3)));
    expect({ required, allowed }).toEqual({ required: [], allowed: upper });
  });
  test('a protection violation leaves open the flag of the page too, but never dirties it', () => {
    const image = [...fresh.slice(0, 3), poke(0x13, 3, entry(0x200, 0x05n))];
    expect(translateAccess(native(image, {}, write)).allowed).toEqual([...upper, mark(0x13, 3, 0x20)]);
  });
  test('a fault in the second page leaves open what the first would have set', () => {
    const { required, allowed } = translateAccess(native(fresh, {}, { ...across, ...write }));
    expect({ required, allowed }).toEqual({ required: [], allowed: [...upper, mark(0x13, 3, 0x60)] });
  });
  test('two entries in one word make one mark', () => {
    const image = [
      poke(0x10, 0, entry(0x13, CLEAN) * HIGH + entry(0x13, CLEAN)),
      poke(0x13, 0x1ff, entry(0x200, CLEAN) * HIGH),
      poke(0x13, 0, entry(0x201, CLEAN)),
    ];
    const { required } = translateAccess(native(image, mode32, { linear: word(0x3f_fffen) }));
    expect(required).toEqual([
      { mfn: 0x10, index: 0, bits: { lo: 0x20, hi: 0x20 } },
      mark(0x13, 0, 0x20),
      { mfn: 0x13, index: 0x1ff, bits: { lo: 0, hi: 0x20 } },
    ]);
  });
  test('PDPTEs of PAE paging have none', () => {
    expect(translateAccess(native(tablesPae({ 1: entry(0x200, CLEAN) }), modePae)).required).toEqual([
      mark(0x13, 3, 0x20),
    ]);
  });
});
