// Registers of random cases: every paging mode with its switches, mostly states that a processor can be in; and `spoiled`
// states that it refuses. A first reader may skip the bit numbers.
// Sources: Intel SDM vol. 3A, "Control Registers", "Paging"; vol. 3C, "Extended-Page-Table Pointer"; AMD APM vol. 2, "Nested Paging".

import type { Word } from '#abi/address.ts';
import type { CaseOf } from '#abi/case.ts';
import { bit, or, pow2, without } from '#lib/bits.ts';
import type { Prng } from '#lib/prng.ts';
import { bitOf, orWord } from './cases-image.ts';

/** A processor's paging mode. */
export type Mode = 'none' | 'legacy' | 'pae' | 'four' | 'five';

export const CR0 = { pe: bit(0), wp: bit(16), pg: bit(31) } as const;
export const CR4 = {
  pse: bit(4),
  pae: bit(5),
  pge: bit(7),
  la57: bit(12),
  pcide: bit(17),
  smep: bit(20),
  smap: bit(21),
  pke: bit(22),
  pks: bit(24),
} as const;
export const EFER = { lme: bit(8), nxe: bit(11), svme: bit(12) } as const;

/** All registers of a case without nested tables. */
export type Processor = CaseOf<'native'>['registers'];

/** Which engine the registers are for, and whether an emulator is to take them. */
export interface How {
  readonly engine: 'native' | 'vmx' | 'svm';
  readonly oracle?: boolean;
}

const widths = [36, 39, 40, 46, 48, 52] as const;

const physBitsOf = (prng: Prng, oracle: boolean): number => {
  if (oracle) return prng.chance(15, 16) ? 40 : prng.pick([36, 39, 46, 48, 52]);
  return prng.chance(1, 2) ? prng.pick(widths) : 36 + prng.below(17);
};

/** A paging mode, all of them often. */
export function modeOf(prng: Prng, oracle: boolean): Mode {
  const n = prng.below(100);
  if (n < (oracle ? 2 : 5)) return 'none';
  return n < 24 ? 'legacy' : n < 46 ? 'pae' : n < 78 ? 'four' : 'five';
}

const some = (prng: Prng, mask: number, odds: readonly [number, number]): number => (prng.chance(...odds) ? mask : 0);
const sum = (...masks: readonly number[]): number => masks.reduce(or);

export const isLong = (mode: Mode): boolean => mode === 'four' || mode === 'five';

/** CR4, EFER and CR0 for a mode, with its switches at random. */
function controlsOf(prng: Prng, mode: Mode, how: How): Pick<Processor, 'cr0' | 'cr4' | 'efer'> {
  const long = isLong(mode);
  const isStray = how.oracle !== true && prng.chance(1, 8);
  const keys = long || isStray;
  const cr4 = sum(
    some(prng, CR4.pse, mode === 'legacy' ? [3, 4] : [1, 2]),
    mode === 'pae' || long ? CR4.pae : mode === 'none' ? some(prng, CR4.pae, [1, 2]) : 0,
    some(prng, CR4.pge, [1, 2]),
    mode === 'five' ? CR4.la57 : 0,
    long ? some(prng, CR4.pcide, [1, 4]) : 0,
    some(prng, CR4.smep, [2, 5]),
    some(prng, CR4.smap, [2, 5]),
    keys ? some(prng, CR4.pke, [1, 2]) : 0,
    // AMD has no keys for supervisor pages.
    keys && how.engine !== 'svm' ? some(prng, CR4.pks, [1, 2]) : 0,
  );
  const efer = sum(long ? EFER.lme : 0, some(prng, EFER.nxe, [7, 8]), how.engine === 'svm' ? EFER.svme : 0);
  const cr0 = sum(CR0.pe, bit(4), some(prng, CR0.wp, [5, 8]), mode === 'none' ? 0 : CR0.pg);
  return { cr0, cr4, efer };
}

/** Key registers: mostly nothing forbidden, so that keys decide now and then. */
const keysOf = (prng: Prng): number => (prng.chance(1, 2) ? 0 : prng.chance(1, 3) ? prng.next() : sparse(prng));

const sparse = (prng: Prng): number => without(prng.next(), or(prng.next(), prng.next()));

/** A processor in `mode`; CR3 and PDPTEs come when the tables are laid. */
export function processorOf(prng: Prng, mode: Mode, how: How): Processor {
  return {
    ...controlsOf(prng, mode, how),
    cr3: { lo: 0, hi: 0 },
    pkru: keysOf(prng),
    pkrs: keysOf(prng),
    maxPhysAddr: physBitsOf(prng, how.oracle === true),
    page1Gb: how.oracle === true || prng.chance(4, 5) ? 'present' : 'absent',
    pdptes: [],
  };
}

/** Bits of CR3 besides the root: PCID where there are such, cache bits else. */
export const cr3Flags = (prng: Prng, cr4: number): number => {
  if (prng.chance(1, 2)) return 0;
  const isPcid = Math.floor(cr4 / CR4.pcide) % 2 === 1;
  return isPcid ? prng.below(4096) : prng.below(4) * 8;
};

/** What the nested tables of an AMD host are made for. */
export interface Host {
  readonly mode: Mode;
  readonly hostCr0: number;
  readonly hostCr4: number;
  readonly hostEfer: number;
}

/** A host's paging mode and controls for nested paging. */
export function hostOf(prng: Prng, oracle: boolean): Host {
  const n = prng.below(100);
  const mode =
    n < (oracle ? 70 : 45) ? 'four' : n < 80 ? 'five' : n < 90 ? 'pae' : n < 98 || oracle ? 'legacy' : 'none';
  const how: How = { engine: 'svm', oracle };
  const { cr0, cr4, efer } = controlsOf(prng, mode, how);
  return { mode, hostCr0: cr0, hostCr4: without(cr4, or(CR4.pcide, or(CR4.pke, CR4.pks))), hostEfer: efer };
}

/** Bits below the root in an EPT pointer: memory type write-back or uncached, the length of the walk, accessed and dirty flags. */
export const eptpFlags = (prng: Prng, levels: 4 | 5): number =>
  (prng.chance(7, 8) ? 6 : 0) + (levels - 1) * 8 + (prng.chance(1, 2) ? 64 : 0);

/** `registers` with one thing that a processor refuses, or might. */
export function spoiled<R extends Processor>(prng: Prng, registers: R): R {
  const { cr0, cr4, efer, cr3, maxPhysAddr } = registers;
  const changes: readonly Partial<Processor>[] = [
    { cr0: without(cr0, CR0.pe) },
    { cr4: without(cr4, CR4.pae) },
    { cr4: or(cr4, CR4.pcide) },
    { cr4: or(cr4, CR4.pks) },
    { cr4: or(cr4, bit(prng.below(32))) },
    { cr4: Math.floor(cr4 / CR4.la57) % 2 === 1 ? without(cr4, CR4.la57) : or(cr4, CR4.la57) },
    { efer: or(efer, EFER.lme) },
    { efer: or(efer, bit(prng.below(32))) },
    { efer: without(efer, EFER.lme) },
    { cr0: or(without(cr0, bit(30)), bit(29)) },
    { cr3: orWord(cr3, bitOf(Math.min(63, maxPhysAddr + prng.below(4)))) },
    { cr3: orWord(cr3, { lo: 0, hi: prng.chance(1, 2) ? pow2(31) : prng.next() }) },
    { pdptes: [{ entry: cr3 }] },
  ];
  return { ...registers, ...prng.pick(changes) };
}

/** The same for an EPT pointer. */
export const spoiledEptp = (prng: Prng, eptp: Word, physBits: number): Word => {
  const changes: readonly Word[] = [
    { lo: or(without(eptp.lo, 7), prng.below(8)), hi: eptp.hi },
    { lo: or(without(eptp.lo, 0x38), prng.below(8) * 8), hi: eptp.hi },
    orWord(eptp, bitOf(7 + prng.below(5))),
    orWord(eptp, bitOf(Math.min(63, physBits + prng.below(4)))),
  ];
  return prng.pick(changes);
};
