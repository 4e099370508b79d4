// Decisions the specification leaves open. The implementation emits each when it is made; the model checks that it was
// allowed (was that frame free? is that handle unused?) and follows it. Nothing else flows from implementation to model.

import type { DomId, Gfn, GrantHandle, Mfn, PcpuId } from './address.ts';
import type { FailureClass } from './failures.ts';

export type Choice =
  /** The heap gave 2^order frames from mfn on. */
  | { readonly kind: 'frame'; readonly mfn: Mfn; readonly order: number }
  /** An unused maptrack handle was taken. */
  | { readonly kind: 'handle'; readonly handle: GrantHandle }
  /** A page of the domain's pool became a table. */
  | { readonly kind: 'tableTaken'; readonly domain: DomId; readonly mfn: Mfn }
  /** A table page returned to the domain's pool. */
  | { readonly kind: 'tableGiven'; readonly domain: DomId; readonly mfn: Mfn }
  /** A page of the domain's pool became part of its bitmap of written frames, and was given back. */
  | { readonly kind: 'bitmapTaken'; readonly domain: DomId; readonly mfn: Mfn }
  | { readonly kind: 'bitmapGiven'; readonly domain: DomId; readonly mfn: Mfn }
  /** An access met a page whose writes are logged, or memory on demand; that is done, and the processor makes the access again. */
  | { readonly kind: 'retried' }
  /** A pool page was given back to the heap. */
  | { readonly kind: 'poolGiven'; readonly domain: DomId; readonly mfn: Mfn }
  /**
   * 2^order frames from mfn on left the domain's cache for memory on demand: for a gfn, for the heap, or at the domain's end.
   */
  | { readonly kind: 'podTaken'; readonly domain: DomId; readonly mfn: Mfn; readonly order: number }
  /** A large entry on demand around gfn, of 2^order gfns, was split to be populated in smaller pieces. */
  | { readonly kind: 'podSplit'; readonly domain: DomId; readonly gfn: Gfn; readonly order: number }
  /** Memory that the domain gives back, 2^order frames at gfn, goes to its cache. */
  | { readonly kind: 'podStolen'; readonly domain: DomId; readonly gfn: Gfn; readonly mfn: Mfn; readonly order: number }
  /** Memory on demand was asked for, and none could be found: the domain is stopped for it. */
  | { readonly kind: 'podExhausted'; readonly domain: DomId; readonly gfn: Gfn }
  /** A pCPU forgot all translations of a domain. */
  | { readonly kind: 'flush'; readonly pcpu: PcpuId; readonly domain: DomId }
  /** Processors of a paravirtual guest have forgotten what it asked them to, or what a change that it asked for makes them forget. */
  | { readonly kind: 'forgotten' }
  /** A free frame's content was erased. */
  | { readonly kind: 'scrub'; readonly mfn: Mfn }
  /** An access used this translation from a cache instead of walking the tables. */
  | { readonly kind: 'cached'; readonly mfn: Mfn; readonly rights: number }
  /**
   * An access used what was loaded through the guest's own tables: a page (`leaf`), or an entry at `level` that leads to a table,
   * from where the walk went on. `gfn` and `mfn`: where the page or the table lies; `rights`: what the nested tables gave for
   * it; `guest`: what the guest's tables gave down to there.
   */
  | {
      readonly kind: 'combined';
      readonly leaf: boolean;
      readonly level: number;
      readonly gfn: Gfn;
      readonly mfn: Mfn;
      readonly rights: number;
      readonly guest: number;
    }
  /** An access walked the tables: the nested ones for a gfn, the guest's from its root for a linear frame. */
  | { readonly kind: 'walked' }
  /**
   * A resource was refused: because the step orders it, or because it is exhausted; the log does not say which. `done` tells which of several like parts it was: the
   * parts complete by then (elements, start included; pages for memory.decrease and populateOnDemand). Below zero: memory on demand, by gfn
   * (`podPart`). Absent: the first that could fail.
   */
  | { readonly kind: 'failed'; readonly class: FailureClass; readonly done?: number }
  /**
   * The operation stopped at a preemption check, with `done` parts complete (absent: at the first check). Or `within` a table of a
   * paravirtual guest, before the entry at `index` was looked at, while entries were being taken or let go of.
   */
  | { readonly kind: 'preempted'; readonly done?: number; readonly within?: WithinTable };

/** Where in a table an operation stopped. */
export interface WithinTable {
  readonly mfn: Mfn;
  readonly index: number;
  readonly way: 'takes' | 'drops';
}

/** Changes of entries on demand that the pool can refuse: of what was asked for, of what is looked at, of what is larger than any run. */
const podChanges = ['asked', 'looked', 'giant'] as const;

/** Names a refused change of entries on demand, by its first gfn. */
export const podPart = (gfn: number, change: (typeof podChanges)[number] = 'asked'): number =>
  -1 - podChanges.length * gfn - podChanges.indexOf(change);

export type ChoiceKind = Choice['kind'];

/** A choice with its place in the machine-wide order of choices. */
export interface Logged {
  readonly seq: number;
  readonly choice: Choice;
}
