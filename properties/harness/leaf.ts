// Ways to frames: by tables in memory, and by what processors remember.
// Both are said in the same terms, so that one question judges both.

/** A leaf of the tables in memory: `span` frames from `mfn` appear to `domain` from `gfn` on. */
export interface Leaf {
  readonly domain: number;
  readonly gfn: number;
  readonly span: number;
  readonly mfn: number;
  readonly rights: number;
  /** Software type code as stored in the entry. */
  readonly type: number;
}

/** A translation that pCPU `pcpu` could use without a further check, from its ring's `slot`. */
export interface Cached extends Leaf {
  readonly pcpu: number;
  readonly slot: number;
  /**
   * Whether a leaf was cached, or an upper entry from which the walk goes on in present memory; or something loaded through the
   * guest's own tables: a page, or a table of the guest in which it can set flags. `gfn` is where that lay.
   */
  readonly kind: 'leaf' | 'structure' | 'combined';
}

/** `leaf` as what pCPU `pcpu` could use from its ring's `slot`. */
export const cachedLeaf = (leaf: Leaf, { pcpu, slot, kind }: Pick<Cached, 'pcpu' | 'slot' | 'kind'>): Cached => ({
  domain: leaf.domain,
  gfn: leaf.gfn,
  span: leaf.span,
  mfn: leaf.mfn,
  rights: leaf.rights,
  type: leaf.type,
  pcpu,
  slot,
  kind,
});

/** Whether two leaves, or two cached translations from one slot, say the same. */
export const isSameLeaf = (a: Leaf | undefined, b: Leaf | undefined): boolean =>
  a === b ||
  (a !== undefined &&
    b !== undefined &&
    a.domain === b.domain &&
    a.gfn === b.gfn &&
    a.span === b.span &&
    a.mfn === b.mfn &&
    a.rights === b.rights &&
    a.type === b.type);
