// The second shape beside Trace: a memory image, registers, and one access. Malformed entries cannot be reached through
// a correct hypervisor; cases reach them. Oracles of hardware speak Case.
// Which registers there are and what an access says is a table, as operations are: a new engine (a paging mode, an IOMMU)
// is one row, and decoding, printing and types follow.

import type { Word } from './address.ts';
import type { Arguments, Fields } from './field.ts';
import type { GeometryName } from './geometry.ts';

/** Raised whenever the meaning of a stored case changes; decoding refuses every other version. */
export const CASE_VERSION = 1;

/** A word of the image: frame, index in the frame, value. */
export interface Poke {
  readonly mfn: number;
  readonly index: number;
  readonly word: Word;
}

/** One kind of translation: the registers it depends on and what an access names, as numbers and names. */
export interface Engine {
  /** A sentence with registers and access in braces. */
  readonly says: string;
  readonly registers: Fields;
  readonly access: Fields;
}

/** Registers of the processor that take part in translation, as the case finds them. Reserved bits are for the engine to judge. */
const processor = {
  /** PE, WP and PG count; the others are ignored. */
  cr0: { type: 'int', min: 0, max: 2 ** 32 - 1 },
  /** The root table; with CR4.PCIDE bits 11:0 are the PCID, else PWT and PCD. */
  cr3: { type: 'quad' },
  /** PSE, PAE, PGE, LA57, PCIDE, SMEP, SMAP, PKE and PKS count. */
  cr4: { type: 'int', min: 0, max: 2 ** 32 - 1 },
  /** LME and NXE count; long mode is active when LME and PG are both set. */
  efer: { type: 'int', min: 0, max: 2 ** 32 - 1 },
  pkru: { type: 'int', min: 0, max: 2 ** 32 - 1 },
  /** IA32_PKRS, for supervisor pages. */
  pkrs: { type: 'int', min: 0, max: 2 ** 32 - 1 },
  /** MAXPHYADDR: physical addresses have so many bits. */
  maxPhysAddr: { type: 'int', min: 36, max: 52 },
  /** Whether 1 GiB pages exist (CPUID Page1GB); without them bit 7 of a PDPTE is reserved. */
  page1Gb: { type: 'oneOf', values: ['absent', 'present'] },
  /** The four PDPTE registers as latched; empty: they are loaded from memory at CR3 when the case begins. Only for PAE. */
  pdptes: { type: 'list', of: { entry: { type: 'quad' } }, max: 4 },
} as const satisfies Fields;

/** One access of a program to a linear address. */
const linearAccess = {
  kind: { type: 'oneOf', values: ['read', 'write', 'fetch', 'readModifyWrite'] },
  /** implicit: the processor's own accesses to descriptor tables and the like, which are supervisor accesses at any CPL. */
  privilege: { type: 'oneOf', values: ['supervisor', 'user', 'implicit'] },
  /** EFLAGS.AC, which lifts SMAP from explicit accesses. */
  ac: { type: 'oneOf', values: ['clear', 'set'] },
  /** Outside long mode only the low 32 bits count. */
  linear: { type: 'quad' },
  /** Bytes; the access may straddle words and pages. */
  size: { type: 'int', min: 1, max: 8 },
} as const satisfies Fields;

const access = '{kind} of {size} bytes at linear {linear} as {privilege}, AC {ac}';
const state =
  'CR0 {cr0}, CR3 {cr3}, CR4 {cr4}, EFER {efer}, PKRU {pkru}, PKRS {pkrs}, MAXPHYADDR {maxPhysAddr}, 1 GiB pages {page1Gb}, PDPTEs {pdptes}';

/** Every translation that cases can be about. */
export const engines = {
  /** An EPT walk of a guest-physical frame. Source: Intel SDM vol. 3C, "EPT Translation Mechanism", EPTP. */
  ept: {
    says: '{kind} of guest frame {frame} through EPT with root table {root}, accessed and dirty flags {accessedDirty}',
    registers: {
      /** The mfn of the root table. */
      root: { type: 'int', min: 0, max: 2 ** 40 - 1 },
      accessedDirty: { type: 'oneOf', values: ['off', 'on'] },
    },
    access: {
      kind: { type: 'oneOf', values: ['read', 'write', 'fetch'] },
      frame: { type: 'int', min: 0, max: 2 ** 52 - 1 },
    },
  },
  /** A processor without nested paging. Source: Intel SDM vol. 3A, "Paging". */
  native: { says: `${access}; ${state}`, registers: processor, access: linearAccess },
  /** A guest in VMX non-root operation with EPT. PDPTEs are as VM entry takes them from the VMCS: none given means four zeros. Source: Intel SDM vol. 3C, "Extended-Page-Table Mechanism". */
  vmx: {
    says: `${access}; ${state}; EPTP {eptp}, mode-based execute control {modeBasedExecute}`,
    registers: {
      ...processor,
      /** Memory type, walk length, accessed and dirty flags, root (Intel SDM vol. 3C, "Extended-Page-Table Pointer"). */
      eptp: { type: 'quad' },
      modeBasedExecute: { type: 'oneOf', values: ['off', 'on'] },
    },
    access: linearAccess,
  },
  /** An SVM guest with nested paging: PDPTEs are read from memory on demand. Source: AMD APM vol. 2, "Nested Paging". */
  svm: {
    says: `${access}; ${state}; nested CR3 {nestedCr3}, host CR0 {hostCr0}, CR4 {hostCr4}, EFER {hostEfer}`,
    registers: {
      ...processor,
      nestedCr3: { type: 'quad' },
      hostCr0: { type: 'int', min: 0, max: 2 ** 32 - 1 },
      /** PSE, PAE, LA57, SMEP count: the nested tables have the host's paging mode. */
      hostCr4: { type: 'int', min: 0, max: 2 ** 32 - 1 },
      hostEfer: { type: 'int', min: 0, max: 2 ** 32 - 1 },
    },
    access: linearAccess,
  },
} as const satisfies Readonly<Record<string, Engine>>;

export type EngineName = keyof typeof engines;

/** One access to be translated against an image, by engine. */
export type Case = {
  readonly [E in EngineName]: {
    /** Which translation. */
    readonly engine: E;
    readonly version: typeof CASE_VERSION;
    readonly geometry: GeometryName;
    readonly registers: Arguments<(typeof engines)[E]['registers'], 'concrete'>;
    readonly access: Arguments<(typeof engines)[E]['access'], 'concrete'>;
    /** Words that are not 0. The last of several pokes of one word holds. */
    readonly image: readonly Poke[];
  };
}[EngineName];

/** A case of one engine. */
export type CaseOf<E extends EngineName> = Extract<Case, { readonly engine: E }>;

/** What the nested tables alone make of a case of engine `ept`. */
export type CaseResult =
  | {
      readonly kind: 'frame';
      readonly mfn: number;
      readonly rights: number;
      readonly level: number;
      readonly image: readonly Poke[];
    }
  | { readonly kind: 'violation'; readonly level: number; readonly qualification: number }
  | { readonly kind: 'misconfiguration'; readonly level: number };

/** Consecutive bytes of machine memory: first byte's address below 2^52, number of bytes. */
export interface Bytes {
  readonly maddr: number;
  readonly count: number;
}

/**
 * What an access to a linear address comes to. done: the bytes in order, one run per page touched. Faults carry what the
 * processor reports: the error code of a page fault and CR2; exit qualification or EXITINFO1, the guest-physical address, and
 * for EPT violations the guest linear address where the qualification says that it is valid.
 */
export type AccessResult =
  | { readonly kind: 'done'; readonly bytes: readonly Bytes[] }
  | { readonly kind: 'pageFault'; readonly errorCode: number; readonly linear: Word }
  /** A non-canonical address, or PDPTEs with reserved bits when they are loaded. */
  | { readonly kind: 'generalProtection' }
  | {
      readonly kind: 'eptViolation';
      readonly qualification: number;
      readonly guestPhysical: number;
      readonly linear: Word | undefined;
    }
  | { readonly kind: 'eptMisconfiguration'; readonly guestPhysical: number }
  | { readonly kind: 'nestedPageFault'; readonly info: Word; readonly guestPhysical: number }
  /** The registers are not a state that the processor, VM entry or VMRUN accepts. */
  | { readonly kind: 'invalidState' };

/** Accessed and dirty flags set in a word of an entry: which word, which bits. */
export interface Mark {
  readonly mfn: number;
  readonly index: number;
  readonly bits: Word;
}

/**
 * The outcome of a case of engine `native`, `vmx` or `svm`. Flags in `required` must be set afterwards if they were not, those
 * in `allowed` may be (the manuals leave it open when a walk faults below), no other word of the image changes.
 */
export interface AccessOutcome {
  readonly result: AccessResult;
  readonly required: readonly Mark[];
  readonly allowed: readonly Mark[];
}

/** Frames of memory behind cases of engines `native`, `vmx` and `svm` (64 MiB); reads beyond give ones, writes are lost. */
export const CASE_FRAMES = 0x4000;
