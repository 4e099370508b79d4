// How far an operation that holds a lock goes on while another waits for it.
// It is not judged on the way: who waited is looked at next.

import type { ObjectKind, Pause, PointClass } from '#abi/points.ts';
import type { Stopper } from '#impl/execution.ts';
import type { Machine } from '#impl/machine.ts';

/** Whether an act may give back what others wait for: a lock, or a frame that is found fit for its type, or is not. */
const isGiving = (pointClass: PointClass, object: ObjectKind): boolean =>
  pointClass === 'unlock' || (pointClass === 'store' && object === 'frame');

/** Stops at the first act after something was given back. `standing`: the act before which the operation stands. */
export function afterUnlock(port: Machine['port'], standing: Omit<Pause, 'nth'>): Stopper {
  let isGiven = isGiving(standing.class, standing.object);
  return () => {
    const stops = isGiven;
    isGiven = isGiving(port.pointClass, port.pointObject);
    return stops;
  };
}
