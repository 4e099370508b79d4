// The architecture's walk of nested page tables, as pure functions over words: what an entry means at its level, and where a
// guest frame leads. Isolation is judged with these, from the bytes alone. The walk is the same for both formats, EPT and
// NPT: each level narrows the rights, the first entry that is absent or malformed ends it. (ept.ts and npt.ts say what
// an entry means.) A first reader may skip `Walk`.
// Sources: Intel SDM vol. 3C, "EPT Translation Mechanism", "EPT Violations"; AMD64 APM vol. 2, "Nested Paging".

import type { Gfn, Mfn, Word } from '#abi/address.ts';
import { framesPerLeaf, gfnCount, tableEntries, type Geometry } from '#abi/geometry.ts';
import type { TableFormat } from '#abi/vendor.ts';
import { and } from '#lib/bits.ts';
import { decodeEpt } from './ept.ts';
import { ALL_RIGHTS, type Decoder, type EntryMeaning } from './meaning.ts';
import { decodeNpt } from './npt.ts';

/** What kind of tables are walked. */
export interface Tables {
  readonly format: TableFormat;
  readonly geometry: Geometry;
}

/** The word `index` of frame `mfn`, as the hardware reads it. */
export type WordReader = (mfn: Mfn, index: number) => Word;

const decoders: Readonly<Record<TableFormat, Decoder>> = { ept: decodeEpt, npt: decodeNpt };

/** What `word` means as an entry at `level` (1: the lowest) of such tables. */
export const decodeEntry = ({ format, geometry }: Tables, level: number, word: Word): EntryMeaning =>
  decoders[format](geometry, level, word);

/**
 * Where a walk ends. frame: the machine frame and the rights that all levels give together (perhaps none), `accessed` if
 * every entry used is marked so. violation: nothing is present at `level`. misconfiguration: reserved bits are set there.
 */
export type Walk =
  | {
      readonly kind: 'frame';
      readonly mfn: Mfn;
      readonly rights: number;
      readonly level: number;
      readonly type: number;
      readonly accessed: boolean;
      readonly dirty: boolean;
    }
  | { readonly kind: 'violation'; readonly level: number }
  | { readonly kind: 'misconfiguration'; readonly level: number };

/** Walks from the table `root` for `gfn`. A gfn beyond the tables' reach is a violation at the top. */
export function walkNested(tables: Tables, read: WordReader, from: { root: Mfn; gfn: Gfn }): Walk {
  const { geometry } = tables;
  const { gfn } = from;
  if (gfn >= gfnCount(geometry)) return { kind: 'violation', level: geometry.levels };
  let table = from.root;
  let rights = ALL_RIGHTS;
  let accessed = true;
  for (let { levels: level } = geometry; ; level -= 1) {
    const span = framesPerLeaf(geometry, level);
    const entry = decodeEntry(tables, level, read(table, Math.floor(gfn / span) % tableEntries(geometry)));
    if (entry.kind === 'absent') return { kind: 'violation', level };
    if (entry.kind === 'misconfiguration') return { kind: 'misconfiguration', level };
    rights = and(rights, entry.rights);
    accessed &&= entry.accessed;
    if (entry.kind === 'leaf') {
      const { type, dirty } = entry;
      return { kind: 'frame', mfn: (entry.mfn + (gfn % span)) as Mfn, rights, level, type, accessed, dirty };
    }
    table = entry.mfn;
  }
}
