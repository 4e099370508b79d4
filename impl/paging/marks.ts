// Simulated hardware: accessed and dirty flags that a walk wants set. A log, because a walk in two dimensions reads many entries
// and must not see its own flags in tables that serve both dimensions; flags are set when the access is through.
// A first reader may skip it. Source: Intel SDM vol. 3A, "Accessed and Dirty Flags" (flags may be set at any time before the
// access completes).

import { or } from '#lib/bits.ts';

const ROOM = 160;

/** Flags to be set in one memory. */
export class Marks {
  readonly memory: Int32Array;
  /** Whether flags wait for `apply`; otherwise they are set at once. */
  readonly isDeferred: boolean;
  readonly #cells = new Int32Array(ROOM);
  readonly #flags = new Int32Array(ROOM);
  count = 0;

  constructor(memory: Int32Array, isDeferred: boolean) {
    this.memory = memory;
    this.isDeferred = isDeferred;
  }

  /** Wants `flags` set in a cell of memory. Negative: there is no such cell. What is already set may be given. */
  add(cell: number, flags: number): void {
    if (cell < 0) return;
    this.#cells[this.count] = cell;
    this.#flags[this.count] = flags;
    this.count += 1;
    if (!this.isDeferred || this.count === ROOM) this.apply();
  }

  /** Sets all flags that wait. */
  apply(): void {
    for (let i = 0; i < this.count; i += 1) {
      const cell = this.#cells[i] as number;
      this.memory[cell] = or(this.memory[cell] as number, this.#flags[i] as number);
    }
    this.count = 0;
  }
}
