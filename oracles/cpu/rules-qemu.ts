// Deviations of QEMU's code generator (TCG), found by running it. What a rule is, is in rules.ts.
// A first reader may skip the predicates and begin with the table at the end.

import type { AccessOutcome, Mark } from '#abi/case.ts';
import { hasAny, or } from '#lib/bits.ts';
import type { Comparison } from './compare.ts';
import type { AccessCase, Vehicle } from './pack.ts';
import { hasReservedPdpte, hostLevels, isPdpte, levelsOf, pdptPlaces } from './route.ts';
import { isBeyondNested, isReservedFault, reasons, RESERVED, withoutGlobal } from './rules-shared.ts';
import type { Rule } from './rules.ts';

const VERSIONS = ['7.2.22'] as const;
const ALL: readonly Vehicle[] = ['native', 'svm', 'svmNested'];

const PRESENT = 1;
const EFER_NXE = 0x800;

const hasReservedAlone = (code: number): boolean => hasAny(code, RESERVED) && !hasAny(code, PRESENT);

/** `seen` with the present bit where there is the reserved one. */
function withPresent(comparison: Comparison): Comparison | undefined {
  const { seen } = comparison;
  if (seen.kind === 'pageFault' && hasReservedAlone(seen.errorCode))
    return { ...comparison, seen: { ...seen, errorCode: or(seen.errorCode, PRESENT) } };
  if (seen.kind === 'nestedPageFault' && hasReservedAlone(seen.info.lo))
    return { ...comparison, seen: { ...seen, info: { lo: or(seen.info.lo, PRESENT), hi: seen.info.hi } } };
  return undefined;
}

const ACCESSED = 0x20;

/** The words of PDPTEs in the image whose accessed flag was set. */
const accessedPdptes = ({ case: one, raw }: Comparison): readonly Mark[] =>
  one.image.flatMap(({ mfn, index, word }, i) => {
    const isSet =
      isPdpte(pdptPlaces(one), { mfn, index }) && !hasAny(word.lo, ACCESSED) && hasAny(raw.after[i]?.lo ?? 0, ACCESSED);
    return isSet ? [{ mfn, index, bits: { lo: ACCESSED, hi: 0 } }] : [];
  });

function withPdptesAccessed(comparison: Comparison): Comparison | undefined {
  const marks = accessedPdptes(comparison);
  const { outcome } = comparison;
  return marks.length === 0
    ? undefined
    : { ...comparison, outcome: { ...outcome, allowed: [...outcome.allowed, ...marks] } };
}

const LARGE = 0x80;

const isAllowed = ({ required, allowed }: AccessOutcome, mfn: number, index: number): boolean =>
  [...required, ...allowed].some((mark) => mark.mfn === mfn && mark.index === index && hasAny(mark.bits.lo, ACCESSED));

/** The accessed flag of a large page with reserved bits, which ended the walk. */
function withReservedAccessed(comparison: Comparison): Comparison | undefined {
  if (!isReservedFault(comparison)) return undefined;
  const { case: one, outcome, raw } = comparison;
  const marks = one.image.flatMap(({ mfn, index, word }, i) => {
    const isSet = hasAny(word.lo, LARGE) && !hasAny(word.lo, ACCESSED) && hasAny(raw.after[i]?.lo ?? 0, ACCESSED);
    return isSet && !isAllowed(outcome, mfn, index) ? [{ mfn, index, bits: { lo: ACCESSED, hi: 0 } }] : [];
  });
  const [only] = marks;
  if (only === undefined || marks.length > 1) return undefined;
  return { ...comparison, outcome: { ...outcome, allowed: [...outcome.allowed, only] } };
}

const isMisaligned = ({ access }: AccessCase): boolean =>
  access.kind === 'readModifyWrite' && access.linear.lo % access.size !== 0;

/** Whether 32-bit paging finds a reserved bit where MAXPHYADDR is below 40. */
const isNarrowPse36 = (comparison: Comparison): boolean => {
  const { registers } = comparison.case;
  return levelsOf(registers) === 2 && registers.maxPhysAddr < 40 && isReservedFault(comparison);
};

const FETCH = 0x10;
const CR4_SMEP = 0x10_0000;

/** A nested fault of a fetch where only SMEP makes the host tell fetches from reads. */
function withFetch(comparison: Comparison): Comparison | undefined {
  const { case: one, seen, outcome } = comparison;
  const { result } = outcome;
  if (one.engine !== 'svm' || seen.kind !== 'nestedPageFault' || result.kind !== 'nestedPageFault') return undefined;
  const isTold = hasAny(one.registers.hostCr4, CR4_SMEP) && !hasAny(one.registers.hostEfer, EFER_NXE);
  if (!isTold || !hasAny(result.info.lo, FETCH) || hasAny(seen.info.lo, FETCH)) return undefined;
  return { ...comparison, seen: { ...seen, info: { lo: or(seen.info.lo, FETCH), hi: seen.info.hi } } };
}

/** Rules for QEMU. */
export const qemuRules: readonly Rule[] = [
  {
    id: 'qemu/legacyHost',
    oracle: 'qemu',
    versions: VERSIONS,
    vehicles: ['svmNested'],
    effect: 'unasked',
    reason:
      'Nested tables of a host in 32-bit paging are not walked at all. APM vol. 2, "Nested Paging": they are in the format of the host\'s paging mode, whichever it is.',
    refuses: (one) => one.engine === 'svm' && hostLevels(one) === 2,
  },
  {
    id: 'qemu/globalAtTop',
    oracle: 'qemu',
    versions: VERSIONS,
    vehicles: ['svmNested'],
    effect: 'normalise',
    reason: reasons.globalAtTop,
    apply: withoutGlobal,
  },
  {
    id: 'qemu/pdpteReservedBits',
    oracle: 'qemu',
    versions: VERSIONS,
    vehicles: ALL,
    effect: 'mask',
    reason:
      'PDPTEs of PAE paging are walked like other entries: loading them checks nothing, bits 2:1 and 8:5 are ignored, others fault in the walk. SDM vol. 3A, "PDPTE Registers": MOV to CR3 faults if a present one has a reserved bit.',
    apply: ({ case: one }) => (hasReservedPdpte(one) ? 'masked' : undefined),
  },
  {
    id: 'qemu/pse36Width',
    oracle: 'qemu',
    versions: VERSIONS,
    vehicles: ALL,
    effect: 'mask',
    reason:
      'A PDE of 32-bit paging that maps a 4 MiB page has 40 address bits, whatever MAXPHYADDR is. SDM vol. 3A, "32-Bit Paging": those from MAXPHYADDR up are reserved.',
    apply: (comparison) => (isNarrowPse36(comparison) ? 'masked' : undefined),
  },
  {
    id: 'qemu/misalignedExchange',
    oracle: 'qemu',
    versions: VERSIONS,
    vehicles: ALL,
    effect: 'unasked',
    reason:
      'A misaligned read-modify-write is carried out as a read, then a write, so its fault is reported as that of a read. SDM vol. 3A, "Interrupt 14", has W/R tell whether the access causing the exception was a write, which this one is from the start.',
    refuses: isMisaligned,
  },
  {
    id: 'qemu/nestedReach',
    oracle: 'qemu',
    versions: VERSIONS,
    vehicles: ['svmNested'],
    effect: 'mask',
    reason: reasons.nestedReach,
    apply: (comparison) => (isBeyondNested(comparison) ? 'masked' : undefined),
  },
  {
    id: 'qemu/reservedWithoutPresent',
    oracle: 'qemu',
    versions: VERSIONS,
    vehicles: ALL,
    effect: 'normalise',
    reason:
      'A fault about a reserved bit has RSVD without P. SDM vol. 3A, "Interrupt 14": reserved bits are found in present entries only, so P is 1 with RSVD.',
    apply: withPresent,
  },
  {
    id: 'qemu/pdpteAccessed',
    oracle: 'qemu',
    versions: VERSIONS,
    vehicles: ALL,
    effect: 'normalise',
    reason:
      'The walk sets an accessed flag (bit 5) in PDPTEs of PAE paging. SDM vol. 3A, "PAE Paging": PDPTEs have none, the bit is reserved.',
    apply: withPdptesAccessed,
  },
  {
    id: 'qemu/reservedAccessed',
    oracle: 'qemu',
    versions: VERSIONS,
    vehicles: ALL,
    effect: 'normalise',
    reason:
      'The accessed flag of an entry that maps a 1 GiB page is set before its low address bits are looked at. SDM vol. 3A, "Accessed and Dirty Flags": it is set when the entry is used for a translation, and there is none by an entry with reserved bits.',
    apply: withReservedAccessed,
  },
  {
    id: 'qemu/nestedFetch',
    oracle: 'qemu',
    versions: VERSIONS,
    vehicles: ['svmNested'],
    effect: 'normalise',
    reason:
      'The walk of nested tables does not know of the SMEP of the host, so a nested page fault of a fetch has I/D only with NXE. APM vol. 2, "Page-Fault Error Code": it is set where no-execute or SMEP is in use.',
    apply: withFetch,
  },
];
