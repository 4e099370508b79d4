// Which refusals fate has ordered: the failures of a step name a class and a number, counted within the operation from 1. The
// implementation says only that something was refused; that it may have been follows from the order, or from the state
// (cut.ts). Requests that were served are counted by what they left in the log.
// A first reader may skip the counting.

import type { Choice, Logged } from '#abi/choices.ts';
import type { Failure, FailureClass } from '#abi/failures.ts';

type Answers = (choice: Choice) => boolean;

const isRefusal =
  (...classes: readonly FailureClass[]): Answers =>
  (choice) =>
    choice.kind === 'failed' && classes.includes(choice.class);

/** What tells, in a log, that one request of a class was made. Results and compare-exchanges that succeed leave nothing there. */
const answersTo: Readonly<Partial<Record<FailureClass, Answers>>> = {
  heap: (choice) => choice.kind === 'frame' || isRefusal('heap')(choice),
  pool: (choice) => choice.kind === 'tableTaken' || isRefusal('pool')(choice),
  logDirty: (choice) => choice.kind === 'bitmapTaken' || isRefusal('logDirty')(choice),
  // A handle is asked for, given, or refused: by the maptrack or, when that must grow, by the heap.
  maptrack: (choice) => choice.kind === 'handle' || isRefusal('maptrack', 'heap')(choice),
};

/**
 * Whether the refusal at `at` in the log is one of those `ordered`. `nth`: which request of its class it was, where the
 * caller knows; where nobody does, an order for a later one than there were refusals will do.
 */
export function isOrdered(
  of: { readonly log: readonly Logged[]; readonly at: number; readonly ordered: readonly Failure[] },
  nth?: number,
): boolean {
  const refused = of.log[of.at]?.choice;
  if (of.ordered.length === 0 || refused?.kind !== 'failed') return false;
  const answers = answersTo[refused.class];
  const earlier = of.log.slice(0, of.at).filter(({ choice }) => (answers ?? isRefusal(refused.class))(choice)).length;
  const number = nth ?? earlier + 1;
  const isExact = nth !== undefined || answers !== undefined;
  return of.ordered.some((one) => one.class === refused.class && (isExact ? one.nth === number : one.nth >= number));
}
