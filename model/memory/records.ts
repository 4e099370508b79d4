// What is remembered of a domain besides what its gfns mean: the log of its writes, memory on demand, who watches its accesses.
// Only types. Sources: Xen asm/domain.h (log_dirty_domain), asm/p2m.h (pod), xen/vm_event.h.

import type { DomId, Gfn } from '#abi/address.ts';
import type { P2mAccess } from '#abi/hap.ts';
import type { Trie } from '#lib/trie.ts';

/** A call about the log of writes that was preempted: whose, which, and how many gfns it has dealt with. The domain stays paused. */
export interface Unfinished {
  readonly by: DomId;
  readonly action: 'cleans' | 'peeks' | 'disables';
  readonly done: number;
}

/** Which gfns were written since they were looked at last, as far as pages for the bitmap could be had. */
export interface DirtyLog {
  readonly on: boolean;
  readonly dirty: Trie<true>;
  /** Pages that the bitmap has, by level (0: leaves), each by its number. */
  readonly pages: readonly Trie<true>[];
  /** Bits set since the last clean, as it is told: clearing does not count. */
  readonly count: number;
  /** Pages that could not be had. */
  readonly failed: number;
  readonly unfinished: Unfinished | undefined;
}

/** gfns from `from` to before `to`. */
export interface Run {
  readonly from: number;
  readonly to: number;
}

/** A place that was populated on demand: a gfn, or as many as a superpage has. */
export interface Populated {
  readonly gfn: Gfn;
  readonly isLarge: boolean;
}

/** Memory on demand of a domain. */
export interface Pod {
  /** gfns that are on demand: runs, ascending, none of which touch. */
  readonly entries: readonly Run[];
  /** Frames set aside for them: owned, at no gfn, zero; alone, or as part of an aligned run of a superpage's size. */
  readonly cache: Trie<'single' | 'large'>;
  /** The highest gfn populated so far, and where the next sweep for unused memory begins (0: there). */
  readonly highest: number;
  readonly sweepAt: number;
  /** A ring of what was populated last, and where the next goes. */
  readonly recent: readonly (Populated | undefined)[];
  readonly recentAt: number;
}

/** Who watches a domain's accesses: what new entries leave, whether somebody is told of what is kept, and whether somebody has to be. */
export interface Watch {
  readonly leaves: P2mAccess;
  readonly listens: boolean;
  readonly required: boolean;
}
