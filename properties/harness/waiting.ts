// How far an operation that holds a lock goes on while another waits for it.
// It is not judged on the way: who waited is looked at next.

import type { Stopper } from '#impl/execution.ts';
import type { Machine } from '#impl/machine.ts';

/** Stops at the first act after a lock was given back. */
export function afterUnlock(port: Machine['port'], isAtUnlock: boolean): Stopper {
  let isGiven = isAtUnlock;
  return () => {
    const stops = isGiven;
    isGiven = port.pointClass === 'unlock';
    return stops;
  };
}
