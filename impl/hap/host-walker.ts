// Simulated hardware, and so a judge: AMD's nested tables. They have the formats and modes of the host's own paging, so its walkers
// serve here too, with the host's registers; every access is a user's, and guest tables are always accessed as for writing.
// A first reader may skip how the mode is chosen. Sources: AMD APM vol. 2, "Nested Paging", "Nested Table Walk", "Nested versus
// Guest Page Faults, Fault Ordering", "Legacy PAE Mode" (PDPTEs are read on demand).

import type { Word } from '#abi/address.ts';
import { LegacyWalker } from '../paging/legacy-walker.ts';
import { walkOfFive, walkOfFour } from '../paging/long-walker.ts';
import type { Marks } from '../paging/marks.ts';
import { BITS, cellOf, FAULT, NativeWalker, OFF_HEAP, OUT, type Walk } from '../paging/native-walker.ts';
import { isBadPdpte, KIND, WHO, type Rules } from '../paging/rules.ts';
import { NESTED_OUT, type Nested, type NestedWalk } from './nested.ts';

const { low: outLow, rights: outRights } = NESTED_OUT;
/** Bits of `rights`: what a walk for a user proves, and the bits of the others. */
const READ = 1;
const WRITE = 2;
const EXECUTE = 0x404;
const DIRTY = 0x200;

/** Accesses of the host's paging, by USE. */
const ACCESSES = Int32Array.of(
  ...[KIND.write, KIND.read, KIND.write, KIND.write, KIND.fetch, KIND.fetch, KIND.write].map((kind) => kind + WHO.user),
);

/** Registers and walk of nested tables in one memory. Refusals are those of ordinary walks (FAULT). */
export class HostWalker implements Nested {
  readonly out = new Int32Array(OFF_HEAP);
  /** All writes, those to guest tables too, want a dirty entry. */
  readonly demand = Int32Array.of(
    ...[WRITE, READ, WRITE, WRITE, EXECUTE, EXECUTE, WRITE].map((right) => right | (right === WRITE ? DIRTY : 0)),
  );
  readonly #wide: NativeWalker;
  readonly #narrow: LegacyWalker;
  readonly #four: Walk;
  readonly #five: Walk;
  #levels = 4;
  #root: Word = { lo: 0, hi: 0 };
  #maxPhysAddr = 52;

  constructor(marks: Marks) {
    this.#wide = new NativeWalker(marks);
    this.#narrow = new LegacyWalker(marks);
    this.#four = walkOfFour(this.#wide);
    this.#five = walkOfFive(this.#wide, this.#four);
  }

  /** Takes over registers: what the host's registers come to, and the nested CR3. */
  load(rules: Rules, root: Word, maxPhysAddr: number): void {
    this.#levels = rules.levels;
    this.#root = root;
    this.#maxPhysAddr = maxPhysAddr;
    if (rules.levels === 2) this.#narrow.load(rules, root.lo, 0);
    else this.#wide.load(rules, root.lo, root.hi);
  }

  /** The error code's part that a use decides: write, user, and fetch if the host reports fetches. */
  static usePart(use: number, fetchFlag: number): number {
    const access = ACCESSES[use] as number;
    return 4 | (access === KIND.write ? 2 : 0) | (access === KIND.fetch ? fetchFlag : 0);
  }

  readonly walk: NestedWalk = (low, high, use) => {
    const access = ACCESSES[use] as number;
    const answer = this.#dispatch(low, high, access);
    const { out } = this.#levels === 2 ? this.#narrow.registers : this.#wide;
    const rights = out[OUT.rights] as number;
    const isDirty = ((out[OUT.leafLow] as number) & BITS.dirty) !== 0 || access === KIND.write;
    this.out[outLow] = out[OUT.low] as number;
    this.out[outRights] =
      READ | ((rights & 1) === 0 ? 0 : WRITE) | ((rights & 4) === 0 ? EXECUTE : 0) | (isDirty ? DIRTY : 0);
    return answer;
  };

  #dispatch(low: number, high: number, access: number): number {
    if (this.#levels === 5) return this.#five(low, high, access);
    if (this.#levels === 4) return high >>> 16 === 0 ? this.#four(low, high, access) : FAULT.absent;
    // Hosts outside long mode map 32 bits.
    if (high !== 0) return FAULT.absent;
    return this.#levels === 2 ? this.#narrow.walk(low, high, access) : this.#walkPae(low, access);
  }

  #walkPae(low: number, access: number): number {
    const { memory } = this.#wide;
    const table = this.#root.lo & ~0x1f;
    const at = cellOf(memory, table, 0, ((table & 0xfff) >>> 2) | ((low >>> 30) << 1));
    const lo = at < 0 ? -1 : (memory[at] as number);
    const hi = at < 0 ? -1 : (memory[at + 1] as number);
    if ((lo & BITS.present) === 0) return FAULT.absent;
    if (isBadPdpte(lo, hi, this.#maxPhysAddr)) return FAULT.reserved;
    this.#wide.start(lo, hi);
    return this.#wide.walkAll(low, 0, access, 2);
  }
}
