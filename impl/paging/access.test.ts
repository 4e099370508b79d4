// Whole accesses: directed cases with what the manuals say of them. (Random cases against the specification are run where both sides
// may be imported.) A first reader may skip how a case is put into memory.

import { describe, expect, it } from 'vitest';
import { CASE_FRAMES, CASE_VERSION, type AccessResult, type CaseOf, type Mark, type Poke } from '#abi/case.ts';
import { low32 } from '#lib/bits.ts';
import { AccessUnit } from './access.ts';

type Any = CaseOf<'native' | 'vmx' | 'svm'>;
type Processor = CaseOf<'native'>['registers'];
type Access = CaseOf<'native'>['access'];

const memory = new Int32Array(CASE_FRAMES * 1024);
const unit = new AccessUnit(memory);
const cellOf = (mfn: number, index: number): number => 2 * (512 * mfn + index);

/** Runs a case in a memory of zeros; answers the result, and the bits that words of the image have more afterwards. */
function run(one: Any): { result: AccessResult; changed: readonly Mark[] } {
  const image = new Map(one.image.map((poke) => [cellOf(poke.mfn, poke.index), poke]));
  for (const [cell, { word }] of image) memory.set([word.lo, word.hi], cell);
  const result = unit.run(one);
  const changed = [...image].flatMap(([cell, { mfn, index, word }]) => {
    const bits = { lo: low32(memory[cell] ?? 0) - word.lo, hi: low32(memory[cell + 1] ?? 0) - word.hi };
    return bits.lo === 0 && bits.hi === 0 ? [] : [{ mfn, index, bits }];
  });
  for (const cell of image.keys()) memory.fill(0, cell, cell + 2);
  return { result, changed };
}

const PE_PG_WP = 0x8001_0001;
const PAE = 0x20;
const LONG = 0x900;

const processor: Processor = {
  cr0: PE_PG_WP,
  cr3: { lo: 0x1000, hi: 0 },
  cr4: PAE,
  efer: LONG,
  pkru: 0,
  pkrs: 0,
  maxPhysAddr: 40,
  page1Gb: 'present',
  pdptes: [],
};
const reading: Access = { kind: 'read', privilege: 'user', ac: 'clear', linear: { lo: 0x40_1008, hi: 0 }, size: 8 };

const pokes = (
  ...words: readonly (readonly [mfn: number, index: number, lo: number, hi?: number])[]
): readonly Poke[] => words.map(([mfn, index, lo, hi = 0]) => ({ mfn, index, word: { lo, hi } }));

const native = (
  image: readonly Poke[],
  changes: Partial<Processor> = {},
  access: Partial<Access> = {},
): CaseOf<'native'> => ({
  engine: 'native',
  version: CASE_VERSION,
  geometry: 'x86',
  registers: { ...processor, ...changes },
  access: { ...reading, ...access },
  image,
});

/** Four levels for linear 0x401000 and 0x402000, pages in frames 0x10 and 0x11. */
const fourLevels = pokes([1, 0, 0x2007], [2, 0, 0x3007], [3, 2, 0x4007], [4, 1, 0x1_0007], [4, 2, 0x1_1007]);

const fault = (errorCode: number, lo = 0x40_1008, hi = 0): AccessResult => ({
  kind: 'pageFault',
  errorCode,
  linear: { lo, hi },
});
const done = (...bytes: readonly (readonly [maddr: number, count: number])[]): AccessResult => ({
  kind: 'done',
  bytes: bytes.map(([maddr, count]) => ({ maddr, count })),
});

const vmx = (
  image: readonly Poke[],
  changes: Partial<CaseOf<'vmx'>['registers']> = {},
  access: Partial<Access> = {},
): CaseOf<'vmx'> => ({
  ...native(image, {}, access),
  engine: 'vmx',
  registers: { ...processor, eptp: { lo: 0x2_001e, hi: 0 }, modeBasedExecute: 'off', ...changes },
});

/** Extended tables in frames 0x20..0x23 that map guest frames 0..0x11 to the machine frames of the same number. */
const extended = (rights: (gfn: number) => number): readonly Poke[] => [
  ...pokes([0x20, 0, 0x2_1007], [0x21, 0, 0x2_2007], [0x22, 0, 0x2_3007]),
  ...Array.from({ length: 0x12 }, (_, gfn) => gfn).flatMap((gfn) =>
    pokes([0x23, gfn, gfn * 0x1000 + 0x30 + rights(gfn)]),
  ),
];

const svm = (
  image: readonly Poke[],
  changes: Partial<CaseOf<'svm'>['registers']> = {},
  access: Partial<Access> = {},
): CaseOf<'svm'> => ({
  ...native(image, {}, access),
  engine: 'svm',
  registers: {
    ...processor,
    nestedCr3: { lo: 0x2_0000, hi: 0 },
    hostCr0: PE_PG_WP,
    hostCr4: PAE,
    hostEfer: LONG,
    ...changes,
  },
});

describe('without nested paging', () => {
  it.each<[string, Any, AccessResult]>([
    ['four levels', native(fourLevels), done([0x1_0008, 8])],
    [
      'an access in two pages',
      native(fourLevels, {}, { linear: { lo: 0x40_1ffd, hi: 0 } }),
      done([0x1_0ffd, 3], [0x1_1000, 5]),
    ],
    ['the second page is absent', native(fourLevels, {}, { linear: { lo: 0x40_2ffd, hi: 0 } }), fault(4, 0x40_3000)],
    [
      'no paging',
      native([], { cr0: 1, cr4: 0, efer: 0 }, { linear: { lo: 0xffff_fffe, hi: 9 } }),
      done([0xffff_fffe, 2], [0, 6]),
    ],
    [
      'an address that is not canonical',
      native(fourLevels, {}, { linear: { lo: 0, hi: 0x8000 } }),
      { kind: 'generalProtection' },
    ],
    [
      'one that becomes so',
      native(fourLevels, {}, { linear: { lo: 0xffff_ffff, hi: 0x7fff } }),
      { kind: 'generalProtection' },
    ],
    ['long mode without PAE', native([], { cr4: 0 }), { kind: 'invalidState' }],
    ['a root beyond the address width', native([], { cr3: { lo: 0, hi: 0x100 } }), { kind: 'invalidState' }],
    ['a reserved bit', native([...fourLevels, ...pokes([2, 0, 0x3007, 0x100])]), fault(0xd)],
    ['XD without NXE', native([...fourLevels, ...pokes([4, 1, 0x1_0007, 0x8000_0000])], { efer: 0x100 }), fault(0xd)],
    [
      'a fetch at XD',
      native([...fourLevels, ...pokes([1, 0, 0x2007, 0x8000_0000])], {}, { kind: 'fetch' }),
      fault(0x15),
    ],
    ['tables beyond memory read as ones', native(pokes([1, 0, 0x2007, 0x80])), fault(0xd)],
    [
      'a supervisor stopped by SMAP',
      native(fourLevels, { cr4: PAE + 2 ** 21 }, { privilege: 'implicit', ac: 'set' }),
      fault(1),
    ],
    [
      'and one with AC',
      native(fourLevels, { cr4: PAE + 2 ** 21 }, { privilege: 'supervisor', ac: 'set' }),
      done([0x1_0008, 8]),
    ],
    [
      'a key',
      native([...fourLevels, ...pokes([4, 1, 0x1_0007, 0x2800_0000])], { cr4: PAE + 2 ** 22, pkru: 0x400 }),
      fault(0x25),
    ],
    [
      'PAE, a bad PDPTE elsewhere',
      native(pokes([1, 0, 0x2001], [1, 3, 0x2003]), { efer: 0 }),
      { kind: 'generalProtection' },
    ],
  ])('%s', (_, one, expected) => {
    expect(run(one).result).toEqual(expected);
  });
  it('4 MiB pages take eight more bits of address', () => {
    const image = pokes([1, 0, 0, 0x40_2087]);
    expect(run(native(image, { cr4: 0x10, efer: 0 })).result).toEqual(done([0x1_0040_1008, 8]));
  });
  it('sets flags in all entries used, dirty in the last alone', () => {
    const { changed } = run(native(fourLevels, {}, { kind: 'readModifyWrite' }));
    expect(changed.map(({ mfn, bits }) => [mfn, bits.lo])).toEqual([[1, 0x20], [2, 0x20], [3, 0x20], [4, 0x60]]); // prettier-ignore
  });
});

describe('with extended tables', () => {
  const violation = (qualification: number, guestPhysical: number): AccessResult => ({
    kind: 'eptViolation',
    qualification,
    guestPhysical,
    linear: reading.linear,
  });
  it.each<[string, Any, AccessResult]>([
    ['two dimensions', vmx([...fourLevels, ...extended(() => 7)]), done([0x1_0008, 8])],
    [
      'a guest table that is not mapped',
      vmx([...fourLevels, ...extended((gfn) => (gfn === 2 ? 0 : 7))]),
      violation(0x81, 0x2000),
    ],
    [
      'accessed flags of a guest need a writable table',
      vmx([...fourLevels, ...extended((gfn) => (gfn === 2 ? 5 : 7))]),
      violation(0xab, 0x2000),
    ],
    [
      'with flags on, reading a table is writing it',
      vmx([...fourLevels, ...extended((gfn) => (gfn === 2 ? 5 : 7))], { eptp: { lo: 0x2_005e, hi: 0 } }),
      violation(0xab, 0x2000),
    ],
    [
      'a write to a page that is only readable',
      vmx([...fourLevels, ...extended((gfn) => (gfn === 0x10 ? 1 : 7))], {}, { kind: 'write' }),
      violation(0x18a, 0x1_0008),
    ],
    [
      'a page fault of the guest comes first',
      vmx(
        [...fourLevels, ...pokes([4, 1, 0x1_0005]), ...extended((gfn) => (gfn === 0x10 ? 1 : 7))],
        {},
        { kind: 'write' },
      ),
      fault(7),
    ],
    [
      'write without read',
      vmx([...fourLevels, ...extended((gfn) => (gfn === 0x10 ? 2 : 7))]),
      { kind: 'eptMisconfiguration', guestPhysical: 0x1_0008 },
    ],
    ['a walk length that does not exist', vmx([], { eptp: { lo: 0x2_0016, hi: 0 } }), { kind: 'invalidState' }],
  ])('%s', (_, one, expected) => {
    expect(run(one).result).toEqual(expected);
  });
});

describe('with nested paging', () => {
  const nested = (gfn: number, lo: number): readonly Poke[] =>
    extended((one) => (one === gfn ? lo : 7)).map((poke) => (poke.mfn === 0x23 ? { ...poke, word: { ...poke.word, lo: poke.word.lo - 0x30 } } : poke)); // prettier-ignore
  const exit = (lo: number, hi: number, guestPhysical: number): AccessResult => ({
    kind: 'nestedPageFault',
    info: { lo, hi },
    guestPhysical,
  });
  it.each<[string, Any, AccessResult]>([
    ['two dimensions', svm([...fourLevels, ...nested(0, 7)]), done([0x1_0008, 8])],
    ['a guest table that is only readable', svm([...fourLevels, ...nested(2, 5)]), exit(7, 2, 0x2000)],
    ['a page that is the supervisor of the host', svm([...fourLevels, ...nested(0x10, 3)]), exit(5, 1, 0x1_0008)],
    ['a page that is absent', svm([...fourLevels, ...nested(0x10, 0)], {}, { kind: 'fetch' }), exit(0x14, 1, 0x1_0008)],
    ['a host without paging', svm([], { hostCr0: 1 }), { kind: 'invalidState' }],
  ])('%s', (_, one, expected) => {
    expect(run(one).result).toEqual(expected);
  });
});
