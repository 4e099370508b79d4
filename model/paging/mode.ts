// The paging mode that CR0, CR4 and EFER select, what else of the registers a translation depends on, and which register
// states do not exist. A first reader may begin with `modeOf` and skip the rest.
// Sources: Intel SDM vol. 3A, "Paging Modes and Control Bits"; vol. 3C, "Checks on Guest Control
// Registers, Debug Registers, and MSRs"; AMD APM vol. 2, "Canonicalization and Consistency Checks", "Paged Real Mode".

import type { Word } from '#abi/address.ts';
import type { CaseOf } from '#abi/case.ts';
import { bit, hasAll, without } from '#lib/bits.ts';
import { addressOf, frameOf, isTooWide, pageBytes } from './address.ts';

/** How linear addresses are translated. legacy: 32-bit paging, tables of 4-byte entries. */
export type PagingMode = 'none' | 'legacy' | 'pae' | 'fourLevel' | 'fiveLevel';

/** The registers of a processor, or those of a host that its nested tables are read by. */
export type Processor = Omit<CaseOf<'native'>['registers'], 'pdptes'>;

/** Whose manual the formats of entries are from: they differ in one reserved bit, and in who loads PDPTE registers. */
export type Vendor = 'intel' | 'amd';

/** What a translation depends on besides tables and access. */
export interface Paging {
  readonly mode: PagingMode;
  readonly vendor: Vendor;
  /** Physical address of the root table. */
  readonly root: number;
  /** PDPTE registers; undefined where PDPTEs are read from memory in every walk, and outside PAE paging. */
  readonly pdptes: readonly Word[] | undefined;
  readonly maxPhysAddr: number;
  readonly page1Gb: boolean;
  /** CR4.PSE: 4 MiB pages in 32-bit paging. */
  readonly superpages: boolean;
  /** EFER.NXE, where entries have room for the bit. */
  readonly executeDisable: boolean;
  /** CR0.WP, CR4.SMEP and CR4.SMAP. */
  readonly writeProtect: boolean;
  readonly smep: boolean;
  readonly smap: boolean;
  /** PKRU and IA32_PKRS, undefined unless switched on. */
  readonly userKeys: number | undefined;
  readonly supervisorKeys: number | undefined;
}

const CR0_PE = bit(0);
const CR0_WP = bit(16);
const CR0_PG = bit(31);
const CR4_PSE = bit(4);
const CR4_PAE = bit(5);
const CR4_LA57 = bit(12);
const CR4_PCIDE = bit(17);
const CR4_SMEP = bit(20);
const CR4_SMAP = bit(21);
const CR4_PKE = bit(22);
const CR4_PKS = bit(24);
const EFER_LME = bit(8);
const EFER_NXE = bit(11);

/** The paging mode of a state that exists. */
export function modeOf({ cr0, cr4, efer }: Processor): PagingMode {
  if (!hasAll(cr0, CR0_PG)) return 'none';
  if (!hasAll(cr4, CR4_PAE)) return 'legacy';
  if (!hasAll(efer, EFER_LME)) return 'pae';
  return hasAll(cr4, CR4_LA57) ? 'fiveLevel' : 'fourLevel';
}

/** IA-32e mode is active: EFER.LMA. Elsewhere linear addresses have 32 bits. */
export const isLong = (mode: PagingMode): boolean => mode === 'fourLevel' || mode === 'fiveLevel';

/** Where CR3 says that the root table lies. In long mode bits 11:0 are a PCID or PWT and PCD: never part of the address. */
function rootOf(mode: PagingMode, cr3: Word): number {
  switch (mode) {
    case 'none':
      return 0;
    // Bits 63:32 of CR3 are ignored outside long mode ("Use of CR3 with 32-Bit Paging", "Use of CR3 with PAE Paging").
    case 'legacy':
      return without(cr3.lo, pageBytes - 1);
    case 'pae':
      return without(cr3.lo, 31);
    case 'fourLevel':
    case 'fiveLevel':
      return addressOf(frameOf(cr3));
  }
}

/** What the registers say about translation. PDPTE registers are for the engine to add. */
export function pagingOf(processor: Processor, vendor: Vendor): Paging {
  const { cr0, cr3, cr4, efer, pkru, pkrs, maxPhysAddr, page1Gb } = processor;
  const mode = modeOf(processor);
  return {
    mode,
    vendor,
    root: rootOf(mode, cr3),
    pdptes: undefined,
    maxPhysAddr,
    page1Gb: page1Gb === 'present',
    superpages: hasAll(cr4, CR4_PSE),
    executeDisable: mode !== 'legacy' && hasAll(efer, EFER_NXE),
    writeProtect: hasAll(cr0, CR0_WP),
    smep: hasAll(cr4, CR4_SMEP),
    smap: hasAll(cr4, CR4_SMAP),
    // "Protection Keys": CR4.PKE and CR4.PKS have no effect outside 4-level and 5-level paging.
    userKeys: isLong(mode) && hasAll(cr4, CR4_PKE) ? pkru : undefined,
    supervisorKeys: isLong(mode) && hasAll(cr4, CR4_PKS) ? pkrs : undefined,
  };
}

/** EFER.LME with paging wants CR0.PE and CR4.PAE: the one rule that all manuals share. */
const isLongModeWhole = ({ cr0, cr4, efer }: Processor): boolean =>
  !hasAll(cr0, CR0_PG) || !hasAll(efer, EFER_LME) || (hasAll(cr0, CR0_PE) && hasAll(cr4, CR4_PAE));

/** CR3 in long mode has no bits beyond MAXPHYADDR: MOV to CR3 faults, VMRUN finds an MBZ bit set. */
const isRootInReach = (processor: Processor): boolean =>
  !isLong(modeOf(processor)) || !isTooWide(processor.cr3, processor.maxPhysAddr);

/** CR4.PCIDE can be set in long mode only, and long mode not be left with it. */
const isPcidAllowed = (processor: Processor): boolean => isLong(modeOf(processor)) || !hasAll(processor.cr4, CR4_PCIDE);

/** Whether a processor can be in this state. MOV to CR0 faults if it sets PG without PE, or with LME and without PAE. */
export const isNativeState = (processor: Processor): boolean =>
  isLongModeWhole(processor) &&
  isRootInReach(processor) &&
  isPcidAllowed(processor) &&
  (hasAll(processor.cr0, CR0_PE) || !hasAll(processor.cr0, CR0_PG));

/** Whether VM entry accepts this guest state. CR3 is held to MAXPHYADDR in every mode, even without paging. */
export const isVmEntryState = (processor: Processor): boolean =>
  isNativeState(processor) && !isTooWide(processor.cr3, processor.maxPhysAddr);

/** Whether a host can have this state with paging on. Its CR3 is not the one that nested tables hang from. */
export const isHostState = (processor: Processor): boolean =>
  hasAll(processor.cr0, CR0_PE) && hasAll(processor.cr0, CR0_PG) && isLongModeWhole(processor);

/**
 * Whether VMRUN accepts this guest state. PG without PE is paged real mode. The list of illegal states does not name PCIDE
 * outside long mode; no processor comes into that state otherwise, so it is taken as one of them.
 */
export const isVmrunState = (processor: Processor): boolean =>
  isLongModeWhole(processor) && isRootInReach(processor) && isPcidAllowed(processor);
