// Toy operations on which engines are compared: trivial steps for speed, and two planted bugs for shrinking.
// Bug A needs three operations with the right operands: map page 11 to a frame of 48 or more, unmap it, read it (the
// translation is still cached). Bug B needs four that refer to each other by the index of a handle: make, share, drop,
// use; taking one operation away re-aims the rest, as grant handles do.
// A first reader may skip it.

/** A machine of the toy: performs packed operations; false when the bug shows. */
export interface Toy {
  readonly step: (op: number) => boolean;
}

/** Number bases of an operation's digits, lowest first: kind, a, b. */
export const REGISTER_BASES = [4, 16, 64] as const;
export const PAGE_BASES = [4, 16, 64] as const;
export const HANDLE_BASES = [4, 16, 64] as const;

/** Sixteen registers: set, add, move, clear. The trivial step. */
export class Registers implements Toy {
  readonly registers: number[] = Array.from({ length: 16 }, () => 0);

  step(op: number): boolean {
    const a = Math.floor(op / 4) % 16;
    const b = Math.floor(op / 64) % 64;
    return this.act(op % 4, a, b);
  }

  act(kind: number, a: number, b: number): boolean {
    const { registers } = this;
    if (kind === 0) registers[a] = b;
    else if (kind === 1) registers[a] = Math.imul((registers[a] as number) + b, 1);
    else if (kind === 2) registers[a] = registers[b % 16] as number;
    else registers[a] = 0;
    return true;
  }

  checksum(): number {
    return this.registers.reduce((sum, value, i) => Math.imul(sum + value, i + 3), 1);
  }
}

/** Pages with a cache that unmapping forgets to clear for page 11 and high frames. */
export class Pages implements Toy {
  readonly #frames: (number | undefined)[] = Array.from({ length: 16 }, () => undefined);
  readonly #cached: (number | undefined)[] = Array.from({ length: 16 }, () => undefined);

  step(op: number): boolean {
    return this.act(op % 4, Math.floor(op / 4) % 16, Math.floor(op / 64) % 64);
  }

  act(kind: number, page: number, frame: number): boolean {
    if (kind === 0) {
      this.#frames[page] = frame;
      this.#cached[page] = frame;
    } else if (kind === 1) {
      const isForgotten = page === 11 && (this.#frames[page] ?? 0) >= 48;
      this.#frames[page] = undefined;
      if (!isForgotten) this.#cached[page] = undefined;
    } else if (kind === 2) return this.#cached[page] === this.#frames[page];
    return true;
  }
}

/** Handles with a share count that dropping forgets. Kinds: make, share, drop, use. */
export class Handles implements Toy {
  readonly #shares: number[] = [];
  readonly #isDropped: boolean[] = [];

  step(op: number): boolean {
    return this.act(op % 4, Math.floor(op / 4) % 16, Math.floor(op / 64) % 64);
  }

  act(kind: number, a: number, b: number): boolean {
    const shares = this.#shares;
    if (kind === 0) {
      shares.push(0);
      this.#isDropped.push(false);
      return true;
    }
    if (shares.length === 0) return true;
    const handle = a % shares.length;
    if (kind === 1 && this.#isDropped[handle] === false && b < 16) shares[handle] = (shares[handle] as number) + 1;
    else if (kind === 2) this.#isDropped[handle] = true;
    else if (kind === 3 && b >= 48) return !(this.#isDropped[handle] === true && (shares[handle] as number) > 0);
    return true;
  }
}
