// Another way to write a reference (goal P6): a walk of four levels over a Map of bigints, entries decoded afresh at each level, results as
// objects. It knows 4 KiB pages and user accesses, which is all that the scenes have, and sets no flags: they are set already.
// A first reader may skip it. Source: Intel SDM vol. 3A, "4-Level Paging and 5-Level Paging".

import type { Stage } from './cpu-tables.ts';

/** Entries by their physical address. */
export type BigMemory = ReadonlyMap<bigint, bigint>;

export type BigResult =
  { readonly kind: 'done'; readonly address: bigint } | { readonly kind: 'pageFault'; readonly code: number };

/** The memory of a stage; what is not there reads as 0. */
export function bigMemoryOf({ memory }: Stage): BigMemory {
  const entries = new Map<bigint, bigint>();
  for (let at = 0; at < memory.length; at += 2) {
    const entry = (BigInt((memory[at + 1] ?? 0) >>> 0) << 32n) | BigInt((memory[at] ?? 0) >>> 0);
    if (entry !== 0n) entries.set(BigInt(at) * 4n, entry);
  }
  return entries;
}

const decode = (entry: bigint) => ({
  present: (entry & 1n) !== 0n,
  writable: (entry & 2n) !== 0n,
  user: (entry & 4n) !== 0n,
  executeDisabled: entry >> 63n !== 0n,
  reserved: (entry & 0x000f_c000_0000_0000n) !== 0n,
  table: entry & 0x000f_ffff_ffff_f000n,
});

/** A user's read, write or fetch at a canonical address; the code has the bits that entries decide. */
export function bigTranslate(
  entries: BigMemory,
  root: bigint,
  linear: bigint,
  kind: 'read' | 'write' | 'fetch',
): BigResult {
  let table = root;
  let rights = { writable: true, user: true, executeDisabled: false };
  for (const shift of [39n, 30n, 21n, 12n]) {
    const entry = decode(entries.get(table + ((linear >> shift) & 0x1ffn) * 8n) ?? 0n);
    if (!entry.present) return { kind: 'pageFault', code: 0 };
    if (entry.reserved) return { kind: 'pageFault', code: 9 };
    rights = {
      writable: rights.writable && entry.writable,
      user: rights.user && entry.user,
      executeDisabled: rights.executeDisabled || entry.executeDisabled,
    };
    table = entry.table;
  }
  const isDenied =
    !rights.user || (kind === 'write' && !rights.writable) || (kind === 'fetch' && rights.executeDisabled);
  return isDenied ? { kind: 'pageFault', code: 1 } : { kind: 'done', address: table | (linear & 0xfffn) };
}
