// Simulated hardware, and so a judge: a processor's walk of extended page tables of four and five levels, the fast one. As in
// paging, registers and the walk by all rules stand here, and an unrolled walk takes the common path. (hardware.ts beside it
// walks every geometry, the tiny one too, and serves the machine; this one serves whole accesses and speed.)
//
//   entry   63..52 ignored | 51..12 address | 11 | 10 user execute | 9 D | 8 A | 7 page | 6 IPAT | 5..3 memory type | 2 X | 1 W | 0 R
//
// A first reader may skip `walkOfFour`. Sources: Intel SDM vol. 3C, "EPT Translation Mechanism", "EPT Misconfigurations",
// "EPT Violations", "Prioritization of EPT Misconfigurations and EPT Violations", "Accessed and Dirty Flags for EPT".

import type { Marks } from '../paging/marks.ts';
import { cellOf, halvesOf, indexAt, OFF_HEAP, withinOf } from '../paging/native-walker.ts';
import { NESTED_OUT, USES, type Nested, type NestedWalk } from './nested.ts';

const read = 1;
const write = 2;
const execute = 4;
const userExecute = 1 << 10;
const page = 1 << 7;
const accessed = 1 << 8;
const dirty = 1 << 9;
const frameHigh = 0xf_ffff;
/** Reserved in an entry that leads to a table: bits 3..6, at the two upper levels bit 7 too. */
const reservedInTable = 0x78;
const reservedOrPage = 0xf8;
/** Memory types 2, 3 and 7 are reserved: one bit for each. */
const reservedTypes = 0x8c;
/** Memory type. */
const type = 0x38;
/** What only the last entry gives, and of all that entries give what is told. */
const ofLast = dirty | type;
const told = read | write | execute | userExecute | dirty;
const { low: outLow, rights: outRights } = NESTED_OUT;

/**
 * Cells of registers: the root; where four levels start, and what levels above have used of the high half of the address; reserved bits
 * of high halves, alone and with those beyond any memory; then by use the rights that it needs, the flags that it wants, and
 * both with what the unrolled walk asks for besides, the right to read and write-back memory.
 */
const rootLow = 0;
const rootHigh = 1;
const startLow = 2;
const startHigh = 3;
const above = 4;
const reservedHigh = 5;
const far = 6;
const needs = 7;
const wants = needs + USES;
const asks = wants + USES;

/** How a walk that is refused ended. */
export const REFUSED = { violation: -1, misconfiguration: -2 } as const;

/** The registers that nested translation depends on. */
export interface EptRegisters {
  readonly rootLow: number;
  readonly rootHigh: number;
  readonly levels: number;
  readonly accessedDirty: boolean;
  readonly modeBasedExecute: boolean;
  readonly reservedHigh: number;
  readonly page1Gb: boolean;
}

/** Registers and walk of extended page tables in one memory. */
export class ExtendedWalker implements Nested {
  readonly memory: Int32Array;
  readonly marks: Marks;
  readonly out = new Int32Array(OFF_HEAP);
  readonly demand = new Int32Array(OFF_HEAP);
  readonly cells = new Int32Array(OFF_HEAP);
  walk: NestedWalk;
  readonly #trail = new Int32Array(6);
  /** The walks of four and of five levels; `walk` is one of them. */
  readonly four: NestedWalk;
  readonly five: NestedWalk;
  #levels = 4;
  /** The bits of which a present entry has one. */
  #presence = 7;
  #page1Gb = true;

  constructor(marks: Marks) {
    this.memory = marks.memory;
    this.marks = marks;
    this.four = walkOfFour(this);
    this.five = walkOfFive(this, this.four);
    this.walk = this.four;
  }

  /** Takes over registers. */
  load(registers: EptRegisters): void {
    const { cells } = this;
    this.#levels = registers.levels;
    this.walk = registers.levels === 5 ? this.five : this.four;
    this.#presence = registers.modeBasedExecute ? 7 | userExecute : 7;
    this.#page1Gb = registers.page1Gb;
    cells[rootLow] = registers.rootLow;
    cells[rootHigh] = registers.rootHigh;
    cells[startLow] = registers.rootLow;
    cells[startHigh] = registers.rootHigh;
    cells[above] = 0;
    cells[reservedHigh] = registers.reservedHigh;
    cells[far] = registers.reservedHigh | frameHigh;
    const user = registers.modeBasedExecute ? userExecute : execute;
    // With flags on, the guest's tables are as if written.
    const table = registers.accessedDirty ? read | write : read;
    cells.set([table, read, write, read | write, execute, user, write], needs);
    const used = registers.accessedDirty ? accessed : 0;
    const changed = registers.accessedDirty ? accessed | dirty : 0;
    cells.set([changed, used, changed, changed, used, used, changed], wants);
    for (let use = 0; use < USES; use += 1) {
      const need = cells[needs + use] as number;
      const wanted = cells[wants + use] as number;
      this.demand[use] = need | (wanted & dirty);
      cells[asks + use] = need | wanted | read | type;
    }
  }

  /** By use, the bits of entries that it needs and the flags that it wants. */
  uses(): { readonly needs: readonly number[]; readonly wants: readonly number[] } {
    const of = (from: number): readonly number[] => [...this.cells.subarray(from, from + USES)];
    return { needs: of(needs), wants: of(wants) };
  }

  /** Walks by all rules, an address whose high half may be without the bits in `above`. What lies beyond memory is all ones. */
  walkAll(low: number, rest: number, use: number): number {
    const { memory, cells, out } = this;
    const high = rest | (cells[above] as number);
    let lo = cells[rootLow] as number;
    let hi = cells[rootHigh] as number;
    let fold = -1;
    out[outRights] = 0;
    // Four levels know 48 bits of an address; what lies above is not mapped.
    if (this.#levels === 4 && high >>> 16 !== 0) return REFUSED.violation;
    for (let level = this.#levels; ; level -= 1) {
      const at = cellOf(memory, lo, hi, indexAt(level, low, high));
      this.#trail[level] = at;
      lo = at < 0 ? -1 : (memory[at] as number);
      hi = at < 0 ? -1 : (memory[at + 1] as number);
      if ((lo & this.#presence) === 0) return REFUSED.violation;
      const isLeaf = level === 1 || (level < 4 && (lo & page) !== 0);
      if (this.#isMalformed(lo, hi, level, isLeaf)) return REFUSED.misconfiguration;
      fold &= lo;
      if (!isLeaf) continue;
      out[outRights] = fold & (7 | userExecute);
      const need = cells[needs + use] as number;
      if ((fold & need) !== need) return REFUSED.violation;
      const wanted = cells[wants + use] as number;
      this.#mark(level, fold, lo, wanted);
      out[outRights] = (fold & (7 | userExecute)) | ((lo | wanted) & dirty);
      const within = withinOf(level);
      out[outLow] = (lo & ~within) | (low & within);
      return hi & frameHigh;
    }
  }

  #isMalformed(lo: number, hi: number, level: number, isLeaf: boolean): boolean {
    if ((lo & (read | write)) === write || (hi & (this.cells[reservedHigh] as number)) !== 0) return true;
    if (!isLeaf) return (lo & (level < 4 ? reservedInTable : reservedOrPage)) !== 0;
    if (level === 3 && !this.#page1Gb) return true;
    // Bits of the address within a large page are reserved, bit 12 among them.
    if ((lo & withinOf(level) & ~0xfff) !== 0) return true;
    return ((reservedTypes >>> ((lo >>> 3) & 7)) & 1) !== 0;
  }

  #mark(leaf: number, fold: number, lo: number, wanted: number): void {
    if ((wanted & accessed & ~fold) !== 0)
      for (let level = this.#levels; level > leaf; level -= 1) this.marks.add(this.#trail[level] as number, accessed);
    if ((wanted & ~lo) !== 0) this.marks.add(this.#trail[leaf] as number, wanted & ~lo);
  }
}

/**
 * The unrolled walk of four levels. It answers when tables lie in memory, pages are of 4 KiB, readable and write-back, and flags are set.
 * Whether entries are present needs no look at each: one that is not takes rights from the fold, and until then only memory is read. Nor
 * does whether they lie in memory: what an index beyond it reads is `undefined`, whose bits are 0, and so not present.
 */
function walkOfFour(walker: ExtendedWalker): NestedWalk {
  const [lows, highs] = halvesOf(walker.memory);
  return unrolled(walker, walker.cells, lows, highs);
}

/**
 * Entries are judged together at the end, arrays are parameters, and locals stand for them: so V8 finds it small enough (460 bytes of
 * bytecode) to put it in place of a call.
 */
function unrolled(walker: ExtendedWalker, cells: Int32Array, lows: Int32Array, highs: Int32Array): NestedWalk {
  const { out } = walker;
  const asksOf = cells.subarray(asks, asks + USES);
  return function walk(low, high, use) {
    const registers = cells;
    const halves = lows;
    const upper = highs;
    let at = (((registers[startLow] as number) >>> 12) << 10) | ((high >>> 6) & 0x3fe);
    const fourth = halves[at] as number;
    let someHigh = (upper[at] as number) | (registers[startHigh] as number);

    at = ((fourth >>> 12) << 10) | (((high << 3) | ((low >>> 30) << 1)) & 0x3fe);
    const third = halves[at] as number;
    someHigh = (upper[at] as number) | someHigh;

    at = ((third >>> 12) << 10) | ((low >>> 20) & 0x3fe);
    const second = halves[at] as number;
    someHigh = (upper[at] as number) | someHigh;

    at = ((second >>> 12) << 10) | ((low >>> 11) & 0x3fe);
    const lo = halves[at] as number;
    const hi = upper[at] as number;

    // Turning bit 3 makes all bits of the type ones if it is 6, write-back.
    const given = (fourth & third & second & lo) | ((lo ^ 8) & ofLast);
    const malformed = ((fourth | third | second) & reservedOrPage) | (high >>> 16);
    const reserved = (someHigh & (registers[far] as number)) | (hi & (registers[reservedHigh] as number));
    if ((malformed | reserved | ((asksOf[use] as number) & ~given)) === 0) {
      out[outLow] = lo ^ ((lo ^ low) & 0xfff);
      out[outRights] = given & told;
      return hi & frameHigh;
    }
    return walker.walkAll(low, high, use) | 0;
  };
}

/** The fifth level, and then `four` from where it leads, for an address without the bits that the fifth used. */
function walkOfFive(walker: ExtendedWalker, four: NestedWalk): NestedWalk {
  const { memory, cells, out } = walker;
  return function walk(low, high, use) {
    const at = (((cells[rootLow] as number) >>> 12) << 10) | ((high >>> 15) & 0x3fe);
    cells[above] = high & ~0xffff;
    if (((cells[rootHigh] as number) & frameHigh) !== 0 || at >= memory.length) return walker.walkAll(low, high, use);
    const lo = memory[at] as number;
    const hi = memory[at + 1] as number;
    const lacking = (cells[asks + use] as number) & ~(lo | ofLast);
    if ((lacking | (lo & reservedOrPage) | (hi & (cells[far] as number))) !== 0) return walker.walkAll(low, high, use);
    cells[startLow] = lo;
    cells[startHigh] = hi;
    const answer = four(low, high & 0xffff, use);
    if (answer >= 0) out[outRights] = (out[outRights] as number) & (lo | dirty);
    return answer;
  };
}
