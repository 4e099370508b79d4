// The hypervisor's walk of a guest's tables: the rights that it tells, the frames that it does not find, the flags that it sets.
// That it comes to what a processor comes to is tried by random cases, where the specification may be imported.
// A first reader may skip how tables are laid.

import { describe, expect, it } from 'vitest';
import type { CaseOf } from '#abi/case.ts';
import { low32 } from '#lib/bits.ts';
import { SoftwareWalker, type SoftwareWalk } from './software.ts';
import { processor as registers } from './processor.testing.ts';

type Registers = CaseOf<'native'>['registers'];
type Access = CaseOf<'native'>['access'];

const legacy = { cr4: 0x10, efer: 0 } as const;
const pae = { efer: 0x800 } as const;
const reading: Access = { kind: 'read', privilege: 'user', ac: 'clear', linear: { lo: 0x40_1008, hi: 0 }, size: 1 };

/** The guest has gfns 0 to 15, each SHIFT frames further on in the machine, but for those that are taken away. */
const SHIFT = 32;
const FRAMES = 64;

type Entry = readonly [gfn: number, index: number, lo: number, hi?: number];

/** Four levels for linear 0x401000: tables in gfns 1 to 4, the page is gfn 8. */
const four: readonly Entry[] = [
  [1, 0, 0x2007],
  [2, 0, 0x3007],
  [3, 2, 0x4007],
  [4, 1, 0x8007],
];
/** The same address with 32-bit paging (entries of 4 bytes, two in a word): tables in gfns 1 and 2, the page is gfn 8. */
const two: readonly Entry[] = [
  [1, 0, 0, 0x2007],
  [2, 0, 0, 0x8007],
];
/** With PAE: PDPTEs in gfn 1. */
const three: readonly Entry[] = [
  [1, 0, 0x2001],
  [2, 2, 0x3007],
  [3, 1, 0x8007],
];

interface Asked {
  readonly entries?: readonly Entry[];
  readonly registers?: Partial<Registers>;
  readonly access?: Partial<Access>;
  readonly missing?: number;
}

function walk({ entries = four, registers: changes = {}, access = {}, missing }: Asked) {
  const memory = new Int32Array(FRAMES * 1024);
  const cellOf = (gfn: number, index: number): number => 1024 * (gfn + SHIFT) + 2 * index;
  for (const [gfn, index, lo, hi = 0] of entries) memory.set([low32(lo), low32(hi)], cellOf(gfn, index));
  const before = memory.slice();
  const frameOf = (gfn: number): number => (gfn < 16 && gfn !== missing ? gfn + SHIFT : -1);
  const walker = new SoftwareWalker({ memory, frameOf }, { ...registers, ...changes });
  const found = walker.walk({ ...reading, ...access });
  const flags = [...memory].flatMap((half, at) => (half === before[at] ? [] : [[at, half - (before[at] ?? 0)]]));
  return { found, flags, cellOf };
}

const frame = (gfn: number, rights = 'rwxu'): SoftwareWalk => ({
  kind: 'frame',
  gfn,
  mfn: gfn + SHIFT,
  rights: { write: rights.includes('w'), user: rights.includes('u'), execute: rights.includes('x') },
});
const fault = (errorCode: number): SoftwareWalk => ({ kind: 'pageFault', errorCode });
const unbacked = (gfn: number): SoftwareWalk => ({ kind: 'unbacked', gfn });

const NX = 0x8000_0000;
const put = (entries: readonly Entry[], ...more: readonly Entry[]): readonly Entry[] => [...entries, ...more];
const kernel = { privilege: 'supervisor' } as const;

describe('the software walk tells', () => {
  it.each<[string, Asked, SoftwareWalk]>([
    ['a page with all rights', {}, frame(8)],
    ['a page that an upper entry keeps from being written', { entries: put(four, [2, 0, 0x3005]) }, frame(8, 'rxu')],
    ['one that the last entry keeps from being written', { entries: put(four, [4, 1, 0x8005]) }, frame(8, 'rxu')],
    ['one that an upper entry takes from users', { entries: put(four, [1, 0, 0x2003]), access: kernel }, frame(8, 'rwx')], // prettier-ignore
    ['one that the last entry keeps from being run', { entries: put(four, [4, 1, 0x8007, NX]) }, frame(8, 'rwu')],
    ['one that an upper entry keeps from being run', { entries: put(four, [3, 2, 0x4007, NX]) }, frame(8, 'rwu')],
    ['large pages: 2 MiB', { entries: put(four, [3, 2, 0x87]), access: { linear: { lo: 0x40_7008, hi: 0 } } }, frame(7)], // prettier-ignore
    ['large pages: 1 GiB', { entries: put(four, [2, 0, 0x87]), access: { linear: { lo: 0x5008, hi: 0 } } }, frame(5)],
    ['large pages: 4 MiB', { entries: [[1, 0, 0, 0x87]], registers: legacy, access: { linear: { lo: 0x40_3000, hi: 0 } } }, frame(3)], // prettier-ignore
    ['no paging', { registers: { cr0: 1 }, access: { linear: { lo: 0x6fff, hi: 7 } } }, frame(6)],
    ['32-bit paging', { entries: two, registers: legacy }, frame(8)],
    ['PAE from memory', { entries: three, registers: pae }, frame(8)],
    [
      'PAE from registers',
      { entries: three.slice(1), registers: { ...pae, pdptes: [{ entry: { lo: 0x2001, hi: 0 } }] } },
      frame(8),
    ],
    [
      'PAE from registers that are not there',
      { entries: three, registers: { ...pae, pdptes: [{ entry: { lo: 0x2001, hi: 0 } }] }, access: { linear: { lo: NX, hi: 0 } } }, // prettier-ignore
      fault(4),
    ],
  ])('%s', (_, asked, expected) => {
    expect(walk(asked).found).toEqual(expected);
  });
});

describe('the software walk ends', () => {
  it.each([1, 2, 3, 4])('at a table of four levels that the guest does not have, gfn %d, and sets nothing', (gfn) => {
    const { found, flags } = walk({ missing: gfn });
    expect([found, flags]).toEqual([unbacked(gfn), []]);
  });
  it.each([1, 2])('at a table of two levels that the guest does not have, gfn %d', (gfn) => {
    expect(walk({ entries: two, registers: legacy, missing: gfn }).found).toEqual(unbacked(gfn));
  });
  it.each([1, 2, 3])('at a table of PAE that the guest does not have, gfn %d', (gfn) => {
    expect(walk({ entries: three, registers: pae, missing: gfn }).found).toEqual(unbacked(gfn));
  });
  it('at a page that the guest does not have, its entries marked as used', () => {
    const { found, flags, cellOf } = walk({ missing: 8, access: { kind: 'write' } });
    expect(found).toEqual(unbacked(8));
    expect(flags).toEqual([[cellOf(1, 0), 0x20], [cellOf(2, 0), 0x20], [cellOf(3, 2), 0x20], [cellOf(4, 1), 0x60]]); // prettier-ignore
  });
  it('at an address that is not canonical', () => {
    expect(walk({ access: { linear: { lo: 0, hi: 0x8000 } } }).found).toEqual({ kind: 'nonCanonical' });
    expect(walk({ access: { linear: { lo: 0, hi: 0xffff_7fff } } }).found).toEqual({ kind: 'nonCanonical' });
    expect(walk({ access: { linear: { lo: 0x40_1000, hi: 0xffff_8000 } } }).found).toEqual(fault(4));
  });
  it.each<[string, Asked, SoftwareWalk]>([
    ['an absent entry', { entries: put(four, [2, 0, 0x3006]) }, fault(4)],
    ['a supervisor page', { entries: put(four, [4, 1, 0x8003]) }, fault(5)],
    ['a write to what is only read', { entries: put(four, [4, 1, 0x8005]), access: { kind: 'write' } }, fault(7)],
    ['a read and write to it', { entries: put(four, [4, 1, 0x8005]), access: { kind: 'readModifyWrite' } }, fault(7)],
    ['the same by a supervisor', { entries: put(four, [4, 1, 0x8005]), access: { ...kernel, kind: 'write' } }, fault(3)], // prettier-ignore
    ['a fetch of what is not run', { entries: put(four, [4, 1, 0x8007, NX]), access: { kind: 'fetch' } }, fault(0x15)],
    ['XD without NXE', { entries: put(four, [4, 1, 0x8007, NX]), registers: { efer: 0x100 } }, fault(0xd)],
    ['a reserved bit', { entries: put(four, [3, 2, 0x4007, 0x100]) }, fault(0xd)],
    ['bit 7 at level 4', { entries: put(four, [1, 0, 0x2087]) }, fault(0xd)],
    ['1 GiB where there is none', { entries: put(four, [2, 0, 0x87]), registers: { page1Gb: 'absent' } }, fault(0xd)],
    ['a bit below a frame of 2 MiB', { entries: put(four, [3, 2, 0x2087]) }, fault(0xd)],
    ['a bit below a frame of 1 GiB', { entries: put(four, [2, 0, 0x2087]) }, fault(0xd)],
    ['a bit beyond the width in 4 MiB', { entries: [[1, 0, 0, 0x2087]], registers: { ...legacy, maxPhysAddr: 32 } }, fault(0xd)], // prettier-ignore
    ['SMAP', { registers: { cr4: 0x20_0020 }, access: kernel }, fault(1)],
    ['SMAP in spite of AC', { registers: { cr4: 0x20_0020 }, access: { privilege: 'implicit', ac: 'set' } }, fault(1)],
    ['SMEP', { registers: { cr4: 0x10_0020 }, access: { ...kernel, kind: 'fetch' } }, fault(0x11)],
    ['a key', { registers: { cr4: 0x40_0020, pkru: 1 } }, fault(0x25)],
    ['a key for writes', { registers: { cr4: 0x40_0020, pkru: 2 }, access: { kind: 'write' } }, fault(0x27)],
    ['a key of supervisor pages', { entries: put(four, [4, 1, 0x8003]), registers: { cr4: 0x100_0020, pkrs: 1 }, access: kernel }, fault(0x21)], // prettier-ignore
  ])('at %s, and sets nothing', (_, asked, expected) => {
    const { found, flags } = walk(asked);
    expect([found, flags]).toEqual([expected, []]);
  });
  it.each<[string, Asked]>([
    ['AC lifts a supervisor over SMAP', { registers: { cr4: 0x20_0020 }, access: { ...kernel, ac: 'set' } }],
    ['a key for writes lets read', { registers: { cr4: 0x40_0020, pkru: 2 } }],
    ['a key does not stop a fetch', { registers: { cr4: 0x40_0020, pkru: 3 }, access: { kind: 'fetch' } }],
    ['no WP, no key for writes of a supervisor', { registers: { cr0: 0x8000_0001, cr4: 0x40_0020, pkru: 2 }, access: { ...kernel, kind: 'write' } }], // prettier-ignore
    ['keys of users and of supervisors are two things', { registers: { cr4: 0x140_0020, pkrs: 3 } }],
  ])('not where %s', (_, asked) => {
    expect(walk(asked).found).toEqual(frame(8));
  });
});
