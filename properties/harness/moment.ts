// What a moment is: a state that some law needs, as a returning operation shows it.
// A first reader may skip nothing.

import type { Invariant } from '#abi/invariants.ts';
import type { SometimesLaw } from './law.ts';
import type { Returned } from './view.ts';

/** A state that must be reached, and whether an operation that has returned shows it. */
export interface Moment extends SometimesLaw {
  readonly isShown: (returned: Returned) => boolean;
}

/** A moment by its id. */
export const moment = (
  id: string,
  of: { invariant: Invariant; statement: string; isShown: Moment['isShown'] },
): Moment => ({
  kind: 'sometimes',
  id,
  mark: `moment:${id}`,
  ...of,
});
