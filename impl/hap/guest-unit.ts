// Simulated hardware: guests in VMX non-root operation with EPT, and SVM guests with nested paging. Each loads the guest's and
// the host's registers as VM entry and VMRUN do, walks in two dimensions, and tells exits as its processor does.
// A first reader may skip `load` and read `#exit` of each.
// Sources: Intel SDM vol. 3C, "Extended-Page-Table Pointer", "Checks on Guest Control Registers, Debug Registers, and MSRs",
// "Checks on Guest Page-Directory-Pointer-Table Entries", "Exit Qualification for EPT Violations"; AMD APM vol. 2,
// "Canonicalization and Consistency Checks", "Nested versus Guest Page Faults, Fault Ordering".

import type { Word } from '#abi/address.ts';
import type { AccessResult, CaseOf } from '#abi/case.ts';
import { field, hasAll, without } from '#lib/bits.ts';
import type { Marks } from '../paging/marks.ts';
import { accessCode, addressOf, fourPdptes, pageFault, type Engine, type LinearAccess } from '../paging/native-unit.ts';
import { CELL } from '../paging/native-walker.ts';
import { isBadPdpte, isImpossible, isLong, isSameProcessor, isTooWide, rulesOf } from '../paging/rules.ts';
import { ExtendedWalker, REFUSED } from './ept-walker.ts';
import { guestWalkOfFour } from './guest-long-walker.ts';
import { GuestWalker, NESTED_EXIT, type GuestWalk } from './guest-walker.ts';
import { HostWalker } from './host-walker.ts';
import { NESTED_OUT, USE } from './nested.ts';

const INVALID: AccessResult = { kind: 'invalidState' };

type VmxRegisters = CaseOf<'vmx'>['registers'];
type SvmRegisters = CaseOf<'svm'>['registers'];

const areSameForVmx = (a: VmxRegisters, b: VmxRegisters): boolean =>
  a.eptp.lo === b.eptp.lo &&
  a.eptp.hi === b.eptp.hi &&
  a.modeBasedExecute === b.modeBasedExecute &&
  isSameProcessor(a, b);

const areSameForSvm = (a: SvmRegisters, b: SvmRegisters): boolean =>
  a.nestedCr3.lo === b.nestedCr3.lo &&
  a.nestedCr3.hi === b.nestedCr3.hi &&
  a.hostCr0 === b.hostCr0 &&
  a.hostCr4 === b.hostCr4 &&
  a.hostEfer === b.hostEfer &&
  isSameProcessor(a, b);

/** Memory types that an EPTP may name: uncacheable and write-back. */
const EPTP_TYPES = [0, 6];

const { low: outLow } = NESTED_OUT;
const { read, write, readModifyWrite, fetch, table, flags } = USE;

/** What the access wants its page for. */
function useOf({ kind }: LinearAccess): number {
  switch (kind) {
    case 'read':
      return read;
    case 'write':
      return write;
    case 'readModifyWrite':
      return readModifyWrite;
    case 'fetch':
      return fetch;
  }
}

/** The walks of a guest: of any mode, and the unrolled one of four levels. */
interface Walks {
  readonly every: GuestWalk;
  readonly four: GuestWalk;
}

/**
 * The unrolled walk starts over when something is unusual, and would then read guest entries with the nested flags of its first
 * attempt. So it is tried; if flags are wanted, the walk by all rules does everything in its order.
 */
function walksOf(guest: GuestWalker, marks: Marks): Walks {
  const every: GuestWalk = (low, high, access, use) => guest.walk(low, high, access, use);
  const unrolled = guestWalkOfFour(guest, (low, high, use) => guest.nested.walk(low, high, use));
  const four: GuestWalk = (low, high, access, use) => {
    marks.tries();
    const answer = unrolled(low, high, access, use);
    return marks.wanted() ? every(low, high, access, use) : answer;
  };
  return { every, four };
}

/** What an EPT violation reports of a use, bits 0 to 2: a guest table that is written is also read; a read-modify-write writes. */
const qualified: readonly number[] = [1, 1, 2, 2, 4, 4, 3];

export class VmxUnit implements Engine {
  readonly #ept: ExtendedWalker;
  readonly #guest: GuestWalker;
  readonly #walks: Walks;
  #loaded: VmxRegisters | undefined = undefined;
  /** What the registers loaded last come to. */
  #refusal: AccessResult | undefined = undefined;
  #walk: GuestWalk;
  #fetchFlag = 0;
  #linearBits = 32;
  #isModeBased = false;
  #areTablesWritten = false;

  constructor(marks: Marks) {
    this.#ept = new ExtendedWalker(marks);
    this.#guest = new GuestWalker(marks, this.#ept);
    this.#walks = walksOf(this.#guest, marks);
    this.#walk = this.#walks.every;
  }

  get linearBits(): number {
    return this.#linearBits;
  }

  get machineLow(): number {
    return this.#guest.nested.out[outLow] as number;
  }

  /** Takes over registers, which nobody changes afterwards; undefined, or the refusal of VM entry. */
  load(registers: VmxRegisters): AccessResult | undefined {
    if (registers !== this.#loaded) {
      const isSame = this.#loaded !== undefined && areSameForVmx(registers, this.#loaded);
      if (!isSame) this.#refusal = this.#derive(registers);
      this.#loaded = registers;
    }
    return this.#refusal;
  }

  /** Of CR3 all bits are checked, whatever the mode. */
  #derive(registers: VmxRegisters): AccessResult | undefined {
    const { eptp, maxPhysAddr, cr3 } = registers;
    const levels = field(eptp.lo, 3, 3) + 1;
    const isKnown = EPTP_TYPES.includes(field(eptp.lo, 0, 3)) && (levels === 4 || levels === 5);
    if (!isKnown || field(eptp.lo, 7, 5) !== 0 || isTooWide(eptp, maxPhysAddr)) return INVALID;
    if (isImpossible(registers, false) || isTooWide(cr3, maxPhysAddr)) return INVALID;
    const rules = rulesOf(registers, false);
    const { pdptes } = registers;
    if (rules.levels === 3 && pdptes.some(({ entry }) => isBadPdpte(entry.lo, entry.hi, maxPhysAddr))) return INVALID;
    this.#fetchFlag = rules.fetchFlag;
    this.#linearBits = rules.linearBits;
    this.#walk = rules.levels === 4 ? this.#walks.four : this.#walks.every;
    this.#areTablesWritten = hasAll(eptp.lo, 2 ** 6);
    this.#isModeBased = registers.modeBasedExecute === 'on';
    this.#ept.load({
      rootLow: eptp.lo,
      rootHigh: eptp.hi,
      levels,
      accessedDirty: this.#areTablesWritten,
      modeBasedExecute: this.#isModeBased,
      reservedHigh: without(0xf_ffff, 2 ** (maxPhysAddr - 32) - 1),
      page1Gb: registers.page1Gb === 'present',
    });
    this.#guest.load(rules, cr3, 0);
    this.#guest.registers.cells.set(fourPdptes(pdptes), CELL.pdptes);
    return undefined;
  }

  walk(low: number, high: number, access: LinearAccess): number {
    return this.#walk(low, high, accessCode(access), useOf(access));
  }

  refused(answer: number, access: LinearAccess, linear: Word): AccessResult {
    return answer === NESTED_EXIT ? this.#exit(linear) : pageFault(answer, access, this.#fetchFlag, linear);
  }

  /** Bits 9 to 11 have a meaning only on processors with advanced information; they are 0 here, as is bit 6 without its control. */
  #exit(linear: Word): AccessResult {
    const { exitLow, exitHigh, exitUse, exitAnswer, exitRights } = this.#guest;
    const guestPhysical = addressOf(exitHigh, exitLow);
    if (exitAnswer === REFUSED.misconfiguration) return { kind: 'eptMisconfiguration', guestPhysical };
    const access = exitUse === table && this.#areTablesWritten ? 3 : (qualified[exitUse] as number);
    const rights = 8 * field(exitRights, 0, 3) + (this.#isModeBased ? 64 * field(exitRights, 10, 1) : 0);
    const isFinal = exitUse !== table && exitUse !== flags;
    const qualification = access + rights + 128 + (isFinal ? 256 : 0);
    return { kind: 'eptViolation', qualification, guestPhysical, linear };
  }
}

export class SvmUnit implements Engine {
  readonly #host: HostWalker;
  readonly #guest: GuestWalker;
  readonly #walks: Walks;
  #loaded: SvmRegisters | undefined = undefined;
  /** What the registers loaded last come to. */
  #refusal: AccessResult | undefined = undefined;
  #walk: GuestWalk;
  #fetchFlag = 0;
  #linearBits = 32;
  #hostFetchFlag = 0;

  constructor(marks: Marks) {
    this.#host = new HostWalker(marks);
    this.#guest = new GuestWalker(marks, this.#host);
    this.#walks = walksOf(this.#guest, marks);
    this.#walk = this.#walks.every;
  }

  get linearBits(): number {
    return this.#linearBits;
  }

  get machineLow(): number {
    return this.#guest.nested.out[outLow] as number;
  }

  /** Takes over registers, which nobody changes afterwards; undefined, or the refusal of VMRUN. */
  load(registers: SvmRegisters): AccessResult | undefined {
    if (registers !== this.#loaded) {
      const isSame = this.#loaded !== undefined && areSameForSvm(registers, this.#loaded);
      if (!isSame) this.#refusal = this.#derive(registers);
      this.#loaded = registers;
    }
    return this.#refusal;
  }

  /** The guest may page in real mode; nested paging needs a host that pages. */
  #derive(registers: SvmRegisters): AccessResult | undefined {
    const { cr3, nestedCr3, maxPhysAddr, page1Gb } = registers;
    // Keys and process contexts of the host take no part in nested paging.
    const hostCr4 = without(registers.hostCr4, 2 ** 17 + 2 ** 22 + 2 ** 24);
    const host = {
      cr0: registers.hostCr0,
      cr4: hostCr4,
      efer: registers.hostEfer,
      pkru: 0,
      pkrs: 0,
      maxPhysAddr,
      page1Gb,
    };
    const hostRules = rulesOf(host, true);
    if (isImpossible(host, false) || hostRules.levels === 0 || isTooWide(nestedCr3, maxPhysAddr)) return INVALID;
    if (isImpossible(registers, true) || (isLong(registers) && isTooWide(cr3, maxPhysAddr))) return INVALID;
    const rules = rulesOf(registers, true);
    this.#fetchFlag = rules.fetchFlag;
    this.#linearBits = rules.linearBits;
    this.#walk = rules.levels === 4 ? this.#walks.four : this.#walks.every;
    this.#hostFetchFlag = hostRules.fetchFlag;
    this.#host.load(hostRules, nestedCr3, maxPhysAddr);
    this.#guest.load(rules, cr3, maxPhysAddr);
    return undefined;
  }

  walk(low: number, high: number, access: LinearAccess): number {
    return this.#walk(low, high, accessCode(access), useOf(access));
  }

  refused(answer: number, access: LinearAccess, linear: Word): AccessResult {
    return answer === NESTED_EXIT ? this.#exit() : pageFault(answer, access, this.#fetchFlag, linear);
  }

  /** EXITINFO1 is a page fault's error code with bit 32 for the final address and bit 33 for a guest's table. */
  #exit(): AccessResult {
    const { exitLow, exitHigh, exitUse, exitAnswer } = this.#guest;
    const code = -1 - exitAnswer + HostWalker.usePart(exitUse, this.#hostFetchFlag);
    const info = { lo: code, hi: exitUse === table ? 2 : 1 };
    return { kind: 'nestedPageFault', info, guestPhysical: addressOf(exitHigh, exitLow) };
  }
}
