// Simulated hardware: a processor without nested paging. It loads registers, chooses the walk of the mode, and tells faults as the
// processor does. A first reader may skip `accessCode`.
// Sources: Intel SDM vol. 3A, "Paging Modes and Control Bits", "PDPTE Registers", "Page-Fault Exceptions".

import type { Word } from '#abi/address.ts';
import type { AccessResult, CaseOf } from '#abi/case.ts';
import { low32 } from '#lib/bits.ts';
import { LegacyWalker } from './legacy-walker.ts';
import { walkOfFive, walkOfFour } from './long-walker.ts';
import type { Marks } from './marks.ts';
import { CELL, cellOf, NativeWalker, OUT, type Walk } from './native-walker.ts';
import { walkOfPae } from './pae-walker.ts';
import { isBadPdpte, isImpossible, isLong, isTooWide, KIND, rulesOf, WHO, type Levels } from './rules.ts';

/** The part of an access that lies in one page. */
export interface Piece {
  readonly linear: Word;
  readonly count: number;
}

export type LinearAccess = CaseOf<'native'>['access'];

/** What translates pieces of an access: the machine address of the first byte, or how it ended. */
export interface Engine {
  translate(access: LinearAccess, piece: Piece): number | AccessResult;
}

const kinds = { read: KIND.read, write: KIND.write, readModifyWrite: KIND.write, fetch: KIND.fetch } as const;

/** The access as a walker's index. Implicit accesses are a supervisor's that nothing lifts over SMAP. */
export function accessCode({ kind, privilege, ac }: LinearAccess): number {
  if (privilege === 'user') return kinds[kind] + WHO.user;
  return kinds[kind] + (privilege === 'supervisor' && ac === 'set' ? WHO.overridden : WHO.supervisor);
}

/** A page fault, from a walk's answer: the entries decide some bits of the error code, the access the others. */
export function pageFault(answer: number, access: LinearAccess, fetchFlag: number, linear: Word): AccessResult {
  const write = kinds[access.kind] === KIND.write ? 2 : 0;
  const user = access.privilege === 'user' ? 4 : 0;
  const fetch = access.kind === 'fetch' ? fetchFlag : 0;
  return { kind: 'pageFault', errorCode: -1 - answer + write + user + fetch, linear };
}

/** The machine address of which `high` and `low` are halves. */
export const addressOf = (high: number, low: number): number => high * 2 ** 32 + low32(low);

/** The halves of four PDPTEs, interleaved; `entries` may be fewer, the others are 0. */
export const fourPdptes = (entries: readonly Word[]): readonly number[] =>
  [0, 1, 2, 3].flatMap((i) => [entries[i]?.lo ?? 0, entries[i]?.hi ?? 0]);

/** Registers of a processor and its walks in one memory. */
export class NativeUnit implements Engine {
  readonly #memory: Int32Array;
  readonly #wide: NativeWalker;
  readonly #narrow: LegacyWalker;
  readonly #walks: Readonly<Record<Levels, Walk>>;
  #walk: Walk;
  #out: Int32Array;
  #fetchFlag = 0;

  constructor(marks: Marks) {
    this.#memory = marks.memory;
    this.#wide = new NativeWalker(marks);
    this.#narrow = new LegacyWalker(marks);
    const four = walkOfFour(this.#wide);
    const none: Walk = (low) => {
      this.#wide.out[OUT.low] = low;
      return 0;
    };
    this.#walks = { 0: none, 2: this.#narrow.walk, 3: walkOfPae(this.#wide), 4: four, 5: walkOfFive(this.#wide, four) };
    this.#walk = none;
    this.#out = this.#wide.out;
  }

  /** Takes over registers; undefined, or how the processor refuses them. */
  load(registers: CaseOf<'native'>['registers']): AccessResult | undefined {
    if (isImpossible(registers, false)) return { kind: 'invalidState' };
    if (isLong(registers) && isTooWide(registers.cr3, registers.maxPhysAddr)) return { kind: 'invalidState' };
    const rules = rulesOf(registers, false);
    this.#walk = this.#walks[rules.levels];
    this.#fetchFlag = rules.fetchFlag;
    this.#out = rules.levels === 2 ? this.#narrow.registers.out : this.#wide.out;
    // Outside long mode CR3 has 32 bits that count.
    if (rules.levels === 2) this.#narrow.load(rules, registers.cr3.lo, 0);
    else this.#wide.load(rules, registers.cr3.lo, registers.cr3.hi);
    return rules.levels === 3 ? this.#loadPdptes(registers) : undefined;
  }

  /** The PDPTE registers: as given, or from memory, where a bad entry is refused whether it is used or not. */
  #loadPdptes({ cr3, pdptes, maxPhysAddr }: CaseOf<'native'>['registers']): AccessResult | undefined {
    const isLatched = pdptes.length > 0;
    const entries = isLatched ? pdptes.map(({ entry }) => entry) : [0, 1, 2, 3].map((i) => this.#pdpteAt(cr3.lo, i));
    if (entries.some((entry) => isBadPdpte(entry, maxPhysAddr)))
      return { kind: isLatched ? 'invalidState' : 'generalProtection' };
    this.#wide.cells.set(fourPdptes(entries), CELL.pdptes);
    return undefined;
  }

  #pdpteAt(cr3: number, index: number): Word {
    const at = cellOf(this.#memory, cr3, 0, 8 * Math.floor((cr3 % 4096) / 32) + 2 * index);
    if (at < 0) return { lo: 0xffff_ffff, hi: 0xffff_ffff };
    return { lo: low32(this.#memory[at] as number), hi: low32(this.#memory[at + 1] as number) };
  }

  translate(access: LinearAccess, { linear }: Piece): number | AccessResult {
    // Halves are signed where they are computed with.
    const high = this.#walk(low32(linear.lo), low32(linear.hi), accessCode(access));
    if (high < 0) return pageFault(high, access, this.#fetchFlag, linear);
    return addressOf(high, this.#out[OUT.low] as number);
  }
}
