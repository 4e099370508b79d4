// What is anchored by what: architectural rules, and of each which recorded cases decide it. A case counts for an oracle that gave
// the model's answer on it unaided by rules about that emulator (rules.ts). oracles/README.md and ARCHITECTURE.md show the counts.
// A first reader may skip the numbers of bits. Sources of the rules: Intel SDM vol. 3A, "Paging"; vol. 3C, "Extended-Page-Table
// Mechanism"; AMD APM vol. 2, "Nested Paging".

import { field, hasAll, hasAny } from '#lib/bits.ts';
import type { Comparison } from './compare.ts';
import { isLongMode } from './pack.ts';
import { hasReservedPdpte, hostLevels, levelsOf } from './route.ts';
import { isBeyondNested, isReservedFault, withoutGlobal } from './rules-shared.ts';

/** An architectural rule. */
export interface Anchor {
  readonly rule: string;
  /** Whether the case decides it: what it comes to would be something else without the rule. */
  readonly decides: (comparison: Comparison) => boolean;
  /** Rules about emulators that correct something else: a case counts in spite of them. */
  readonly despite?: readonly string[];
}

const CR0_WP = 0x1_0000;
const CR4 = { pse: 0x10, smep: 0x10_0000, smap: 0x20_0000, pke: 0x40_0000, pks: 2 ** 24 } as const;
const EFER_NXE = 0x800;
const ERROR = { present: 1, write: 2, user: 4, reserved: 8, fetch: 16, key: 32 } as const;
const EPT = { write: 2, translated: 0x100, flags: 0x40 } as const;

type Decides = Anchor['decides'];

const both =
  (...all: readonly Decides[]): Decides =>
  (comparison) =>
    all.every((decides) => decides(comparison));
const not =
  (decides: Decides): Decides =>
  (comparison) =>
    !decides(comparison);

const engine =
  (name: 'native' | 'vmx' | 'svm'): Decides =>
  ({ case: one }) =>
    one.engine === name;
const levels =
  (count: 2 | 3 | 4 | 5): Decides =>
  ({ case: one }) =>
    levelsOf(one.registers) === count;
const hosted =
  (count: 2 | 3 | 4 | 5): Decides =>
  ({ case: one }) =>
    one.engine === 'svm' && hostLevels(one) === count;
const done: Decides = ({ outcome }) => outcome.result.kind === 'done';
const refused: Decides = ({ outcome }) => outcome.result.kind === 'invalidState';
const protection: Decides = ({ outcome }) => outcome.result.kind === 'generalProtection';
const cr4 =
  (bits: number): Decides =>
  ({ case: one }) =>
    hasAll(one.registers.cr4, bits);
const nxe: Decides = ({ case: one }) => hasAny(one.registers.efer, EFER_NXE);
const kind =
  (name: Comparison['case']['access']['kind']): Decides =>
  ({ case: one }) =>
    one.access.kind === name;
const privilege =
  (name: Comparison['case']['access']['privilege']): Decides =>
  ({ case: one }) =>
    one.access.privilege === name;
const width =
  (bits: number): Decides =>
  ({ case: one }) =>
    one.registers.maxPhysAddr === bits;
const straddles: Decides = ({ case: one }) => (one.access.linear.lo % 4096) + one.access.size > 4096;

/** A page fault with just this error code. */
const fault =
  (code: number): Decides =>
  ({ outcome: { result } }) =>
    result.kind === 'pageFault' && result.errorCode === code;
const faultWith =
  (bits: number): Decides =>
  ({ outcome: { result } }) =>
    result.kind === 'pageFault' && hasAll(result.errorCode, bits);
const marked: Decides = ({ outcome }) => outcome.required.length > 0;

const eptFlags: Decides = ({ case: one }) => one.engine === 'vmx' && hasAny(one.registers.eptp.lo, EPT.flags);
const violation =
  (at: 'page' | 'table'): Decides =>
  ({ outcome: { result } }) =>
    result.kind === 'eptViolation' && hasAny(result.qualification, EPT.translated) === (at === 'page');
const flagWrite: Decides = ({ outcome: { result } }) =>
  result.kind === 'eptViolation' && hasAny(result.qualification, EPT.write);
/** EPT gives no right at all, or some of them. */
const withRights: Decides = ({ outcome: { result } }) =>
  result.kind === 'eptViolation' && field(result.qualification, 3, 3) !== 0;
const nestedFault =
  (at: 'page' | 'table', bits = 0): Decides =>
  ({ outcome: { result } }) =>
    result.kind === 'nestedPageFault' && result.info.hi === (at === 'page' ? 1 : 2) && hasAll(result.info.lo, bits);
const globalDecides: Decides = (comparison) => {
  const without = withoutGlobal(comparison);
  return without !== undefined && JSON.stringify(without.outcome.result) !== JSON.stringify(comparison.outcome.result);
};

const SUPERVISOR_WRITE = both(not(privilege('user')), fault(ERROR.present + ERROR.write));

const widths = [36, 39, 40, 46, 48, 52] as const;

const reserved = faultWith(ERROR.reserved);
/** What QEMU gets wrong about a fault for a reserved bit is not that there is one. */
const apartFromP = ['qemu/reservedWithoutPresent', 'qemu/reservedAccessed'];

/** All of them, in the order of the tables. */
export const anchors: readonly Anchor[] = [
  { rule: '32-bit paging', decides: both(levels(2), not(cr4(CR4.pse)), done) },
  { rule: '32-bit paging: 4 MiB pages, PSE-36', decides: both(levels(2), cr4(CR4.pse), done) },
  { rule: '32-bit paging: reserved bits of 4 MiB pages', decides: both(levels(2), reserved), despite: apartFromP },
  { rule: 'PAE paging: the walk', decides: both(levels(3), engine('native'), done), despite: ['qemu/pdpteAccessed'] },
  {
    rule: 'PAE paging: PDPTEs are checked when they are loaded',
    decides: both(levels(3), engine('native'), protection),
  },
  { rule: '4-level paging', decides: both(levels(4), done) },
  { rule: '5-level paging', decides: both(levels(5), done) },
  { rule: '48-bit canonical addresses', decides: both(levels(4), protection) },
  { rule: '57-bit canonical addresses', decides: both(levels(5), protection) },
  { rule: 'absent entries', decides: ({ outcome: { result } }) => result.kind === 'pageFault' && !hasAny(result.errorCode, ERROR.present) }, // prettier-ignore
  { rule: 'U/S', decides: both(privilege('user'), kind('read'), fault(ERROR.present + ERROR.user)) },
  { rule: 'R/W of user accesses', decides: fault(ERROR.present + ERROR.write + ERROR.user) },
  { rule: 'CR0.WP', decides: both(SUPERVISOR_WRITE, ({ case: one }) => hasAny(one.registers.cr0, CR0_WP)) },
  { rule: 'NX', decides: both(nxe, not(cr4(CR4.smep)), faultWith(ERROR.present + ERROR.fetch)) },
  { rule: 'SMEP', decides: both(not(nxe), cr4(CR4.smep), privilege('supervisor'), fault(ERROR.present + ERROR.fetch)) },
  { rule: 'SMAP, explicit accesses', decides: both(cr4(CR4.smap), privilege('supervisor'), kind('read'), fault(ERROR.present)) }, // prettier-ignore
  { rule: 'SMAP, implicit accesses with EFLAGS.AC clear', decides: both(cr4(CR4.smap), privilege('implicit'), fault(ERROR.present), ({ case: one }) => one.access.ac === 'clear') }, // prettier-ignore
  { rule: 'SMAP, implicit accesses with EFLAGS.AC set', decides: both(cr4(CR4.smap), privilege('implicit'), fault(ERROR.present), ({ case: one }) => one.access.ac === 'set') }, // prettier-ignore
  { rule: 'protection keys of user pages', decides: both(cr4(CR4.pke), not(cr4(CR4.pks)), faultWith(ERROR.key)) },
  { rule: 'protection keys of supervisor pages', decides: both(cr4(CR4.pks), not(cr4(CR4.pke)), faultWith(ERROR.key)) },
  { rule: 'reserved bits are reported with P', decides: faultWith(ERROR.reserved + ERROR.present) },
  ...widths.map((bits) => ({
    rule: `MAXPHYADDR ${bits}: bits beyond it`,
    decides: both(width(bits), reserved),
    despite: apartFromP,
  })),
  { rule: 'W/R of read-modify-writes', decides: both(kind('readModifyWrite'), faultWith(ERROR.write)) },
  { rule: 'accesses that straddle pages', decides: straddles },
  { rule: "accessed and dirty flags of the processor's own tables", decides: both(engine('native'), done, marked) },
  { rule: 'EPT: the walk', decides: both(engine('vmx'), done) },
  { rule: 'EPT: violations of the final address', decides: violation('page') },
  { rule: 'EPT: what the qualification says of rights', decides: both(violation('page'), withRights) },
  { rule: 'EPT: violations of guest tables, without flags for EPT', decides: both(violation('table'), not(eptFlags), not(flagWrite)) }, // prettier-ignore
  { rule: 'EPT: violations of guest tables are reads and writes with flags for EPT', decides: both(violation('table'), eptFlags) }, // prettier-ignore
  { rule: "EPT: setting a guest's flag needs write permission without flags for EPT", decides: both(violation('table'), not(eptFlags), flagWrite) }, // prettier-ignore
  { rule: 'EPT: misconfigurations', decides: ({ outcome: { result } }) => result.kind === 'eptMisconfiguration' },
  { rule: 'EPT: accessed and dirty flags', decides: both(engine('vmx'), eptFlags, done, marked) },
  { rule: 'EPT: mode-based execute control', decides: ({ case: one }) => one.engine === 'vmx' && one.registers.modeBasedExecute === 'on' }, // prettier-ignore
  { rule: 'EPT: five levels', decides: ({ case: one }) => one.engine === 'vmx' && field(one.registers.eptp.lo, 3, 3) === 4 }, // prettier-ignore
  { rule: 'EPT: PDPTEs of a guest come from the VMCS', decides: both(engine('vmx'), levels(3), done) },
  { rule: 'nested paging: 32-bit host', decides: both(hosted(2), done) },
  { rule: 'nested paging: PAE host', decides: both(hosted(3), done) },
  { rule: 'nested paging: 4-level host', decides: both(hosted(4), done) },
  { rule: 'nested paging: 5-level host', decides: both(hosted(5), done) },
  { rule: 'nested faults of the final address', decides: nestedFault('page') },
  { rule: 'nested faults of guest tables are writes of a user', decides: nestedFault('table', ERROR.write + ERROR.user) }, // prettier-ignore
  { rule: 'nested faults: I/D', decides: nestedFault('page', ERROR.fetch) },
  { rule: 'nested faults: reserved bits', decides: both(not(engine('vmx')), ({ outcome: { result } }) => result.kind === 'nestedPageFault' && hasAny(result.info.lo, ERROR.reserved)), despite: apartFromP }, // prettier-ignore
  { rule: 'nested paging: PDPTEs of a guest are read in the walk', decides: both(engine('svm'), levels(3), done), despite: ['qemu/pdpteAccessed'] }, // prettier-ignore
  { rule: '... and their reserved bits fault there', decides: both(engine('svm'), levels(3), isReservedFault, ({ case: one }) => hasReservedPdpte(one)) }, // prettier-ignore
  { rule: 'nested paging: accessed and dirty flags', decides: both(engine('svm'), done, marked) },
  { rule: 'nested paging: guest-physical addresses beyond the reach of the tables', decides: isBeyondNested },
  { rule: 'bit 8 of PML4 and PML5 entries (AMD)', decides: both(engine('svm'), globalDecides) },
  { rule: 'processors without 1 GiB pages', decides: ({ case: one }) => isLongMode(one) && one.registers.page1Gb === 'absent' }, // prettier-ignore
  { rule: 'PDPTEs that VM entry refuses', decides: both(engine('vmx'), levels(3), refused) },
  { rule: 'other states that a processor, VM entry or VMRUN refuses', decides: both(refused, not(both(engine('vmx'), levels(3)))) }, // prettier-ignore
  { rule: 'stale translations: TLBs, PCID, INVLPG', decides: () => false },
];
