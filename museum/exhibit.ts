// What an exhibit is: a real bug as data. An edit puts the historical defect, and nothing else, back into a copy of impl/;
// impl/ itself has no flag and no hook for it. Each folder museum/xsa-NNN holds exhibit.ts (this data), README.md (the
// story) and trace.json (the shortest trace that our own general campaign found).

import type { Invariant } from '#abi/invariants.ts';
import type { Mechanism } from '#abi/operation.ts';

/** A replacement in one file of impl/. `before` must occur exactly once; files of the judge (source-tree.ts) are out of bounds. */
export interface Edit {
  /** Path below impl/, with forward slashes. */
  readonly file: string;
  readonly before: string;
  readonly after: string;
}

/**
 * What a bug needs to show itself. sequential: one call after another. interleaved: another agent acts in the middle of an
 * operation. stale: a cache remembers what the tables no longer say.
 */
export type ExhibitClass = 'sequential' | 'interleaved' | 'stale';

export interface Exhibit {
  /** The folder's name: `xsa-` and the number of the advisory, with a letter if it has several defects. */
  readonly id: string;
  readonly title: string;
  readonly year: number;
  readonly mechanism: Mechanism;
  readonly class: ExhibitClass;
  /** The standing invariants that the defect breaks. */
  readonly invariants: readonly Invariant[];
  /** The advisory and the change that fixed it, by name. */
  readonly source: string;
  readonly edits: readonly Edit[];
  /** Ids of the laws that may catch it. A failure of any other law does not count. */
  readonly killedBy: readonly string[];
  /** Name of the stored trace in the exhibit's folder. */
  readonly trace: string;
  /** What is particular about this exhibit: what it needs, what an edit had to leave aside. */
  readonly note: string;
}
