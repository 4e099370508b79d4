// What a lockstep run is asked to do beside running: which laws judge, how often everything is compared, and who is told.
// A first reader may skip this file.

import type { Invariant } from '#abi/invariants.ts';
import type { Mechanism } from '#abi/operation.ts';
import type { State } from '#model/state.ts';
import type { AlwaysLaw } from './law.ts';
import { alwaysLaws } from './laws.ts';
import type { Returned } from './view.ts';

export interface Settings {
  readonly laws: readonly AlwaysLaw[];
  /** A full comparison after every n-th completed operation, and at the end. */
  readonly auditEvery: number;
  /** On tiny geometry, one of every n operations, and every one after a pause, is judged at each of its acts. */
  readonly fineEvery: number;
  /** Told of every operation of the trace that has returned and of the state after it. */
  readonly onReturn: (returned: Returned, after: State) => void;
  /** Told of every check of an invariant in a mechanism that was not vacuous; undefined: nobody counts them. */
  readonly onLook: ((invariant: Invariant, mechanism: Mechanism) => void) | undefined;
}

/** All laws, and nobody told. */
export const DEFAULTS: Settings = {
  laws: alwaysLaws,
  auditEvery: 100,
  fineEvery: 64,
  onReturn: () => undefined,
  onLook: undefined,
};
