// Where an operation can be paused. A point is named by what is about to happen and to what kind of object, never by a
// line of code, so traces survive refactoring and a store split in two is visible without new names.

/** What is about to happen at a point. */
export const pointClasses = [
  'load', 'store', 'compareExchange', 'copyFrom', 'copyTo', 'lock', 'unlock', 'flush', 'allocate', 'free', 'scrub', 'reference',
] as const; // prettier-ignore

export type PointClass = (typeof pointClasses)[number];

/** To what it happens. */
export const objectKinds = [
  'table', 'guest', 'grantEntry', 'active', 'maptrack', 'frame', 'heap', 'pool', 'domain', 'p2mLock', 'grantLock', 'activeLock',
  'maptrackLock', 'heapLock', 'domainLock', 'pageLock', 'cache',
] as const; // prettier-ignore

export type ObjectKind = (typeof objectKinds)[number];

/** The nth (from 1) point of this class and object since the operation started or was last resumed. */
export interface Pause {
  readonly class: PointClass;
  readonly object: ObjectKind;
  readonly nth: number;
}
