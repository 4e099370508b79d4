// Simulated hardware, and so a judge: the processor's walk of nested page tables. It reads entries straight from memory,
// knows nothing of the hypervisor's software bits, and shares no code with the hypervisor's own walk (table.ts).
// Here is what EPT and NPT have in common: a tree of tables, rights that every level narrows, a leaf by bit 7, frame numbers in
// bits 12 to 51, flags for accessed and dirty. What the bits of an entry say is in ept-hardware.ts and npt-hardware.ts.
// Results are fields of the walker, so a walk allocates nothing. A walk changes nothing; `mark` sets accessed and dirty
// flags afterwards, for the entries that were used.
// A first reader may skip the constructor. Sources: Intel SDM vol. 3C, "EPT Translation Mechanism", "EPT Violations",
// "Accessed and Dirty Flags for EPT"; AMD64 APM vol. 2, "Nested Paging".

import { framesPerLeaf, gfnCount, tableEntries, type Geometry } from '#abi/geometry.ts';
import type { Field } from '../arena.ts';

const WRITE = 2;
const ALL_RIGHTS = 7;
const SUPERPAGE = 1 << 7;
/** Bits 32..51 of an entry, in its high half. */
const FRAME_HIGH = 0xf_ffff;

/** How a walk ended. violation: nothing is present at `level`. */
export type WalkOutcome = 'frame' | 'violation' | 'misconfiguration';

/** Whether an entry at `level` is a leaf, by its low half, for entries known to be well formed. */
export const isLeafEntry = (level: number, low: number): boolean => level === 1 || (low & SUPERPAGE) !== 0;

/** Walks nested tables in one memory. Fields hold what the last walk came to. */
export abstract class NestedWalker {
  outcome: WalkOutcome = 'violation';
  /** The level of the entry that ended the walk; the first level that was walked. */
  level = 0;
  top = 0;
  /** The very frame, inside a superpage too; valid for outcome 'frame'. */
  mfn = 0;
  /** What all entries used allow together. Before `walkFrom`: what those above allow. */
  rights = 0;
  /** By level, for those walked: the entry, and the rights from the root down to and with it. */
  readonly low: Int32Array;
  readonly high: Int32Array;
  readonly folded: Uint8Array;
  /** By level: guest frames that one entry covers. */
  readonly span: Float64Array;
  protected readonly geometry: Geometry;
  /** In the high half: bits of the frame number beyond the physical address width. */
  protected readonly reservedHigh: number;
  protected abstract readonly accessed: number;
  protected abstract readonly dirty: number;
  readonly #at: Int32Array;
  readonly #memory: Field;
  readonly #words: Int32Array;
  readonly #gfns: number;
  readonly #rootSpan: number;
  readonly #mask: number;

  constructor(geometry: Geometry, memory: Field, words: Int32Array) {
    const { levels, maxPhysAddr } = geometry;
    this.geometry = geometry;
    this.#memory = memory;
    this.#words = words;
    this.#gfns = gfnCount(geometry);
    this.#rootSpan = framesPerLeaf(geometry, levels);
    this.#mask = tableEntries(geometry) - 1;
    this.reservedHigh = FRAME_HIGH & ~((1 << (maxPhysAddr - 32)) - 1);
    this.low = new Int32Array(levels + 1);
    this.high = new Int32Array(levels + 1);
    this.folded = new Uint8Array(levels + 1);
    this.span = Float64Array.from({ length: levels + 1 }, (_, level) =>
      level === 0 ? 0 : framesPerLeaf(geometry, level),
    );
    this.#at = new Int32Array(levels + 1);
  }

  /** Whether there is anything in an entry. */
  protected abstract isPresent(lo: number): boolean;
  /** The rights of a present entry. */
  protected abstract rightsIn(lo: number, hi: number): number;
  /** Whether a present entry breaks the format of its level. */
  protected abstract isMalformed(lo: number, hi: number, level: number): boolean;

  /** Walks for `gfn` from the table `root`. A gfn wider than the tables reach is a violation at the root. */
  walk(root: number, gfn: number): void {
    this.rights = ALL_RIGHTS;
    this.walkFrom(root, this.geometry.levels, gfn);
  }

  /** Walks for `gfn` from a table of entries at `level`; `rights` holds what the entries above allow. */
  walkFrom(first: number, level: number, gfn: number): void {
    const { bitsPerLevel, levels, wordsPerFrame, frameCount } = this.geometry;
    this.top = level;
    if (!(gfn >= 0 && gfn < this.#gfns)) return this.#end('violation', level);
    const high = Math.floor(gfn / this.#rootSpan);
    const rest = gfn - high * this.#rootSpan;
    for (let table = first, at = level; ; at -= 1) {
      const shift = (at - 1) * bitsPerLevel;
      const index = at === levels ? high : (rest >>> shift) & this.#mask;
      // There is no memory beyond the last frame; what is not there reads as ones, as on a bus.
      const word = table < frameCount ? 2 * (table * wordsPerFrame + index) : -1;
      const lo = word < 0 ? -1 : (this.#words[this.#memory.base + word] as number);
      const hi = word < 0 ? -1 : (this.#words[this.#memory.base + word + 1] as number);
      if (!this.isPresent(lo)) return this.#end('violation', at);
      if (this.isMalformed(lo, hi, at)) return this.#end('misconfiguration', at);
      this.rights &= this.rightsIn(lo, hi);
      this.low[at] = lo;
      this.high[at] = hi;
      this.folded[at] = this.rights;
      this.#at[at] = word;
      table = this.frameOf(at, lo, hi);
      if (!isLeafEntry(at, lo)) continue;
      this.mfn = table + (rest & ((1 << shift) - 1));
      return this.#end('frame', at);
    }
  }

  /** Takes a leaf that is remembered for the answer: nothing is walked. */
  answer(mfn: number, rights: number): void {
    this.mfn = mfn;
    this.rights = rights;
    this.top = 0;
    this.#end('frame', 1);
  }

  /** Whether the last walk came to a frame that may be used for `access` (rights bits). */
  allows(access: number): boolean {
    return this.outcome === 'frame' && (this.rights & access) === access;
  }

  /** Marks the entries used by the last walk, down to `lowest`, as accessed, and a leaf that is written as dirty. */
  mark(lowest: number, access: number): void {
    for (let at = this.top; at >= lowest && at > 0; at -= 1) {
      const isWritten = at === this.level && this.outcome === 'frame' && (access & WRITE) !== 0;
      const low = this.low[at] as number;
      const marked = low | this.accessed | (isWritten ? this.dirty : 0);
      if (marked === low) continue;
      this.low[at] = marked;
      this.#memory.set(this.#at[at] as number, marked);
    }
  }

  /** Whether a leaf is marked dirty, by its low half. */
  isDirty(low: number): boolean {
    return (low & this.dirty) !== 0;
  }

  /** Whether two low halves are the same entry but for the dirty flag. */
  isSameButDirty(a: number, b: number): boolean {
    return ((a ^ b) & ~this.dirty) === 0;
  }

  /** The frame number in an entry: of a table, or the first one of a leaf. */
  frameOf(_level: number, low: number, high: number): number {
    return (low >>> 12) + (high & FRAME_HIGH) * 0x10_0000;
  }

  #end(outcome: WalkOutcome, level: number): void {
    this.outcome = outcome;
    this.level = level;
  }
}
