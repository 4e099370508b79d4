// Rights as a set of three bits, in the order of an EPT entry's low bits, so that folding rights over levels is `and`.
// Source: Intel SDM vol. 3C, "EPT Translation Mechanism", bits 0 to 2 of every entry.

/** Read, write and execute as bits 0, 1 and 2. */
export const RIGHT = { read: 1, write: 2, execute: 4 } as const;

/** Rights written as letters, `'rw'`, as bits. */
export const rightsOf = (letters: string): number =>
  (letters.includes('r') ? RIGHT.read : 0) +
  (letters.includes('w') ? RIGHT.write : 0) +
  (letters.includes('x') ? RIGHT.execute : 0);

/** Rights bits as letters; nothing is `-`. */
export const describeRights = (rights: number): string =>
  rights === 0 ? '-' : ['r', 'w', 'x'].filter((_, i) => Math.floor(rights / 2 ** i) % 2 === 1).join('');
