// Simulated hardware: a processor without nested paging. It loads registers, chooses the walk of the mode, and tells faults as the
// processor does. What registers come to is derived again only when they differ from those loaded last; PDPTEs that lie in memory are
// read every time, since memory may differ. A first reader may skip `accessCode`.
// Sources: Intel SDM vol. 3A, "Paging Modes and Control Bits", "PDPTE Registers", "Page-Fault Exceptions".

import type { Word } from '#abi/address.ts';
import type { AccessResult, CaseOf } from '#abi/case.ts';
import { LegacyWalker } from './legacy-walker.ts';
import { walkOfFive, walkOfFour } from './long-walker.ts';
import type { Marks } from './marks.ts';
import { CELL, cellOf, NativeWalker, OUT, type Walk } from './native-walker.ts';
import { walkOfPae } from './pae-walker.ts';
import {
  isBadPdpte,
  isImpossible,
  isLong,
  isSameProcessor,
  isTooWide,
  KIND,
  rulesOf,
  WHO,
  type Levels,
  type Processor,
} from './rules.ts';

export type LinearAccess = CaseOf<'native'>['access'];

/** What translates an access page after page, by the registers it has loaded. */
export interface Engine {
  /** Bits of a linear address that count: 32, 48 or 57. */
  readonly linearBits: number;
  /** After a walk that came to an address: the low half of the machine address, signed. */
  readonly machineLow: number;
  /** Halves of a canonical linear address, signed; the high half of the machine address, or negative: refused. */
  walk(low: number, high: number, access: LinearAccess): number;
  /** How the access ends whose last walk gave a negative answer. */
  refused(answer: number, access: LinearAccess, linear: Word): AccessResult;
}

// Imported bindings are loaded and looked at each time; local constants are not.
const { read, write, fetch } = KIND;
const { user, supervisor, overridden } = WHO;
const { low: outLow } = OUT;

function kindOf(kind: LinearAccess['kind']): number {
  switch (kind) {
    case 'read':
      return read;
    case 'write':
    case 'readModifyWrite':
      return write;
    case 'fetch':
      return fetch;
  }
}

/** The access as a walker's index. Implicit accesses are a supervisor's that nothing lifts over SMAP. */
export function accessCode({ kind, privilege, ac }: LinearAccess): number {
  if (privilege === 'user') return kindOf(kind) + user;
  return kindOf(kind) + (privilege === 'supervisor' && ac === 'set' ? overridden : supervisor);
}

/** A page fault, from a walk's answer: the entries decide some bits of the error code, the access the others. */
export function pageFault(answer: number, access: LinearAccess, fetchFlag: number, linear: Word): AccessResult {
  const byWrite = kindOf(access.kind) === write ? 2 : 0;
  const byUser = access.privilege === 'user' ? 4 : 0;
  const byFetch = access.kind === 'fetch' ? fetchFlag : 0;
  return { kind: 'pageFault', errorCode: -1 - answer + byWrite + byUser + byFetch, linear };
}

/** The machine address of which `high` and `low` are halves. */
export const addressOf = (high: number, low: number): number => high * 2 ** 32 + (low >>> 0);

/** The halves of four PDPTEs, interleaved; `entries` may be fewer, the others are 0. */
export const fourPdptes = (entries: Processor['pdptes']): readonly number[] =>
  [0, 1, 2, 3].flatMap((i) => [entries[i]?.entry.lo ?? 0, entries[i]?.entry.hi ?? 0]);

const INVALID: AccessResult = { kind: 'invalidState' };
const GENERAL_PROTECTION: AccessResult = { kind: 'generalProtection' };

/** Registers of a processor and its walks in one memory. */
export class NativeUnit implements Engine {
  readonly #wide: NativeWalker;
  readonly #narrow: LegacyWalker;
  readonly #walks: Readonly<Record<Levels, Walk>>;
  #loaded: Processor | undefined = undefined;
  /** What the registers loaded last come to. */
  #refusal: AccessResult | undefined = undefined;
  #readsPdptes = false;
  #walk: Walk;
  #out: Int32Array;
  #fetchFlag = 0;
  #linearBits = 32;

  constructor(marks: Marks) {
    this.#wide = new NativeWalker(marks);
    this.#narrow = new LegacyWalker(marks);
    const four = walkOfFour(this.#wide);
    const none: Walk = (low) => {
      this.#wide.out[outLow] = low;
      return 0;
    };
    this.#walks = { 0: none, 2: this.#narrow.walk, 3: walkOfPae(this.#wide), 4: four, 5: walkOfFive(this.#wide, four) };
    this.#walk = none;
    this.#out = this.#wide.out;
  }

  get linearBits(): number {
    return this.#linearBits;
  }

  get machineLow(): number {
    return this.#out[outLow] as number;
  }

  /** Takes over registers, which nobody changes afterwards; undefined, or how the processor refuses them. */
  load(registers: Processor): AccessResult | undefined {
    if (registers !== this.#loaded) {
      const isSame = this.#loaded !== undefined && isSameProcessor(registers, this.#loaded);
      if (!isSame) this.#refusal = this.#derive(registers);
      this.#loaded = registers;
    }
    return this.#readsPdptes ? this.#readPdptes(registers) : this.#refusal;
  }

  #derive(registers: Processor): AccessResult | undefined {
    const { cr3, pdptes, maxPhysAddr } = registers;
    this.#readsPdptes = false;
    if (isImpossible(registers, false)) return INVALID;
    if (isLong(registers) && isTooWide(cr3, maxPhysAddr)) return INVALID;
    const rules = rulesOf(registers, false);
    this.#walk = this.#walks[rules.levels];
    this.#fetchFlag = rules.fetchFlag;
    this.#linearBits = rules.linearBits;
    this.#out = rules.levels === 2 ? this.#narrow.registers.out : this.#wide.out;
    // Outside long mode CR3 has 32 bits that count.
    if (rules.levels === 2) this.#narrow.load(rules, cr3.lo, 0);
    else this.#wide.load(rules, cr3.lo, cr3.hi);
    if (rules.levels !== 3) return undefined;
    this.#readsPdptes = pdptes.length === 0;
    this.#wide.cells.set(fourPdptes(pdptes), CELL.pdptes);
    return this.#arePdptesBad(maxPhysAddr) ? INVALID : undefined;
  }

  /** Loads the PDPTE registers from memory. Where there is none, ones are read. */
  #readPdptes({ cr3, maxPhysAddr }: Processor): AccessResult | undefined {
    const { cells, memory } = this.#wide;
    const at = cellOf(memory, cr3.lo, 0, (cr3.lo & 0xfe0) >>> 2);
    for (let half = 0; half < 8; half += 1) cells[CELL.pdptes + half] = at < 0 ? -1 : (memory[at + half] as number);
    return this.#arePdptesBad(maxPhysAddr) ? GENERAL_PROTECTION : undefined;
  }

  /** Whether one of the PDPTE registers, used or not, holds what is refused. */
  #arePdptesBad(maxPhysAddr: number): boolean {
    const { cells } = this.#wide;
    for (let i = 0; i < 4; i += 1) {
      const at = CELL.pdptes + 2 * i;
      if (isBadPdpte(cells[at] as number, cells[at + 1] as number, maxPhysAddr)) return true;
    }
    return false;
  }

  walk(low: number, high: number, access: LinearAccess): number {
    return this.#walk(low, high, accessCode(access));
  }

  refused(answer: number, access: LinearAccess, linear: Word): AccessResult {
    return pageFault(answer, access, this.#fetchFlag, linear);
  }
}
