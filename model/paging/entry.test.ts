// What entries mean, one directed case for each rule: reserved bits, large pages, PDPTEs. Error code 13 is a reserved bit met
// by a user's read. A first reader may skip the builders' file.

import {
  ALL,
  bitAt,
  done,
  entry,
  fault,
  LONG_NO_NX,
  mode32,
  mode5,
  modePae,
  native,
  NX,
  poke,
  protection,
  PS,
  rules,
  SUPERVISOR,
  supervisor,
  tables32,
  tables4,
  tables5,
  tablesPae,
  word,
  write,
} from './samples.testing.ts';

const unexecutable = tables4({ 1: entry(0x200, ALL) + NX });

/** All-permissive tables with reserved bits: the fault is 1 + 4 + 8. */
const RESERVED = fault(0xd);
const wide = entry(0x200, ALL) + bitAt(40);
rules('reserved bits', [
  ['frames beyond MAXPHYADDR, in a PTE', native(tables4({ 1: wide })), RESERVED],
  [
    'within MAXPHYADDR they are an address',
    native(tables4({ 1: wide }), { maxPhysAddr: 41 }),
    done(2 ** 40 + 0x20_0010),
  ],
  ['in a table entry', native(tables4({ 4: entry(0x11, ALL) + bitAt(51) })), RESERVED],
  [
    'MAXPHYADDR 52 leaves none',
    native(tables4({ 1: entry(0x200, ALL) + bitAt(51) }), { maxPhysAddr: 52 }),
    done(2 ** 51 + 0x20_0010),
  ],
  ['NX without NXE', native(unexecutable, { efer: LONG_NO_NX }), RESERVED],
  ['bit 7 of a PML4E', native(tables4({ 4: entry(0x11, ALL + PS) })), RESERVED],
  ['bit 7 of a PML5E', native(tables5({ 5: entry(0x10, ALL + PS) }), mode5), RESERVED],
  ['Intel: bit 8 of a PML4E is ignored', native(tables4({ 4: entry(0x11, ALL) + bitAt(8) })), done(0x20_0010)],
  ['a PDPTE maps 1 GiB', native(tables4({ 3: entry(0x4_0000, ALL + PS) })), done(0x4060_3010)],
  [
    'bit 7 of a PDPTE without 1 GiB pages',
    native(tables4({ 3: entry(0x4_0000, ALL + PS) }), { page1Gb: 'absent' }),
    RESERVED,
  ],
  ['bits 29:13 of a 1 GiB page', native(tables4({ 3: entry(0x6_0000, ALL + PS) })), RESERVED],
  ['bit 12 of a 1 GiB page is PAT', native(tables4({ 3: entry(0x4_0001, ALL + PS) })), done(0x4060_3010)],
  ['a PDE maps 2 MiB', native(tables4({ 2: entry(0x400, ALL + PS) })), done(0x40_3010)],
  ['bits 20:13 of a 2 MiB page', native(tables4({ 2: entry(0x402, ALL + PS) })), RESERVED],
  ['bit 12 of a 2 MiB page is PAT', native(tables4({ 2: entry(0x401, ALL + PS) })), done(0x40_3010)],
  ['bit 7 of a PTE is PAT', native(tables4({ 1: entry(0x200, ALL + PS) })), done(0x20_0010)],
  ['long mode ignores bits 62:52', native(tables4({ 1: entry(0x200, ALL) + bitAt(52) + bitAt(62) })), done(0x20_0010)],
  ['PAE paging reserves bits 62:52', native(tablesPae({ 1: entry(0x200, ALL) + bitAt(52) }), modePae), RESERVED],
  ['of PDEs as well', native(tablesPae({ 2: entry(0x13, ALL) + bitAt(62) }), modePae), RESERVED],
  ['PAE maps 2 MiB whatever CR4.PSE says', native(tablesPae({ 2: entry(0x400, ALL + PS) }), modePae), done(0x40_3010)],
  ['PAE: NX without NXE', native(tablesPae({ 1: entry(0x200, ALL) + NX }), { efer: 0 }), RESERVED],
  ['PAE: bits 20:13 of a 2 MiB page', native(tablesPae({ 2: entry(0x410, ALL + PS) }), modePae), RESERVED],
  ['a reserved bit comes before an absent entry below', native(tables4({ 4: entry(0x11, ALL + PS), 3: 0n })), RESERVED],
  ['and before missing rights', native(tables4({ 4: entry(0x11, SUPERVISOR), 1: wide })), RESERVED],
  ['but not if it stands in an absent entry', native(tables4({ 1: wide - 1n })), fault(4)],
  [
    'it is reported with all that the access was',
    native(tables4({ 1: wide }), {}, { ...write, ...supervisor }),
    fault(0xb),
  ],
]);

rules('4 MiB pages', [
  [
    'PSE-36: bits 20:13 are bits 39:32 of the address',
    native(tables32({ 2: entry(0x400, ALL + PS) + bitAt(20) }), mode32),
    done(2 ** 39 + 0x60_3010),
  ],
  ['bit 21 is reserved', native(tables32({ 2: entry(0x400, ALL + PS) + bitAt(21) }), mode32), RESERVED],
  [
    'so is what lies beyond MAXPHYADDR',
    native(tables32({ 2: entry(0x400, ALL + PS) + bitAt(17) }), { ...mode32, maxPhysAddr: 36 }),
    RESERVED,
  ],
  [
    'what lies below is not',
    native(tables32({ 2: entry(0x400, ALL + PS) + bitAt(16) }), { ...mode32, maxPhysAddr: 36 }),
    done(2 ** 35 + 0x60_3010),
  ],
  [
    'more than 40 bits there are never',
    native(tables32({ 2: entry(0x400, ALL + PS) + bitAt(21) }), { ...mode32, maxPhysAddr: 52 }),
    RESERVED,
  ],
  ['bit 12 is PAT', native(tables32({ 2: entry(0x401, ALL + PS) }), mode32), done(0x60_3010)],
  [
    'without CR4.PSE bit 7 is ignored',
    native(tables32({ 2: entry(0x13, ALL + PS) }), { ...mode32, cr4: 0 }),
    done(0x20_0010),
  ],
]);

/** Registers that lead where `tablesPae` does. */
const latched = { pdptes: [{ entry: word(entry(0x12, 1n)) }] };
rules('PDPTE registers', [
  [
    'a present entry with bit 1 faults when it is loaded',
    native(tablesPae({ 3: entry(0x12, 3n) }), modePae),
    protection,
  ],
  ['bit 5 too: there is no accessed flag', native(tablesPae({ 3: entry(0x12, 0x21n) }), modePae), protection],
  ['bit 63 too, even with NXE', native(tablesPae({ 3: entry(0x12, 1n) + NX }), modePae), protection],
  ['frames beyond MAXPHYADDR too', native(tablesPae({ 3: entry(0x12, 1n) + bitAt(40) }), modePae), protection],
  ['so does an entry for other addresses', native([...tablesPae({}), poke(0x10, 3, 3n)], modePae), protection],
  ['not an absent one', native([...tablesPae({}), poke(0x10, 3, 0x1e6n)], modePae), done(0x20_0010)],
  ['PWT, PCD and bits 11:9 are free', native(tablesPae({ 3: entry(0x12, 0xe19n) }), modePae), done(0x20_0010)],
  ['an absent one faults when it is used', native(tablesPae({ 3: 0n }), modePae), fault(4)],
  ['they withhold nothing', native(tablesPae({}), modePae, { ...write }), done(0x20_0010)],
  [
    'the table is aligned to 32 bytes',
    native([...tablesPae({ 3: 0n }), poke(0x10, 4, entry(0x12, 1n))], { ...modePae, cr3: word(0x1003fn) }),
    done(0x20_0010),
  ],
  [
    'what is latched is used, whatever memory holds by now',
    native(tablesPae({ 3: 3n }), { ...modePae, ...latched }),
    done(0x20_0010),
  ],
  ['registers left out are absent', native(tablesPae({}), { ...modePae, pdptes: [{ entry: word(0n) }] }), fault(4)],
]);
