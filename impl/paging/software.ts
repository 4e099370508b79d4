// The hypervisor's own walk of a guest's tables, for what a hypercall names by linear address. It is no hardware: it shares nothing with
// the walkers beside it but the shape of the registers, and it reaches memory through the guest's own frames alone: a table
// or page in a frame that the guest does not have ends the walk, and nothing is read. It sets accessed and dirty flags as a
// processor would.
// A first reader may skip `formats`. Sources: Intel SDM vol. 3A, "Paging"; Xen arch/x86/mm/guest_walk.c (what it leaves to callers).

import type { Word } from '#abi/address.ts';
import type { CaseOf } from '#abi/case.ts';
import { and, bit, field, hasAll, hasAny, low32, or } from '#lib/bits.ts';

type Registers = CaseOf<'native'>['registers'];
type Access = Pick<CaseOf<'native'>['access'], 'kind' | 'privilege' | 'ac' | 'linear'>;

/** A guest's memory: halves of words as everywhere in impl/, and the mfn behind a gfn, or -1. */
export interface GuestFrames {
  readonly memory: Int32Array;
  frameOf(gfn: number): number;
}

/** What the tables give a page. */
export interface PageRights {
  readonly write: boolean;
  readonly user: boolean;
  readonly execute: boolean;
}

/** frame: where the page lies. unbacked: a table or the page lies in a frame that the guest does not have. */
export type SoftwareWalk =
  | { readonly kind: 'frame'; readonly gfn: number; readonly mfn: number; readonly rights: PageRights }
  | { readonly kind: 'pageFault'; readonly errorCode: number }
  | { readonly kind: 'unbacked'; readonly gfn: number }
  | { readonly kind: 'nonCanonical' };

/** One level: bits of index, the largest number of bits that a page here leaves untranslated beyond 12, and what it is called. */
interface Level {
  readonly indexBits: number;
  /** Bits of the frame number that come from the address if an entry here is a page; undefined: it cannot be one. */
  readonly pageBits: number | undefined;
}

interface Format {
  readonly levels: readonly Level[];
  readonly entryBytes: 4 | 8;
  readonly linearBits: 32 | 48 | 57;
}

const table = (indexBits: number, pageBits?: number): Level => ({ indexBits, pageBits });

/** From the root down. */
function formatOf({ cr4, efer, page1Gb }: Registers): Format {
  const giant = page1Gb === 'present' ? 18 : undefined;
  const last = [table(9, 9), table(9, 0)];
  if (!hasAll(cr4, bit(5)))
    return { levels: [table(10, hasAll(cr4, bit(4)) ? 10 : undefined), table(10, 0)], entryBytes: 4, linearBits: 32 };
  if (!hasAll(efer, bit(8))) return { levels: [table(2), ...last], entryBytes: 8, linearBits: 32 };
  const four = [table(9), table(9, giant), ...last];
  return hasAll(cr4, bit(12))
    ? { levels: [table(9), ...four], entryBytes: 8, linearBits: 57 }
    : { levels: four, entryBytes: 8, linearBits: 48 };
}

interface Step {
  readonly cell: number;
  readonly word: Word;
  /** Whether the entry has flags and rights: PDPTEs of PAE paging do not. */
  readonly isFull: boolean;
}

const fault = (bits: number): SoftwareWalk => ({ kind: 'pageFault', errorCode: bits });

/** Walks the tables of one guest. */
export class SoftwareWalker {
  readonly #guest: GuestFrames;
  readonly #registers: Registers;
  readonly #format: Format;
  readonly #isPaging: boolean;

  constructor(guest: GuestFrames, registers: Registers) {
    this.#guest = guest;
    this.#registers = registers;
    this.#format = formatOf(registers);
    this.#isPaging = hasAll(registers.cr0, bit(31));
  }

  /** Translates the first byte of an access. */
  walk(access: Access): SoftwareWalk {
    const { linear } = access;
    if (!this.#isPaging) return this.#locate(Math.floor(linear.lo / 4096), { write: true, user: true, execute: true });
    const { levels, linearBits, entryBytes } = this.#format;
    if (linearBits > 32) {
      const sign = Math.floor(linear.hi / 2 ** (linearBits - 33));
      if (sign !== 0 && sign !== 2 ** (65 - linearBits) - 1) return { kind: 'nonCanonical' };
    }
    const vfn = (linearBits > 32 ? linear.hi * 2 ** 20 : 0) + Math.floor(linear.lo / 4096);
    let base = this.#rootOf();
    let below = levels.reduce((sum, { indexBits }) => sum + indexBits, 0);
    const steps: Step[] = [];
    for (const [depth, { indexBits, pageBits }] of levels.entries()) {
      below -= indexBits;
      const at = base + (Math.floor(vfn / 2 ** below) % 2 ** indexBits) * entryBytes;
      const step = this.#read(at, depth, indexBits);
      if (typeof step === 'number') return { kind: 'unbacked', gfn: step };
      const { word } = step;
      if (!hasAll(word.lo, 1)) return fault(this.#asked(access));
      if (this.#isMalformed(step, depth, pageBits)) return fault(this.#asked(access) + 9);
      steps.push(step);
      const isPage = pageBits === 0 || (pageBits !== undefined && hasAll(word.lo, bit(7)));
      if (isPage) return this.#arrive(access, steps, this.#frameIn(word, pageBits) + (vfn % 2 ** pageBits));
      base = this.#tableIn(word) * 4096;
    }
    return fault(this.#asked(access));
  }

  /** Where the root table begins, in bytes. */
  #rootOf(): number {
    const { cr3 } = this.#registers;
    const { levels, linearBits } = this.#format;
    if (linearBits > 32) return this.#tableIn(cr3) * 4096;
    const alignment = levels.length === 3 ? 32 : 4096;
    return cr3.lo - (cr3.lo % alignment);
  }

  #tableIn({ lo, hi }: Word): number {
    return field(hi, 0, 20) * 2 ** 20 + Math.floor(lo / 4096);
  }

  /** The first frame of the page that an entry maps. */
  #frameIn(word: Word, pageBits: number): number {
    if (this.#format.entryBytes === 4 && pageBits > 0)
      return field(word.lo, 13, 8) * 2 ** 20 + field(word.lo, 22, 10) * 2 ** 10;
    const frame = this.#tableIn(word);
    return frame - (frame % 2 ** pageBits);
  }

  /** The entry at a guest-physical address; a number: the gfn that is not there. */
  #read(at: number, depth: number, indexBits: number): Step | number {
    const { pdptes } = this.#registers;
    const isPdpte = indexBits === 2 && depth === 0;
    if (isPdpte && pdptes.length > 0)
      return { cell: -1, word: pdptes[(at / 8) % 4]?.entry ?? { lo: 0, hi: 0 }, isFull: false };
    const gfn = Math.floor(at / 4096);
    const mfn = this.#guest.frameOf(gfn);
    const cell = mfn * 1024 + (at % 4096) / 4;
    const { memory } = this.#guest;
    if (mfn < 0 || cell >= memory.length) return gfn;
    const hi = this.#format.entryBytes === 4 ? 0 : low32(memory[cell + 1] as number);
    return { cell, word: { lo: low32(memory[cell] as number), hi }, isFull: !isPdpte };
  }

  #isMalformed({ word, isFull }: Step, depth: number, pageBits: number | undefined): boolean {
    const { maxPhysAddr, efer } = this.#registers;
    const { entryBytes, levels, linearBits } = this.#format;
    const isLarge = hasAll(word.lo, bit(7)) && pageBits !== 0;
    if (entryBytes === 4)
      return isLarge && pageBits !== undefined && field(word.lo, 13, 9) >= 2 ** (Math.min(maxPhysAddr, 40) - 32);
    // Bits 52..62 are reserved where linear addresses have 32 bits.
    const upTo = linearBits === 32 ? 31 : 20;
    if (field(word.hi, 0, upTo) >= 2 ** (maxPhysAddr - 32)) return true;
    if (!isFull) return hasAny(word.lo, 0x1e6) || hasAll(word.hi, bit(31));
    if (hasAll(word.hi, bit(31)) && !hasAll(efer, bit(11))) return true;
    if (!isLarge) return false;
    return pageBits === undefined ? depth < levels.length - 1 : field(word.lo, 13, pageBits - 1) !== 0;
  }

  /** Error-code bits that the access alone decides. */
  #asked({ kind, privilege }: Access): number {
    const { cr4, efer } = this.#registers;
    const tellsFetch = hasAll(cr4, bit(20)) || (hasAll(cr4, bit(5)) && hasAll(efer, bit(11)));
    const isWrite = kind === 'write' || kind === 'readModifyWrite';
    return (isWrite ? 2 : 0) + (privilege === 'user' ? 4 : 0) + (kind === 'fetch' && tellsFetch ? 16 : 0);
  }

  /** Rights, flags, and the frame of the page. */
  #arrive(access: Access, steps: readonly Step[], gfn: number): SoftwareWalk {
    const full = steps.filter(({ isFull }) => isFull);
    const together = full.reduce((all, { word }) => and(all, word.lo), 0xffff_ffff);
    const rights = {
      write: hasAll(together, 2),
      user: hasAll(together, 4),
      execute: !full.some(({ word }) => hasAll(word.hi, bit(31))),
    };
    const isKeyed = this.#isKeyed(access, rights, steps.at(-1)?.word.hi ?? 0);
    if (isKeyed || !this.#permits(access, rights)) return fault(this.#asked(access) + 1 + (isKeyed ? 32 : 0));
    const isWrite = access.kind === 'write' || access.kind === 'readModifyWrite';
    const { memory } = this.#guest;
    for (const [depth, { cell }] of full.entries()) {
      const flags = isWrite && depth === full.length - 1 ? 0x60 : 0x20;
      if (!hasAll(memory[cell] as number, flags)) memory[cell] = or(memory[cell] as number, flags);
    }
    return this.#locate(gfn, rights);
  }

  #locate(gfn: number, rights: PageRights): SoftwareWalk {
    const mfn = this.#guest.frameOf(gfn);
    return mfn < 0 ? { kind: 'unbacked', gfn } : { kind: 'frame', gfn, mfn, rights };
  }

  #permits({ kind, privilege, ac }: Access, { write, user, execute }: PageRights): boolean {
    const { cr0, cr4 } = this.#registers;
    const isUser = privilege === 'user';
    if (isUser && !user) return false;
    if (kind === 'fetch') return execute && (isUser || !user || !hasAll(cr4, bit(20)));
    if (!isUser && user && hasAll(cr4, bit(21)) && !(privilege === 'supervisor' && ac === 'set')) return false;
    return kind === 'read' || write || (!isUser && !hasAll(cr0, bit(16)));
  }

  /** Whether the page's key denies a data access. */
  #isKeyed({ kind, privilege }: Access, { user }: PageRights, leafHigh: number): boolean {
    const { cr0, cr4, pkru, pkrs } = this.#registers;
    const isUser = privilege === 'user';
    if (kind === 'fetch' || this.#format.linearBits === 32 || (isUser && !user)) return false;
    if (!hasAll(cr4, bit(user ? 22 : 24))) return false;
    const denied = field(user ? pkru : pkrs, 2 * field(leafHigh, 27, 4), 2);
    if (denied % 2 === 1) return true;
    return denied === 2 && kind !== 'read' && (isUser || hasAll(cr0, bit(16)));
  }
}
