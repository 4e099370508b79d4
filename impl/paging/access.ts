// Simulated hardware, and so a judge: one access of a program to a linear address, from the registers and the memory image of a
// case to bytes or a fault, with accessed and dirty flags set as a processor sets them.
// An access is judged in this order: the registers, the loading of PDPTEs, canonicality of all its bytes, then page after page.
// Which engine it is decides who walks (engines in native-unit.ts and ../hap/guest-unit.ts).
// A first reader may skip how an access is cut into pages. Sources: Intel SDM vol. 3A, "Paging"; vol. 1, "Canonical Addressing".

import type { Word } from '#abi/address.ts';
import type { AccessResult, CaseOf } from '#abi/case.ts';
import { SvmUnit, VmxUnit } from '../hap/guest-unit.ts';
import { Marks } from './marks.ts';
import { addressOf, NativeUnit, type Engine, type LinearAccess } from './native-unit.ts';

const PAGE = 4096;
const GENERAL_PROTECTION: AccessResult = { kind: 'generalProtection' };

// Halves of linear addresses are signed from here on, as walks have them: no number leaves 32 bits, and nothing is made but the result.

const wordOf = (low: number, high: number): Word => ({ lo: low >>> 0, hi: high >>> 0 });

/** Whether bits from the highest that counts up to 63 are equal. Outside long mode there are 32 and `high` is 0. */
function isCanonical(high: number, linearBits: number): boolean {
  const top = high >> (linearBits === 57 ? 24 : 15);
  return top === 0 || top === -1;
}

/** An access in a page and `rest` bytes in the next. Addresses wrap at the end of the address space. */
function accessTwo(engine: Engine, access: LinearAccess, first: { low: number; high: number }, rest: number) {
  const { linearBits } = engine;
  const { low, high } = first;
  const isWide = linearBits > 32;
  const secondLow = ((low | (PAGE - 1)) + 1) | 0;
  const secondHigh = isWide && secondLow === 0 ? (high + 1) | 0 : high;
  if (!isCanonical(high, linearBits) || !isCanonical(secondHigh, linearBits)) return GENERAL_PROTECTION;
  const answer = engine.walk(low, high, access);
  if (answer < 0) return engine.refused(answer, access, wordOf(low, high));
  const maddr = addressOf(answer, engine.machineLow);
  const second = engine.walk(secondLow, secondHigh, access);
  if (second < 0) return engine.refused(second, access, wordOf(secondLow, secondHigh));
  const bytes = [
    { maddr, count: access.size - rest },
    { maddr: addressOf(second, engine.machineLow), count: rest },
  ];
  return { kind: 'done', bytes } as const;
}

/** An access by registers that are loaded. */
function accessBy(engine: Engine, access: LinearAccess): AccessResult {
  const { linear, size } = access;
  const { linearBits } = engine;
  const low = linear.lo | 0;
  const high = linearBits > 32 ? linear.hi | 0 : 0;
  const room = PAGE - (low & (PAGE - 1));
  if (size > room) return accessTwo(engine, access, { low, high }, size - room);
  if (!isCanonical(high, linearBits)) return GENERAL_PROTECTION;
  const answer = engine.walk(low, high, access);
  if (answer < 0) return engine.refused(answer, access, wordOf(low, high));
  return { kind: 'done', bytes: [{ maddr: addressOf(answer, engine.machineLow), count: size }] };
}

/** Translates accesses in one memory: CASE_FRAMES frames, word w of frame m as two halves at 2 * (512 * m + w). */
export class AccessUnit {
  readonly #native: NativeUnit;
  readonly #vmx: VmxUnit;
  readonly #svm: SvmUnit;

  constructor(memory: Int32Array) {
    const marks = new Marks(memory);
    this.#native = new NativeUnit(marks);
    this.#vmx = new VmxUnit(marks);
    this.#svm = new SvmUnit(marks);
  }

  /** Loads the registers of `one`, translates its access and sets flags in memory. It moves no data. */
  run(one: CaseOf<'native' | 'vmx' | 'svm'>): AccessResult {
    switch (one.engine) {
      case 'native':
        return this.#native.load(one.registers) ?? accessBy(this.#native, one.access);
      case 'vmx':
        return this.#vmx.load(one.registers) ?? accessBy(this.#vmx, one.access);
      case 'svm':
        return this.#svm.load(one.registers) ?? accessBy(this.#svm, one.access);
    }
  }
}
