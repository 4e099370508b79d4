// Upkeep of the ways of paravirtual guests: computed anew for all of them when anything has changed on which they depend, for their tables
// are few; only what differs is told.
// A first reader may skip this file.

import { walkRight } from '#abi/rights.ts';
import type { Machine } from '#impl/machine.ts';
import { directWays, hasDirect, isDirect } from './direct-reach.ts';
import { combinedWays, leavesOf } from './linear-reach.ts';
import { isSameLeaf, type Cached, type Leaf } from './leaf.ts';

/** A frame is reached in two ways at most by tables in memory: as memory, and as a table. */
type ByWay = ReadonlyMap<number, Leaf>;

const NONE: ByWay = new Map();
const NO_SLOTS: ReadonlyMap<number, readonly Cached[]> = new Map();

const keyOf = ({ mfn, rights }: Leaf): number => 2 * mfn + (rights >= walkRight(1) ? 1 : 0);

/** Leaves of the paravirtual guests of one machine. */
export class DirectLeaves {
  readonly #m: Machine;
  /** Told of a leaf that has come, or has gone. */
  readonly #tell: (leaf: Leaf, isThere: boolean) => void;
  readonly #byDomain = new Map<number, ByWay>();
  /** Frames that some of them go through, in memory or from what processors remember. */
  readonly #walked = new Set<number>();
  #isMoved = false;

  constructor(m: Machine, tell: (leaf: Leaf, isThere: boolean) => void) {
    this.#m = m;
    this.#tell = tell;
  }

  /** A word of a frame was written. */
  wrote(mfn: number): void {
    if (this.#walked.has(mfn)) this.#isMoved = true;
  }

  /** Looks at everything again if it may have changed; answers what slots of the rings with linear entries lead to then. */
  upToDate(isTouched: boolean): ReadonlyMap<number, readonly Cached[]> {
    if (!isTouched && !this.#isMoved) return NO_SLOTS;
    if (this.#byDomain.size === 0 && !hasDirect(this.#m)) return NO_SLOTS;
    const { domains, pcpus, cacheEntries } = this.#m.geometry.capacity;
    this.#isMoved = false;
    this.#walked.clear();
    for (let id = 0; id < domains; id += 1) this.#replace(id);
    const slots = new Map<number, readonly Cached[]>();
    for (let slot = 0; slot < pcpus * cacheEntries; slot += 1) {
      const ways = combinedWays(this.#m, slot);
      slots.set(slot, ways);
      for (const way of ways) if (way.kind === 'structure') this.#walked.add(way.mfn);
    }
    return slots;
  }

  #replace(domain: number): void {
    const ways = isDirect(this.#m, domain) ? directWays(this.#m, domain) : undefined;
    for (const mfn of ways?.tables.keys() ?? []) this.#walked.add(mfn);
    const old = this.#byDomain.get(domain) ?? NONE;
    const now = new Map<number, Leaf>();
    for (const leaf of ways === undefined ? [] : leavesOf(ways, domain)) {
      const known = old.get(keyOf(leaf));
      now.set(keyOf(leaf), known?.rights === leaf.rights ? known : leaf);
    }
    for (const [key, leaf] of old) if (now.get(key) !== leaf) this.#tell(leaf, false);
    for (const [key, leaf] of now) if (old.get(key) !== leaf) this.#tell(leaf, true);
    if (now.size === 0) this.#byDomain.delete(domain);
    else this.#byDomain.set(domain, now);
  }

  /** What `other` has otherwise, in words. */
  difference(other: DirectLeaves): string | undefined {
    for (const domain of new Set([...this.#byDomain.keys(), ...other.#byDomain.keys()])) {
      const mine = this.#byDomain.get(domain) ?? NONE;
      const others = other.#byDomain.get(domain) ?? NONE;
      for (const key of new Set([...mine.keys(), ...others.keys()]))
        if (!isSameLeaf(mine.get(key), others.get(key)))
          return `frame ${Math.floor(key / 2)} by the tables of d${domain}`;
    }
    return undefined;
  }
}
