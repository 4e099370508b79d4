// The registers of operations about memory on demand: marking, targets, and the part that memory.decrease has in it.
// A first reader may skip this file and meet them in pod-decrease.ts and pod.ts.

import type { Mfn } from '#abi/address.ts';
import type { Reclaim } from './pod-reclaim.ts';

/** A range is worked on in aligned pieces of one order; within a piece, gfn by gfn. */
export interface PodWork {
  /** The first gfn of the piece, the end of the range, how many gfns a piece has. */
  readonly piece: number;
  readonly end: number;
  readonly size: number;
  /** How many gfns of the range have been dealt with. */
  readonly taken: number;
  /** In the piece: the next gfn, how many are still on demand and RAM, and whether RAM is wanted for the cache. */
  readonly next: number;
  readonly onDemand: number;
  readonly ram: number;
  readonly isStealing: boolean;
  readonly reclaim: Reclaim | undefined;
  /** Frames that have left a gfn for the cache, or the cache for the heap. */
  readonly mfn: Mfn | undefined;
  readonly count: number;
  readonly leaving: readonly Mfn[];
  /** How large the cache is to be, and whether a large run has just been refused. */
  readonly wanted: number;
  readonly isSmall: boolean;
}

export const NO_POD_WORK: PodWork = {
  piece: 0,
  end: 0,
  size: 1,
  taken: 0,
  next: 0,
  onDemand: 0,
  ram: 0,
  isStealing: false,
  reclaim: undefined,
  mfn: undefined,
  count: 0,
  leaving: [],
  wanted: 0,
  isSmall: false,
};

/** `old` with `change`, key by key: see state.ts, `withParts`. */
export const changedPod = (old: PodWork, change: Partial<PodWork>): PodWork => ({
  piece: change.piece ?? old.piece,
  end: change.end ?? old.end,
  size: change.size ?? old.size,
  taken: change.taken ?? old.taken,
  next: change.next ?? old.next,
  onDemand: change.onDemand ?? old.onDemand,
  ram: change.ram ?? old.ram,
  isStealing: change.isStealing ?? old.isStealing,
  reclaim: 'reclaim' in change ? change.reclaim : old.reclaim,
  mfn: 'mfn' in change ? change.mfn : old.mfn,
  count: change.count ?? old.count,
  leaving: change.leaving ?? old.leaving,
  wanted: change.wanted ?? old.wanted,
  isSmall: change.isSmall ?? old.isSmall,
});
