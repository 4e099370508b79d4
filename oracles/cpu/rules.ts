// Where the emulators are known to differ from the manuals: one table of named rules. A rule either corrects what was seen, or
// says that this emulator cannot be asked. Each has a reason with its source and, in corpus/directed.json, a case that is judged
// differently without it: when that case no longer is, the rule has had its day (rules.test.ts for what is recorded, the live
// oracle for the emulator at hand).
//
// The manuals meant: Intel SDM vol. 3A and 3C, AMD APM vol. 2. What an emulator does was found by running it.

import type { Comparison } from './compare.ts';
import type { AccessCase, Vehicle } from './pack.ts';
import { bochsRules } from './rules-bochs.ts';
import { qemuRules } from './rules-qemu.ts';

/** The emulators that answer. */
export const oracleNames = ['qemu', 'bochs'] as const;
export type OracleName = (typeof oracleNames)[number];
export const oracleTitles: Readonly<Record<OracleName, string>> = { qemu: 'QEMU', bochs: 'Bochs' };

/** One known deviation. */
export interface Rule {
  readonly id: string;
  readonly oracle: OracleName;
  /** Versions that were seen to deviate. */
  readonly versions: readonly string[];
  readonly vehicles: readonly Vehicle[];
  /** normalise: what was seen is corrected. mask: the answer is not used. unasked: the emulator is not asked in the
   * first place. adapt: it is asked about a case that differs in what it does not have. */
  readonly effect: 'normalise' | 'mask' | 'unasked' | 'adapt';
  /** What the emulator does, what the manual says, and where. */
  readonly reason: string;
  /** unasked: whether a case is meant. */
  readonly refuses?: (one: AccessCase) => boolean;
  /** adapt: whether a case is asked without PCIDs. */
  readonly adapts?: (one: AccessCase) => boolean;
  /** normalise, mask: the comparison as it should be judged; undefined where the rule has nothing to say. */
  readonly apply?: (comparison: Comparison) => Comparison | 'masked' | undefined;
}

/** All rules, in the order in which they are applied. */
export const rules: readonly Rule[] = [...qemuRules, ...bochsRules];

/** The rules for one emulator and vehicle. */
export const rulesFor = ({ oracle, vehicle }: { oracle: OracleName; vehicle: Vehicle }): readonly Rule[] =>
  rules.filter((rule) => rule.oracle === oracle && rule.vehicles.includes(vehicle));

/** The rule by which an emulator is not asked about a case, if there is one. */
export const refusal = (witness: { oracle: OracleName; vehicle: Vehicle }, one: AccessCase): Rule | undefined =>
  rulesFor(witness).find((rule) => rule.refuses?.(one) === true);
