// Which emulator answers which cases, and how: a course is one of these pairs. Its share of a campaign is a number of its own.
// A first reader may skip what `forBochs` takes away.

import { without } from '#lib/bits.ts';
import type { AccessCase, Vehicle } from './pack.ts';
import { type OracleName, oracleTitles } from './rules.ts';

/** A stream of random cases for one emulator. */
export interface Course {
  readonly oracle: OracleName;
  readonly engine: AccessCase['engine'];
  readonly vehicle: Vehicle;
  /** Its part of the cases asked for. Bochs takes several times as long as QEMU. */
  readonly share: number;
  /** Cases in a batch: a batch of Bochs begins with the start of a machine. */
  readonly batch: number;
  /** Takes from a random case what the emulator does not have, rather than leave most cases unasked. */
  readonly tailor: (one: AccessCase) => AccessCase;
}

const asIs = (one: AccessCase): AccessCase => one;

/** CR4.PKE and CR4.PKS. */
const KEYS = 0x140_0000;

/** Without protection keys and mode-based execute control (rules-bochs.ts). */
const forBochs = (one: AccessCase): AccessCase => {
  const cr4 = without(one.registers.cr4, KEYS);
  if (one.engine !== 'vmx') return { ...one, registers: { ...one.registers, cr4 } } as AccessCase;
  return { ...one, registers: { ...one.registers, cr4, modeBasedExecute: 'off' } };
};

const QEMU_BATCH = 2000;
const BOCHS_BATCH = 4000;

/** All of them. */
export const courses: readonly Course[] = [
  { oracle: 'qemu', engine: 'native', vehicle: 'native', share: 6, batch: QEMU_BATCH, tailor: asIs },
  { oracle: 'qemu', engine: 'native', vehicle: 'svm', share: 3, batch: QEMU_BATCH, tailor: asIs },
  { oracle: 'qemu', engine: 'svm', vehicle: 'svmNested', share: 5, batch: QEMU_BATCH, tailor: asIs },
  { oracle: 'bochs', engine: 'native', vehicle: 'native', share: 2, batch: BOCHS_BATCH, tailor: forBochs },
  { oracle: 'bochs', engine: 'vmx', vehicle: 'vmx', share: 4, batch: BOCHS_BATCH, tailor: forBochs },
  { oracle: 'bochs', engine: 'svm', vehicle: 'svmNested', share: 2, batch: BOCHS_BATCH, tailor: forBochs },
];

const vehicleNames = {
  native: 'on the processor itself',
  svm: 'in an SVM guest without nested paging',
  svmNested: 'in an SVM guest with nested paging',
  vmx: 'in a VMX guest with EPT',
} as const;

/** `QEMU, on the processor itself`. */
export const describeCourse = ({ oracle, vehicle }: Pick<Course, 'oracle' | 'vehicle'>): string =>
  `${oracleTitles[oracle]}, ${vehicleNames[vehicle]}`;
