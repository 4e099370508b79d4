// Simulated hardware, and so a judge: one access of a program to a linear address, from the registers and the memory image of a
// case to bytes or a fault, with accessed and dirty flags set as a processor sets them.
// An access is judged in this order: the registers, the loading of PDPTEs, canonicality of all its bytes, then page after page.
// Which engine it is decides who walks (engines in native-unit.ts and ../hap/guest-unit.ts).
// A first reader may skip how an access is cut into pages. Sources: Intel SDM vol. 3A, "Paging"; vol. 1, "Canonical Addressing".

import type { Word } from '#abi/address.ts';
import type { AccessResult, Bytes, CaseOf } from '#abi/case.ts';
import { SvmUnit, VmxUnit } from '../hap/guest-unit.ts';
import { Marks } from './marks.ts';
import { NativeUnit, type Engine, type Piece } from './native-unit.ts';
import { isLong } from './rules.ts';

const TWO_32 = 2 ** 32;
const PAGE = 4096;

/** The address `bytes` further on, within 32 or 64 bits. */
function forward({ lo, hi }: Word, bytes: number, isWide: boolean): Word {
  const sum = lo + bytes;
  if (sum < TWO_32) return { lo: sum, hi: isWide ? hi : 0 };
  return { lo: sum - TWO_32, hi: isWide ? (hi + 1) % TWO_32 : 0 };
}

/** The parts of an access in one page each: at most two. Addresses wrap at the end of the address space. */
function piecesOf(linear: Word, size: number, isWide: boolean): readonly Piece[] {
  const start = forward(linear, 0, isWide);
  const room = PAGE - (start.lo % PAGE);
  if (size <= room) return [{ linear: start, count: size }];
  return [
    { linear: start, count: room },
    { linear: forward(start, room, isWide), count: size - room },
  ];
}

/** Whether bits from the highest that counts up to 63 are equal; `width` is 48 or 57. */
function isCanonical({ hi }: Word, width: number): boolean {
  const top = Math.floor(hi / 2 ** (width - 33));
  return top === 0 || top === 2 ** (65 - width) - 1;
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
        return this.#access(one, this.#native, this.#native.load(one.registers));
      case 'vmx':
        return this.#access(one, this.#vmx, this.#vmx.load(one.registers));
      case 'svm':
        return this.#access(one, this.#svm, this.#svm.load(one.registers));
    }
  }

  #access(
    { registers, access }: CaseOf<'native' | 'vmx' | 'svm'>,
    engine: Engine,
    refusal: AccessResult | undefined,
  ): AccessResult {
    if (refusal !== undefined) return refusal;
    const isWide = isLong(registers);
    const pieces = piecesOf(access.linear, access.size, isWide);
    const width = Math.floor(registers.cr4 / 2 ** 12) % 2 === 1 ? 57 : 48;
    if (isWide && !pieces.every(({ linear }) => isCanonical(linear, width))) return { kind: 'generalProtection' };
    const bytes: Bytes[] = [];
    for (const piece of pieces) {
      const result = engine.translate(access, piece);
      if (typeof result !== 'number') return result;
      bytes.push({ maddr: result, count: piece.count });
    }
    return { kind: 'done', bytes };
  }
}
