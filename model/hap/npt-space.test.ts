// Guests on AMD's nested page tables, one directed case for each rule: nested page faults with their information, host paging modes,
// and what the two kinds of tables make of each other. A first reader may skip the builders' file.
// Nested faults: an error code as of page faults, then 1 for the guest's final address or 2 for its tables.

import { describe, expect, test } from 'vitest';
import {
  ALL,
  bitAt,
  done,
  entry,
  fault,
  fetch,
  HIGH,
  invalid,
  LA57,
  LONG_NO_NX,
  mode32,
  mode5,
  modePae,
  modify,
  nested,
  nestedFault,
  NO_WP,
  NX,
  NXE,
  PAE,
  poke,
  PS,
  PSE,
  READ_ONLY,
  rules,
  SMEP,
  supervisor,
  SUPERVISOR,
  svm,
  tables32,
  tables4,
  tables5,
  tablesPae,
  unpaged,
  word,
  write,
} from '../paging/samples.testing.ts';
import { translateAccess } from '../paging/translate.ts';

/** A 4-level guest on NPT with one entry changed; `first` maps the guest's tables. */
const onNpt = (change: Parameters<typeof nested>[0], first?: bigint) => [...tables4({}), ...nested(change, first)];

const hostPae = { hostEfer: NXE, hostCr4: PAE };
const host32 = { hostEfer: 0, hostCr4: PSE };
const nestedPae = [poke(0x80, 0, entry(0x82, 1n)), ...nested({}).slice(2)];
const nested32 = [poke(0x80, 0, ALL + PS), poke(0x83, 0x100, entry(0x300, ALL))];
rules('guests on NPT', [
  ['a 4-level guest', svm(onNpt({})), done(0x30_0010)],
  ['a 5-level guest', svm([...tables5({}), ...nested({})], mode5), done(0x30_0010)],
  ['a 32-bit guest', svm([...tables32({}), ...nested({})], mode32), done(0x30_0010)],
  ['a guest without paging', svm(nested({}), unpaged, { linear: word(0x20_0010n) }), done(0x30_0010)],
  [
    'a PAE guest has its PDPTEs read in the walk',
    svm([...tablesPae({}), ...nested({})], { ...modePae, pdptes: [{ entry: word(0n) }] }),
    done(0x30_0010),
  ],
  [
    'a reserved bit in one is a page fault',
    svm([...tablesPae({ 3: entry(0x12, 3n) }), ...nested({})], modePae),
    fault(0xd),
  ],
  [
    'one for other addresses does not matter',
    svm([...tablesPae({}), poke(0x10, 3, 3n), ...nested({})], modePae),
    done(0x30_0010),
  ],
  ['paged real mode exists', svm([...tables32({}), ...nested({})], { ...mode32, cr0: 0x8000_0000 }), done(0x30_0010)],
  ['bit 8 of a PML4E is reserved', svm([...tables4({ 4: entry(0x11, ALL) + bitAt(8) }), ...nested({})]), fault(0xd)],
  ['bit 8 of a PDPTE is not', svm([...tables4({ 3: entry(0x12, ALL) + bitAt(8) }), ...nested({})]), done(0x30_0010)],
  [
    'a 5-level host',
    svm([...onNpt({}), poke(0x7f, 0, entry(0x80, ALL))], { nestedCr3: word(0x7f000n), hostCr4: PAE + LA57 }),
    done(0x30_0010),
  ],
  ['a PAE host', svm([...tables4({}), ...nestedPae], hostPae), done(0x30_0010)],
  ['a host in 32-bit paging', svm([...tables4({}), ...nested32], host32), done(0x20_0010)],
]);

rules('states that VMRUN refuses', [
  ['a host without paging', svm([], { hostCr0: 1 }), invalid],
  ['a host in long mode without PAE', svm([], { hostCr4: 0 }), invalid],
  ['nested CR3 beyond MAXPHYADDR', svm([], { nestedCr3: word(bitAt(40)) }), invalid],
  ['long mode without PAE', svm([], { cr4: 0 }), invalid],
  ['PCIDE outside long mode', svm([], { ...unpaged, cr4: 0x2_0000 }), invalid],
  ['long mode without PE', svm([], { cr0: 0x8000_0000 }), invalid],
  ['CR3 beyond MAXPHYADDR in long mode', svm([], { cr3: word(bitAt(40)) }), invalid],
]);

rules('nested page faults', [
  ['an absent page', svm(onNpt({ 1: 0n })), nestedFault(4, 1)],
  ['supervisors are users to nested tables', svm(onNpt({ 1: 0n }), {}, supervisor), nestedFault(4, 1)],
  ['a supervisor page is for nobody', svm(onNpt({ 1: entry(0x300, SUPERVISOR) }), {}, supervisor), nestedFault(5, 1)],
  ['a write to a read-only page', svm(onNpt({ 1: entry(0x300, READ_ONLY) }), {}, write), nestedFault(7, 1)],
  [
    'whatever CR0.WP says in guest and host',
    svm(onNpt({ 1: entry(0x300, READ_ONLY) }), { cr0: NO_WP, hostCr0: NO_WP }, { ...write, ...supervisor }),
    nestedFault(7, 1),
  ],
  ['a read-modify-write is a write', svm(onNpt({ 1: entry(0x300, READ_ONLY) }), {}, modify), nestedFault(7, 1)],
  ['a fetch', svm(onNpt({ 1: entry(0x300, ALL) + NX }), {}, fetch), nestedFault(0x15, 1)],
  [
    'without host NXE the bit is reserved, and a fetch is not told',
    svm(onNpt({ 1: entry(0x300, ALL) + NX }), { hostEfer: LONG_NO_NX }, fetch),
    nestedFault(0xd, 1),
  ],
  [
    'host SMEP alone tells it',
    svm(onNpt({ 1: 0n }), { hostEfer: LONG_NO_NX, hostCr4: PAE + SMEP }, fetch),
    nestedFault(0x14, 1),
  ],
  ['host SMEP forbids nothing', svm(onNpt({}), { hostCr4: PAE + SMEP }, { ...fetch, ...supervisor }), done(0x30_0010)],
  ['the guest NXE does not matter', svm(onNpt({ 1: 0n }), { efer: LONG_NO_NX }, fetch), nestedFault(0x14, 1)],
  ['reserved bits', svm(onNpt({ 1: entry(0x300, ALL) + bitAt(40) })), nestedFault(0xd, 1)],
  ['bit 8 of a nested PML4E', svm(onNpt({ 4: entry(0x81, ALL) + bitAt(8) })), nestedFault(0xf, 2, 0x1_0000)],
  ['a guest table out of reach is a write, at its entry', svm(onNpt({}, 0n)), nestedFault(6, 2, 0x1_0000)],
  ['guest tables must be writable', svm(onNpt({}, READ_ONLY + PS)), nestedFault(7, 2, 0x1_0000)],
  ['also for fetches', svm(onNpt({}, READ_ONLY + PS), {}, fetch), nestedFault(7, 2, 0x1_0000)],
  ['and for users', svm(onNpt({}, SUPERVISOR + PS)), nestedFault(7, 2, 0x1_0000)],
  ['not executable', svm(onNpt({}, ALL + PS + NX), {}, fetch), done(0x30_0010)],
  ['PDPTEs are guest tables', svm([...tablesPae({}), ...nested({}, 0n)], modePae), nestedFault(6, 2, 0x1_0000)],
  [
    'a PAE host with a reserved bit in a PDPTE',
    svm([...tables4({}), poke(0x80, 0, entry(0x82, 3n))], hostPae),
    nestedFault(0xf, 2, 0x1_0000),
  ],
  [
    'the guest faults by its own tables first',
    svm([...tables4({ 1: entry(0x200, SUPERVISOR) }), ...nested({ 1: 0n })]),
    fault(5),
  ],
  [
    'beyond 32 bits a PAE host has nothing',
    svm([...tables4({ 1: entry(0x200, ALL) + bitAt(32) }), ...nestedPae], hostPae),
    nestedFault(4, 1, 2 ** 32 + 0x20_0010),
  ],
]);

test('a guest entry whose high half is an entry of a 32-bit host leads elsewhere once that is accessed and dirty', () => {
  const tables = [
    poke(0x10, 0, entry(0x411, ALL)),
    poke(0x11, 0, entry(0x412, ALL)),
    poke(0x12, 0, entry(0x413, ALL) + 0x87n * HIGH),
  ];
  const registers = { ...host32, cr3: word(0x41_0000n), nestedCr3: word(0x1_2000n) };
  const { result } = translateAccess(svm(tables, registers, { linear: word(0x3010n) }));
  expect(result).toEqual(nestedFault(6, 2, 0xe7_0041_3018));
});

describe('flags in nested tables', () => {
  const mark = (mfn: number, index: number, bits: number) => ({ mfn, index, bits: { lo: bits, hi: 0 } });

  test('accessed on the way, dirty behind guest tables', () => {
    const image = [...tables4({}), ...nested({ 4: entry(0x81, 7n), 2: entry(0x83, 7n), 1: entry(0x300, 7n) }, 0x87n)];
    const expected = [mark(0x80, 0, 0x20), mark(0x82, 0, 0x60), mark(0x82, 1, 0x20), mark(0x83, 0, 0x20)];
    expect(translateAccess(svm(image)).required).toEqual(expected);
  });
  test('a write dirties the entry that maps its page', () => {
    const image = onNpt({ 1: entry(0x300, 0x27n) });
    expect(translateAccess(svm(image, {}, write)).required).toEqual([mark(0x83, 0, 0x40)]);
  });
  test('after a fault they are left open', () => {
    const { required, allowed } = translateAccess(svm(onNpt({ 2: entry(0x83, 7n), 1: 0n })));
    expect({ required, allowed }).toEqual({ required: [], allowed: [mark(0x82, 1, 0x20)] });
  });
});
