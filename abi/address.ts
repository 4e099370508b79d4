// The address spaces and the numbers that name things in them, after Xen's glossary (xen/include/xen/mm.h).
//
//   gfn  frame number in a guest's own physical space      mfn  frame number of the machine
//   dfn  frame number as a device behind an IOMMU says it  vfn  frame number of a virtual address
//
// The only ways from one space to another are the translation functions of the mechanisms.
// Constructors check ranges and are for edges (decoding, tests); code between edges keeps the brand.

import type { Brand } from '#lib/brand.ts';
import { invariant } from '#lib/invariant.ts';

/** Guest frame number: 0..2^52-1. */
export type Gfn = Brand<number, 'Gfn'>;
/** Machine frame number: 0..2^40-1. */
export type Mfn = Brand<number, 'Mfn'>;
/** Device frame number: 0..2^52-1. */
export type Dfn = Brand<number, 'Dfn'>;
/** Virtual frame number: 0..2^52-1 (bits 12..63 of a virtual address). */
export type Vfn = Brand<number, 'Vfn'>;
/** Domain id: 0..0x7fff; values from 0x7ff0 are Xen's reserved ids. */
export type DomId = Brand<number, 'DomId'>;
/** Index of a virtual processor in its domain. */
export type VcpuId = Brand<number, 'VcpuId'>;
/** Index of a physical processor. */
export type PcpuId = Brand<number, 'PcpuId'>;
/** Index into a domain's grant table. */
export type GrantRef = Brand<number, 'GrantRef'>;
/** A mapping handle as grant.map handed it out: index into the mapper's maptrack. */
export type GrantHandle = Brand<number, 'GrantHandle'>;

const FRAME_COUNT = 2 ** 52;

const frame = <T extends number>(n: number, name: string): T => {
  invariant(Number.isSafeInteger(n) && n >= 0 && n < FRAME_COUNT, `${name} lies in 0..2^52-1`);
  return n as T;
};

/** A gfn from a number in 0..2^52-1. */
export const gfn = (n: number): Gfn => frame(n, 'a gfn');
/** An mfn from a number in 0..2^52-1. */
export const mfn = (n: number): Mfn => frame(n, 'an mfn');
/** A domain id from a number in 0..0xffff. */
export const domId = (n: number): DomId => {
  invariant(Number.isSafeInteger(n) && n >= 0 && n <= 0xffff, 'a domain id lies in 0..0xffff');
  return n as DomId;
};

/** What a dangling or impossible frame operand resolves to: all ones, as Xen's INVALID_GFN. */
export const INVALID_GFN: Gfn = (FRAME_COUNT - 1) as Gfn;
/** The mfn counterpart of `INVALID_GFN` (Xen's INVALID_MFN). */
export const INVALID_MFN: Mfn = (FRAME_COUNT - 1) as Mfn;

/** "The caller" as a domain id (Xen public/xen.h, DOMID_SELF). */
export const DOMID_SELF: DomId = 0x7ff0 as DomId;
/** The id that names no domain (Xen public/xen.h, DOMID_INVALID). */
export const DOMID_INVALID: DomId = 0x7ff4 as DomId;
/** The first reserved id (Xen public/xen.h, DOMID_FIRST_RESERVED). */
export const DOMID_FIRST_RESERVED: DomId = 0x7ff0 as DomId;
/** The control domain. */
export const DOMID_CONTROL: DomId = 0 as DomId;

/** A 64-bit word of memory: two unsigned 32-bit halves. */
export interface Word {
  readonly lo: number;
  readonly hi: number;
}

/** The word whose bits are all 0. */
export const ZERO_WORD: Word = { lo: 0, hi: 0 };

/** How many bits of an address lie below a frame number in every entry format. */
export const FRAME_SHIFT = 12;
