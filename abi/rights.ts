// Rights as a set of bits: three in the low bits in the order of an EPT entry's, so that folding rights over levels is `and`; and
// one for each level at which a processor walks a frame as a page table, which is something that a frame can be reached for, too.
// Source: Intel SDM vol. 3C, "EPT Translation Mechanism", bits 0 to 2 of every entry.

import { pow2 } from '#lib/bits.ts';

/** Read, write and execute as bits 0, 1 and 2. */
export const RIGHT = { read: 1, write: 2, execute: 4 } as const;

/** Walking a frame as a table of `level`, 1 the lowest. */
export const walkRight = (level: number): number => pow2(2 + level);

/** Rights written as letters, `'rw'`, as bits. */
export const rightsOf = (letters: string): number =>
  (letters.includes('r') ? RIGHT.read : 0) +
  (letters.includes('w') ? RIGHT.write : 0) +
  (letters.includes('x') ? RIGHT.execute : 0);

const LETTERS = ['r', 'w', 'x', ' as l1', ' as l2', ' as l3', ' as l4', ' as l5'];

/** Rights bits as letters, and as what the frame is walked; nothing is `-`. */
export const describeRights = (rights: number): string =>
  rights === 0
    ? '-'
    : LETTERS.filter((_, i) => Math.floor(rights / 2 ** i) % 2 === 1)
        .join('')
        .trim();
