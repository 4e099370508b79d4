// Ctrl-C. Work goes on in slices with a breath between them; the signal only raises a flag that slices look at, so
// everything found so far is saved and the summary printed. A second Ctrl-C ends at once.
// A first reader may skip it.

import { setImmediate as nextTurn } from 'node:timers/promises';

/** Whether the user wants to stop. One per command. */
export class Interrupt {
  #requested = false;

  constructor() {
    const stop = (): void => {
      if (this.#requested) process.exit(130);
      this.#requested = true;
    };
    process.on('SIGINT', stop);
    process.on('SIGTERM', stop);
  }

  get requested(): boolean {
    return this.#requested;
  }

  /** Lets signals and output be served; answers whether to stop. */
  async breath(): Promise<boolean> {
    await nextTurn();
    return this.#requested;
  }
}

/** When to stop: a number of seconds from now, wall clock. */
export class Deadline {
  readonly #start = performance.now();
  readonly #seconds: number;

  constructor(seconds: number) {
    this.#seconds = seconds;
  }

  get elapsed(): number {
    return (performance.now() - this.#start) / 1000;
  }

  get remaining(): number {
    return Math.max(0, this.#seconds - this.elapsed);
  }

  get isPast(): boolean {
    return this.remaining === 0;
  }
}
