// Guests on extended page tables, one directed case for each rule: violations with their qualification, misconfigurations, and what
// guest tables and extended tables make of each other. A first reader may skip the builders' file.
// Qualification: 1 read, 2 write, 4 fetch; 8, 16, 32, 64 what EPT allows of these (64: fetches in user mode); 128 the linear address
// is valid; 256 it was translated, and no guest table accessed.

import type { Poke } from '#abi/case.ts';
import { describe, expect, test } from 'vitest';
import {
  ALL,
  bitAt,
  done,
  entry,
  extended,
  fault,
  fetch,
  invalid,
  misconfigured,
  mode32,
  mode5,
  modePae,
  modify,
  poke,
  READ_ONLY,
  rules,
  SUPERVISOR,
  supervisor,
  tables32,
  tables4,
  tables5,
  tablesPae,
  unpaged,
  violation,
  vmx,
  word,
  write,
} from '../paging/samples.testing.ts';
import { translateAccess } from '../paging/translate.ts';

/** A 4-level guest on EPT with one entry changed; `first` maps the guest's tables. */
const onEpt = (change: Parameters<typeof extended>[0], first?: bigint) => [...tables4({}), ...extended(change, first)];
const dirtyEpt = { eptp: word(0x8005en) };
const mbe = { modeBasedExecute: 'on' } as const;
/** RWX and write-back, with accessed and dirty flags. */
const LEAF = 0x337n;
const clean = tables4({ 1: entry(0x200, 0x07n) });

rules('guests on EPT', [
  ['a 4-level guest', vmx(onEpt({})), done(0x30_0010)],
  ['a 5-level guest', vmx([...tables5({}), ...extended({})], mode5), done(0x30_0010)],
  ['a 32-bit guest', vmx([...tables32({}), ...extended({})], mode32), done(0x30_0010)],
  ['a guest without paging', vmx(extended({}), { ...unpaged }, { linear: word(0x20_0010n) }), done(0x30_0010)],
  [
    'five levels of EPT',
    vmx([...onEpt({}), poke(0x7f, 0, entry(0x80, 7n))], { eptp: word(0x7f026n) }),
    done(0x30_0010),
  ],
  ['2 MiB pages', vmx(onEpt({ 2: entry(0x600, 0xb7n) })), done(0x60_0010)],
  ['1 GiB pages', vmx([...tables4({}), ...extended({ 3: entry(0, 0xb7n) })]), done(0x20_0010)],
  [
    'a PAE guest has its PDPTEs from the VMCS',
    vmx([...tablesPae({ 3: 0n }), ...extended({})], { ...modePae, pdptes: [{ entry: word(entry(0x12, 1n)) }] }),
    done(0x30_0010),
  ],
  ['none there are four zeros', vmx([...tablesPae({}), ...extended({})], modePae), fault(4)],
  ['VM entry refuses PDPTEs with reserved bits', vmx([], { ...modePae, pdptes: [{ entry: word(3n) }] }), invalid],
  [
    'the guest faults by its own tables first',
    vmx([...tables4({ 1: entry(0x200, READ_ONLY) }), ...extended({ 1: 0n })], {}, write),
    fault(7),
  ],
  [
    'an access may straddle guest pages that lie apart',
    vmx(
      [...onEpt({}), poke(0x13, 4, entry(0x201, ALL)), poke(0x83, 1, entry(0x500, LEAF))],
      {},
      { linear: word(0x60_3fffn), size: 2 },
    ),
    {
      kind: 'done',
      bytes: [
        { maddr: 0x30_0fff, count: 1 },
        { maddr: 0x50_0000, count: 1 },
      ],
    },
  ],
]);

rules('states that VM entry refuses', [
  ['a memory type of EPTP other than 0 and 6', vmx([], { eptp: word(0x8001cn) }), invalid],
  ['3 levels', vmx([], { eptp: word(0x80016n) }), invalid],
  ['6 levels', vmx([], { eptp: word(0x8002en) }), invalid],
  ['bit 7 of EPTP', vmx([], { eptp: word(0x8009en) }), invalid],
  ['EPTP beyond MAXPHYADDR', vmx([], { eptp: word(0x8001en + bitAt(40)) }), invalid],
  ['CR3 beyond MAXPHYADDR, even without paging', vmx([], { ...unpaged, cr3: word(bitAt(40)) }), invalid],
  ['PG without PE', vmx([], { ...mode32, cr0: 0x8000_0000 }), invalid],
]);

rules('EPT violations', [
  ['an absent page', vmx(onEpt({ 1: 0n })), violation(1 + 384)],
  [
    'an absent table leaves nothing of what others allow',
    vmx(onEpt({ 3: 0n, 2: entry(0x83, 7n) }, 0n)),
    violation(1 + 128, 0x1_0000),
  ],
  ['a write to a read-only page', vmx(onEpt({ 1: entry(0x300, 0x31n) }), {}, write), violation(2 + 8 + 384)],
  ['a fetch from an unexecutable page', vmx(onEpt({ 1: entry(0x300, 0x33n) }), {}, fetch), violation(4 + 24 + 384)],
  [
    'rights are folded over the levels',
    vmx(onEpt({ 2: entry(0x83, 3n), 1: entry(0x300, 0x35n) }), {}, write),
    violation(2 + 8 + 384),
  ],
  ['a read of an execute-only page', vmx(onEpt({ 1: entry(0x300, 0x34n) })), violation(1 + 32 + 384)],
  ['a fetch from an execute-only page is none', vmx(onEpt({ 1: entry(0x300, 0x34n) }), {}, fetch), done(0x30_0010)],
  [
    'a read-modify-write is named as a write',
    vmx(onEpt({ 1: entry(0x300, 0x31n) }), {}, modify),
    violation(2 + 8 + 384),
  ],
  ['a guest without paging has a linear address too', vmx(extended({}), unpaged), violation(1 + 384, 0x60_3010)],
  [
    'a guest table out of reach: bit 8 clear, the address of the entry',
    vmx(onEpt({}, 0n)),
    violation(1 + 128, 0x1_0000),
  ],
  ['of 4-byte entries as well', vmx([...tables32({}), ...extended({}, 0n)], mode32), violation(1 + 128, 0x1_0004)],
  [
    'the second page of an access',
    vmx([...onEpt({}), poke(0x13, 4, entry(0x201, ALL))], {}, { linear: word(0x60_3ffen) }),
    violation(1 + 384, 0x20_1000, 0x60_4000n),
  ],
  [
    'beyond 48 bits four levels have nothing',
    vmx([...tables4({ 1: entry(0x200, ALL) + bitAt(48) }), ...extended({})], { maxPhysAddr: 52 }),
    violation(1 + 384, 2 ** 48 + 0x20_0010),
  ],
]);

rules('EPT and the flags of guest tables', [
  ['reading guest tables needs no write access', vmx(onEpt({}, 0xb5n)), done(0x30_0010)],
  ['setting a flag in them does', vmx([...clean, ...extended({}, 0xb5n)]), violation(3 + 8 + 32 + 128, 0x1_3018)],
  [
    'also the dirty flag alone',
    vmx([...tables4({ 1: entry(0x200, 0x27n) }), ...extended({}, 0xb5n)], {}, write),
    violation(3 + 8 + 32 + 128, 0x1_3018),
  ],
  [
    'not if a read finds the accessed flag',
    vmx([...tables4({ 1: entry(0x200, 0x27n) }), ...extended({}, 0xb5n)]),
    done(0x30_0010),
  ],
  [
    'with flags for EPT, guest tables are written by every walk',
    vmx(onEpt({}, 0xb5n), dirtyEpt),
    violation(3 + 8 + 32 + 128, 0x1_0000),
  ],
  ['also if they cannot be read', vmx(onEpt({}, 0xb4n), dirtyEpt), violation(3 + 32 + 128, 0x1_0000)],
  [
    'a fault of the guest comes before its flags are set',
    vmx([...tables4({ 1: entry(0x200, 0x01n) }), ...extended({}, 0xb5n)]),
    fault(5),
  ],
]);

rules('mode-based execute control', [
  ['bit 10 holds for user-mode addresses', vmx(onEpt({ 1: entry(0x300, 0x33n) }), mbe, fetch), violation(4 + 24 + 384)],
  ['every level needs it', vmx(onEpt({ 1: entry(0x300, 0x437n) }), mbe, fetch), violation(4 + 56 + 384)],
  [
    'with it at every level a user fetches',
    vmx(
      onEpt({ 4: entry(0x81, 0x407n), 3: entry(0x82, 0x407n), 2: entry(0x83, 0x407n), 1: entry(0x300, 0x433n) }),
      mbe,
      fetch,
    ),
    done(0x30_0010),
  ],
  [
    'bit 2 holds for supervisor-mode addresses',
    vmx([...tables4({ 1: entry(0x200, SUPERVISOR) }), ...extended({})], mbe, { ...fetch, ...supervisor }),
    done(0x30_0010),
  ],
  [
    'it is the page that counts, not the privilege',
    vmx(onEpt({}), mbe, { ...fetch, ...supervisor }),
    violation(4 + 56 + 384),
  ],
  [
    'bit 6 tells what bit 10 allows',
    vmx(
      [
        ...tables4({ 1: entry(0x200, SUPERVISOR) }),
        ...extended({
          4: entry(0x81, 0x407n),
          3: entry(0x82, 0x407n),
          2: entry(0x83, 0x407n),
          1: entry(0x300, 0x433n),
        }),
      ],
      mbe,
      { ...fetch, ...supervisor },
    ),
    violation(4 + 24 + 64 + 384),
  ],
  [
    'without paging addresses are user-mode ones',
    vmx(extended({}), { ...unpaged, ...mbe }, { ...fetch, linear: word(0x20_0010n) }),
    violation(4 + 56 + 384, 0x20_0010, 0x20_0010n),
  ],
  ['bit 10 alone makes an entry present', vmx(onEpt({ 1: entry(0x300, 0x430n) }), mbe), violation(1 + 384)],
  ['without the control bit 10 is ignored', vmx(onEpt({ 1: entry(0x300, 0x430n) })), violation(1 + 384)],
]);

rules('EPT misconfigurations', [
  ['write without read', vmx(onEpt({ 1: entry(0x300, 0x32n) })), misconfigured()],
  ['write and execute without read', vmx(onEpt({ 2: entry(0x83, 6n) })), misconfigured()],
  ['write and user-mode execute without read', vmx(onEpt({ 1: entry(0x300, 0x432n) }), mbe), misconfigured()],
  ['memory type 2', vmx(onEpt({ 1: entry(0x300, 0x17n) })), misconfigured()],
  ['memory type 3', vmx(onEpt({ 1: entry(0x300, 0x1fn) })), misconfigured()],
  ['memory type 7', vmx(onEpt({ 1: entry(0x300, 0x3fn) })), misconfigured()],
  ['memory type 5 is none', vmx(onEpt({ 1: entry(0x300, 0x2fn) })), done(0x30_0010)],
  ['bits 6:3 of a table entry', vmx(onEpt({ 2: entry(0x83, 0xfn) })), misconfigured()],
  ['bit 7 of a PML4E', vmx(onEpt({ 4: entry(0x81, 0x87n) })), misconfigured(0x1_0000)],
  [
    'bit 7 of a PDPTE without 1 GiB pages',
    vmx(onEpt({ 3: entry(0, 0xb7n) }), { page1Gb: 'absent' }),
    misconfigured(0x1_0000),
  ],
  ['bit 12 of a 2 MiB page: there is no PAT', vmx(onEpt({ 2: entry(0x601, 0xb7n) })), misconfigured()],
  ['bits 29:12 of a 1 GiB page', vmx(onEpt({ 3: entry(0x200, 0xb7n) })), misconfigured(0x1_0000)],
  ['frames beyond MAXPHYADDR', vmx(onEpt({ 1: entry(0x300, LEAF) + bitAt(40) })), misconfigured()],
  ['bits 63:52 are ignored', vmx(onEpt({ 1: entry(0x300, LEAF) + bitAt(52) + bitAt(63) })), done(0x30_0010)],
  ['in an absent entry nothing is reserved', vmx(onEpt({ 1: entry(0x300, 0x18n) + bitAt(51) })), violation(1 + 384)],
  [
    'a misconfiguration comes before missing rights',
    vmx(onEpt({ 2: entry(0x83, 1n), 1: entry(0x300, 0x32n) }), {}, write),
    misconfigured(),
  ],
  ['an absent entry above hides it', vmx(onEpt({ 2: 0n, 1: entry(0x300, 0x32n) })), violation(1 + 384)],
]);

/** Guest tables from frame 0x10 on whose page table or directory is one of EPT as well. */
const shared = (change: Parameters<typeof tables4>[0], ept: readonly Poke[]) => [
  ...tables4(change),
  poke(0x80, 0, entry(0x81, 7n)),
  poke(0x81, 0, entry(0x82, 7n)),
  poke(0x82, 0, 0xb7n),
  ...ept,
];

rules('entries of a guest that are entries of EPT as well', [
  [
    'the accessed flag makes memory type 6 of type 2 before the page is looked up',
    vmx(shared({ 1: entry(0x203, 0x17n) }, [poke(0x82, 1, entry(0x13, 7n))])),
    done(0x20_3010),
  ],
  [
    'the accessed flag is reserved in an entry that leads to a table',
    vmx([
      ...tables4({ 2: entry(0x13, 0x07n), 1: entry(0x603, ALL) }),
      poke(0x80, 0, entry(0x81, 7n)),
      poke(0x81, 0, entry(0x12, 7n)),
      poke(0x12, 0, 0xb7n),
    ]),
    misconfigured(0x60_3010),
  ],
  [
    'what an access of two pages sets for the first counts for the second',
    vmx(
      [
        ...shared({ 1: entry(0x203, 0x17n) }, [poke(0x82, 1, entry(0x13, 7n)), poke(0x13, 0, entry(0x300, 0x37n))]),
        poke(0x13, 4, entry(0x203, ALL)),
      ],
      {},
      { linear: word(0x60_3ffen) },
    ),
    {
      kind: 'done',
      bytes: [
        { maddr: 0x20_3ffe, count: 2 },
        { maddr: 0x20_3000, count: 2 },
      ],
    },
  ],
]);

describe('flags in extended tables', () => {
  const mark = (mfn: number, index: number, bits: number) => ({ mfn, index, bits: { lo: bits, hi: 0 } });
  const path = (accessed: number) => [mark(0x80, 0, accessed), mark(0x81, 0, accessed)];

  test('there are none unless EPTP bit 6 is set', () => {
    expect(translateAccess(vmx(onEpt({}))).required).toEqual([]);
  });
  test('guest tables are written, the page of a read is not', () => {
    const expected = [...path(0x100), mark(0x82, 0, 0x300), mark(0x82, 1, 0x100), mark(0x83, 0, 0x100)];
    expect(translateAccess(vmx(onEpt({}), dirtyEpt)).required).toEqual(expected);
  });
  test('a write dirties the entry that maps its page', () => {
    expect(translateAccess(vmx(onEpt({}), dirtyEpt, write)).required).toContainEqual(mark(0x83, 0, 0x300));
  });
  test('after a violation they are left open', () => {
    const { required, allowed } = translateAccess(vmx(onEpt({ 1: 0n }), dirtyEpt));
    const expected = [...path(0x100), mark(0x82, 0, 0x300), mark(0x82, 1, 0x100)];
    expect({ required, allowed }).toEqual({ required: [], allowed: expected });
  });
  test('a guest table that cannot be written gets no flags, though its entries were used', () => {
    const image = [...tables4({ 4: entry(0x11, 0x07n), 1: 0n }), ...extended({}, 0xb5n)];
    expect(translateAccess(vmx(image)).allowed).toEqual([]);
  });
  test('the guest may have its flags when its page is out of reach', () => {
    expect(translateAccess(vmx([...clean, ...extended({ 1: 0n })], {}, write)).allowed).toEqual([mark(0x13, 3, 0x60)]);
  });
});
