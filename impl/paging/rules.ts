// Simulated hardware: what a processor derives from its registers before it translates anything: the paging mode, whether
// the registers can be so at all, which bits of entries are reserved, and which accesses the folded rights permit. All of it is numbers that a
// walker takes over when registers are loaded; nothing here runs during a walk.
// A first reader may skip `permittedBy` and `deniedBy`, which spell out two paragraphs of the manual as bit maps.
// Sources: Intel SDM vol. 3A, "Paging Modes and Control Bits", "Determination of Access Rights", "Protection Keys",
// tables of the formats of entries; AMD APM vol. 2, "Long-Mode Page Translation" (bit 8 of the two upper levels).

import type { CaseOf } from '#abi/case.ts';
import { ZERO_WORD, type Word } from '#abi/address.ts';
import { and, evenBits, field, hasAll, hasAny, or, pow2, without } from '#lib/bits.ts';

/** The registers that take part in ordinary paging. */
export type Processor = CaseOf<'native'>['registers'];

const CR0 = { pe: 2 ** 0, wp: 2 ** 16, pg: 2 ** 31 } as const;
const CR4 = {
  pse: 2 ** 4,
  pae: 2 ** 5,
  la57: 2 ** 12,
  pcide: 2 ** 17,
  smep: 2 ** 20,
  smap: 2 ** 21,
  pke: 2 ** 22,
  pks: 2 ** 24,
} as const;
const EFER = { lme: 2 ** 8, nxe: 2 ** 11 } as const;

/** Bits 52..62 as bits of an upper half: reserved under PAE paging, ignored or keys under long mode. */
const ABOVE_FRAME = 0x7ff0_0000;
const NX_HIGH = 0x8000_0000;

/** Levels of tables: 0 without paging, 2 for 32-bit paging, 3 for PAE, 4 and 5 in long mode. */
export type Levels = 0 | 2 | 3 | 4 | 5;

/** Registers as a walker wants them. Masks are over halves of entries. */
export interface Rules {
  readonly levels: Levels;
  /** Bits of a linear address that count: 32, 48 or 57. */
  readonly linearBits: number;
  /** 32-bit paging: whether bit 7 of a directory entry means a page of 4 MiB. */
  readonly largeLegacy: boolean;
  /** Reserved in the high half of every entry with 64 bits. */
  readonly reservedHigh: number;
  /** Reserved in the low half: entries of levels 4 and 5; PDPTEs with bit 7; directory entries of 4 MiB. */
  readonly reservedUpper: number;
  readonly reserved1Gb: number;
  readonly reserved4Mb: number;
  /** Added to the error code of a fetch: the I/D flag or 0. */
  readonly fetchFlag: number;
  /** By access (`accessCode`): bit i is set if folded rights i (`rightsIndex`) permit it. */
  readonly permitted: readonly number[];
  /** By access: bit k is set if key k of a user-mode address denies it, bit 16+k for a supervisor-mode address. */
  readonly denied: readonly number[];
}

const isSameWord = (a: Word, b: Word): boolean => a.lo === b.lo && a.hi === b.hi;

/** Whether two processors have the same in all registers. */
export function isSameProcessor(a: Processor, b: Processor): boolean {
  return (
    a.cr0 === b.cr0 &&
    a.cr4 === b.cr4 &&
    a.efer === b.efer &&
    a.pkru === b.pkru &&
    a.pkrs === b.pkrs &&
    a.maxPhysAddr === b.maxPhysAddr &&
    a.page1Gb === b.page1Gb &&
    isSameWord(a.cr3, b.cr3) &&
    a.pdptes.length === b.pdptes.length &&
    a.pdptes.every(({ entry }, i) => isSameWord(entry, b.pdptes[i]?.entry ?? ZERO_WORD))
  );
}

type Modes = Pick<Processor, 'cr0' | 'cr4' | 'efer'>;

/** The mode that the registers select. Source: Intel SDM vol. 3A, "Three/Four Paging Modes". */
export function levelsOf({ cr0, cr4, efer }: Modes): Levels {
  if (!hasAll(cr0, CR0.pg)) return 0;
  if (!hasAll(cr4, CR4.pae)) return 2;
  if (!hasAll(efer, EFER.lme)) return 3;
  return hasAll(cr4, CR4.la57) ? 5 : 4;
}

/** Whether long mode is active. */
export const isLong = ({ cr0, efer }: Pick<Modes, 'cr0' | 'efer'>): boolean =>
  hasAll(cr0, CR0.pg) && hasAll(efer, EFER.lme);

/** Whether bits of `word` at or above the physical-address width are set. */
export const isTooWide = (word: Word, maxPhysAddr: number): boolean => isTooWideHigh(word.hi, maxPhysAddr);

const isTooWideHigh = (high: number, maxPhysAddr: number): boolean => field(high, maxPhysAddr - 32, 32) !== 0;

/**
 * Whether no processor can be in this state: paging needs protected mode (`mayPageRealMode`: but for the paged real mode of
 * AMD APM vol. 2, "Paged Real Mode"), long mode needs PAE, process-context identifiers need long mode.
 */
export function isImpossible(p: Modes, mayPageRealMode: boolean): boolean {
  const isPaging = hasAll(p.cr0, CR0.pg);
  if (isPaging && !hasAll(p.cr0, CR0.pe) && !(mayPageRealMode && !isLong(p))) return true;
  if (isLong(p) && !hasAll(p.cr4, CR4.pae)) return true;
  return hasAll(p.cr4, CR4.pcide) && !isLong(p);
}

/** Folded rights as an index: bit 0 R/W, bit 1 U/S, bit 2 XD. */
const RIGHTS = [0, 1, 2, 3, 4, 5, 6, 7];
const mayWrite = (rights: number): boolean => rights % 2 === 1;
const isUser = (rights: number): boolean => rights % 4 > 1;
const mayFetch = (rights: number): boolean => rights < 4;

/** An access as an index: 3 times read, write, fetch, plus who. */
export const KIND = { read: 0, write: 3, fetch: 6 } as const;
/** user; a supervisor access that SMAP stops; one that EFLAGS.AC lifts over it. */
export const WHO = { user: 0, supervisor: 1, overridden: 2 } as const;

const accesses = Object.values(KIND).flatMap((kind) => Object.values(WHO).map((who) => ({ kind, who })));

interface Controls {
  readonly wp: boolean;
  readonly smep: boolean;
  readonly smap: boolean;
}

/** All of them, at the index that `controlsIndex` says. */
const everyControls: readonly Controls[] = [0, 1, 2, 3, 4, 5, 6, 7].map((i) => ({
  wp: field(i, 0, 1) === 1,
  smep: field(i, 1, 1) === 1,
  smap: field(i, 2, 1) === 1,
}));
const controlsIndex = ({ wp, smep, smap }: Controls): number => (wp ? 1 : 0) + (smep ? 2 : 0) + (smap ? 4 : 0);

type Access = (typeof accesses)[number];

function permits({ wp, smep, smap }: Controls, { kind, who }: Access, rights: number): boolean {
  if (who === WHO.user)
    return isUser(rights) && (kind === KIND.read || (kind === KIND.write ? mayWrite(rights) : mayFetch(rights)));
  if (kind === KIND.fetch) return mayFetch(rights) && !(smep && isUser(rights));
  if (smap && isUser(rights) && who !== WHO.overridden) return false;
  return kind === KIND.read || mayWrite(rights) || !wp;
}

const permittedBy = (controls: Controls): readonly number[] =>
  accesses.map((access) =>
    RIGHTS.filter((rights) => permits(controls, access, rights)).reduce((map, rights) => map + pow2(rights), 0),
  );

const permittedByAll = everyControls.map(permittedBy);

/** Keys that deny, as a map of 16 bits: AD stops all data accesses, WD writes if `stopsWrites`. */
const denying = (rights: number, access: Access, stopsWrites: boolean): number =>
  access.kind === KIND.fetch
    ? 0
    : or(evenBits(rights), access.kind === KIND.write && stopsWrites ? evenBits(field(rights, 1, 31)) : 0);

/** The registers that rules come from. */
type Ruling = Omit<Processor, 'cr3' | 'pdptes'>;

const nothingDenied: readonly number[] = accesses.map(() => 0);

function deniedBy(p: Ruling): readonly number[] {
  if (!isLong(p) || !hasAny(p.cr4, CR4.pke + CR4.pks)) return nothingDenied;
  const wp = hasAll(p.cr0, CR0.wp);
  return accesses.map((access) => {
    const user = hasAll(p.cr4, CR4.pke) ? denying(p.pkru, access, wp || access.who === WHO.user) : 0;
    // A user's access to a supervisor-mode address fails without a look at its key.
    const areKept = hasAll(p.cr4, CR4.pks) && access.who !== WHO.user;
    const supervisor = areKept ? denying(p.pkrs, access, wp) : 0;
    return user + supervisor * 0x1_0000;
  });
}

/** Bits 13..21 that are reserved in a directory entry of 4 MiB: those from the end of the address that PSE-36 takes on. */
const reserved4MbOf = (maxPhysAddr: number): number => {
  const from = Math.min(maxPhysAddr, 40) - 19;
  return pow2(22) - pow2(from);
};

/** What a walker needs of the registers. `upperBit8`: bit 8 is reserved in entries of levels 4 and 5, as AMD has it. */
export function rulesOf(p: Ruling, upperBit8: boolean): Rules {
  const levels = levelsOf(p);
  const nxe = hasAll(p.efer, EFER.nxe);
  const smep = hasAll(p.cr4, CR4.smep);
  const beyond = without(0xf_ffff, pow2(p.maxPhysAddr - 32) - 1);
  const above = levels === 3 ? ABOVE_FRAME : 0;
  return {
    levels,
    linearBits: levels < 4 ? 32 : levels === 5 ? 57 : 48,
    largeLegacy: hasAll(p.cr4, CR4.pse),
    reservedHigh: or(or(beyond, above), nxe ? 0 : NX_HIGH),
    reservedUpper: upperBit8 ? 0x180 : 0x80,
    reserved1Gb: p.page1Gb === 'present' ? 0x3fff_e000 : 0x80,
    reserved4Mb: reserved4MbOf(p.maxPhysAddr),
    fetchFlag: smep || (nxe && hasAll(p.cr4, CR4.pae)) ? 0x10 : 0,
    permitted: permittedByAll[
      controlsIndex({ wp: hasAll(p.cr0, CR0.wp), smep, smap: hasAll(p.cr4, CR4.smap) })
    ] as readonly number[],
    denied: deniedBy(p),
  };
}

/** Reserved bits of a PDPTE under PAE paging: low half, and high half beside those beyond the physical-address width. */
const PDPTE_LOW = 0x1e6;

/** Whether loading the PDPTE of these halves, signed or not, is refused. Source: Intel SDM vol. 3A, "PDPTE Registers". */
export const isBadPdpte = (low: number, high: number, maxPhysAddr: number): boolean =>
  field(low, 0, 1) === 1 && (and(low, PDPTE_LOW) !== 0 || isTooWideHigh(high, maxPhysAddr));
