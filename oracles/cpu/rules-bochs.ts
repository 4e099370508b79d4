// Deviations of Bochs, found by running it. What a rule is, is in rules.ts.
// A first reader may skip the predicates and begin with the table at the end.

import { and, hasAny, or, without } from '#lib/bits.ts';
import type { Comparison } from './compare.ts';
import { type AccessCase, isLongMode, type Vehicle } from './pack.ts';
import { hostLevels, levelsOf } from './route.ts';
import { hasPcid, isBeyondNested, reasons, withoutGlobal } from './rules-shared.ts';
import type { Rule } from './rules.ts';
import { expected } from './window.ts';

const VERSIONS = ['2.7'] as const;
const ALL: readonly Vehicle[] = ['native', 'svmNested', 'vmx'];

const CR4 = { la57: 0x1000, smep: 0x10_0000, smap: 0x20_0000, pke: 0x40_0000, pks: 2 ** 24 } as const;
const EFER_NXE = 0x800;

const hasKeys = ({ registers: { cr4 } }: AccessCase): boolean => hasAny(cr4, or(CR4.pke, CR4.pks));

const isFiveLevel = (one: AccessCase): boolean =>
  hasAny(one.registers.cr4, CR4.la57) || (one.engine === 'svm' && hasAny(one.registers.hostCr4, CR4.la57));

/** An implicit access with EFLAGS.AC, where SMAP counts: what the model makes of it as an explicit one. */
function asExplicit(comparison: Comparison): Comparison | undefined {
  const { modelled: one } = comparison;
  const { privilege, ac } = one.access;
  if (privilege !== 'implicit' || ac === 'clear' || !hasAny(one.registers.cr4, CR4.smap)) return undefined;
  const modelled = { ...one, access: { ...one.access, privilege: 'supervisor' } } as AccessCase;
  const outcome = expected(modelled, comparison.direct);
  return outcome === undefined ? undefined : { ...comparison, modelled, outcome };
}

const EPT = { read: 1, write: 2, flags: 0x40, translated: 0x100 } as const;

const isTableAccess = (qualification: number): boolean => !hasAny(qualification, EPT.translated);

/** A violation on the way through guest tables, with accessed and dirty flags for EPT: both bits. */
function withRead(comparison: Comparison): Comparison | undefined {
  const { case: one, seen } = comparison;
  if (one.engine !== 'vmx' || seen.kind !== 'eptViolation' || !hasAny(one.registers.eptp.lo, EPT.flags))
    return undefined;
  if (!isTableAccess(seen.qualification) || and(seen.qualification, 3) !== EPT.write) return undefined;
  return { ...comparison, seen: { ...seen, qualification: or(seen.qualification, EPT.read) } };
}

/** Whether setting a flag in a guest's entry fails, without flags for EPT. */
const isFlagWrite = ({ case: one, outcome: { result } }: Comparison): boolean =>
  one.engine === 'vmx' &&
  !hasAny(one.registers.eptp.lo, EPT.flags) &&
  result.kind === 'eptViolation' &&
  isTableAccess(result.qualification) &&
  hasAny(result.qualification, EPT.write);

const PDPT_BYTES = 32;

/** Where the guest's PDPTEs lie, under nested paging. */
const guestPdpt = (one: AccessCase): number | undefined =>
  one.engine === 'svm' && levelsOf(one.registers) === 3 ? without(one.registers.cr3.lo, PDPT_BYTES - 1) : undefined;

/** A nested fault on a PDPTE that the access does not use. */
function atPdpteUsed(comparison: Comparison): Comparison | undefined {
  const { case: one, seen, outcome } = comparison;
  const pdpt = guestPdpt(one);
  const { result } = outcome;
  if (pdpt === undefined || seen.kind !== 'nestedPageFault' || result.kind !== 'nestedPageFault') return undefined;
  const isIn = (address: number): boolean => address >= pdpt && address < pdpt + PDPT_BYTES;
  if (!isIn(seen.guestPhysical) || !isIn(result.guestPhysical) || seen.guestPhysical === result.guestPhysical)
    return undefined;
  return { ...comparison, seen: { ...seen, guestPhysical: result.guestPhysical } };
}

const FETCH = 0x10;

/** A nested fault of a fetch where the host tells fetches from reads by nothing. */
function withoutFetch(comparison: Comparison): Comparison | undefined {
  const { case: one, seen } = comparison;
  if (one.engine !== 'svm' || seen.kind !== 'nestedPageFault' || !hasAny(seen.info.lo, FETCH)) return undefined;
  const { hostEfer, hostCr4 } = one.registers;
  const isTold = hasAny(hostCr4, CR4.smep) || (hasAny(hostEfer, EFER_NXE) && hostLevels(one) !== 2);
  return isTold
    ? undefined
    : { ...comparison, seen: { ...seen, info: { ...seen.info, lo: without(seen.info.lo, FETCH) } } };
}

/** Rules for Bochs. */
export const bochsRules: readonly Rule[] = [
  {
    id: 'bochs/noPcid',
    oracle: 'bochs',
    versions: VERSIONS,
    vehicles: ['svmNested'],
    effect: 'adapt',
    reason: reasons.noPcid,
    adapts: hasPcid,
  },
  {
    id: 'bochs/maxPhysAddr',
    oracle: 'bochs',
    versions: VERSIONS,
    vehicles: ALL,
    effect: 'unasked',
    reason: 'MAXPHYADDR is compiled in as 40.',
    refuses: ({ registers }) => registers.maxPhysAddr !== 40,
  },
  {
    id: 'bochs/fiveLevels',
    oracle: 'bochs',
    versions: VERSIONS,
    vehicles: ALL,
    effect: 'unasked',
    reason: 'No processor has 5-level paging, for itself or for nested tables (since 3.0 some have it).',
    refuses: isFiveLevel,
  },
  {
    id: 'bochs/protectionKeys',
    oracle: 'bochs',
    versions: VERSIONS,
    vehicles: ALL,
    effect: 'unasked',
    reason:
      'Protection keys are judged by the privilege level instead of by the U/S flag of the page, and before ordinary rights; the processors asked here have none. SDM vol. 3A, "Protection Keys": PKRU is for user-mode addresses, whoever accesses them.',
    refuses: (one) => isLongMode(one) && hasKeys(one),
  },
  {
    id: 'bochs/modeBasedExecute',
    oracle: 'bochs',
    versions: VERSIONS,
    vehicles: ['vmx'],
    effect: 'unasked',
    reason: 'The VM-execution control "mode-based execute control for EPT" does not exist (since 3.0 it does).',
    refuses: (one) => one.engine === 'vmx' && one.registers.modeBasedExecute === 'on',
  },
  {
    id: 'bochs/globalAtTop',
    oracle: 'bochs',
    versions: VERSIONS,
    vehicles: ['svmNested'],
    effect: 'normalise',
    reason: reasons.globalAtTop,
    apply: withoutGlobal,
  },
  {
    id: 'bochs/implicitWithAc',
    oracle: 'bochs',
    versions: VERSIONS,
    vehicles: ALL,
    effect: 'normalise',
    reason:
      'EFLAGS.AC lifts SMAP from implicit supervisor accesses, too. SDM vol. 3A, "Determination of Access Rights": it does so for explicit ones only.',
    apply: asExplicit,
  },
  {
    id: 'bochs/nestedReach',
    oracle: 'bochs',
    versions: VERSIONS,
    vehicles: ['svmNested'],
    effect: 'mask',
    reason: reasons.nestedReach,
    apply: (comparison) => (isBeyondNested(comparison) ? 'masked' : undefined),
  },
  {
    id: 'bochs/eptFlagWrite',
    oracle: 'bochs',
    versions: VERSIONS,
    vehicles: ['vmx'],
    effect: 'mask',
    reason:
      'Without accessed and dirty flags for EPT, setting a flag in a guest entry does not need EPT write permission. SDM vol. 3C, "EPT Violations": a write to a guest-physical address that EPT does not allow, for flags of the guest too.',
    apply: (comparison) => (isFlagWrite(comparison) ? 'masked' : undefined),
  },
  {
    id: 'bochs/eptTableRead',
    oracle: 'bochs',
    versions: VERSIONS,
    vehicles: ['vmx'],
    effect: 'normalise',
    reason:
      'With accessed and dirty flags for EPT, a violation on an access to a guest table is reported as a write only. SDM vol. 3C, "Exit Qualification for EPT Violations": bits 0 and 1 are both set then.',
    apply: withRead,
  },
  {
    id: 'bochs/pdptesAtVmrun',
    oracle: 'bochs',
    versions: VERSIONS,
    vehicles: ['svmNested'],
    effect: 'normalise',
    reason:
      'VMRUN reads all four PDPTEs of a PAE guest, so a nested fault names the first. APM vol. 2, "Nested Paging", "Legacy PAE Mode": they are read in the walk, which needs one of them.',
    apply: atPdpteUsed,
  },
  {
    id: 'bochs/nestedFetch',
    oracle: 'bochs',
    versions: VERSIONS,
    vehicles: ['svmNested'],
    effect: 'normalise',
    reason:
      'A nested page fault of a fetch has I/D whatever the host has switched on. APM vol. 2, "Page-Fault Error Code": it is set where no-execute or SMEP is in use.',
    apply: withoutFetch,
  },
];
