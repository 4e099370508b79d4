// A comparison judged under the named rules of an emulator: equal, different, or not to be asked of this one.
// Rules are applied in the order of their table; what one has corrected is what the next one sees.

import { type Comparison, difference } from './compare.ts';
import { interpret } from './interpret.ts';
import type { Raw, Vehicle } from './pack.ts';
import type { Planned } from './plan.ts';
import { type OracleName, rulesFor } from './rules.ts';

/** What comes of one case. `rules`: those that changed something on the way. */
export type Verdict =
  | { readonly kind: 'equal'; readonly rules: readonly string[] }
  | { readonly kind: 'different'; readonly why: string; readonly rules: readonly string[] }
  /** The emulator is known not to do this right; `rule` says why. */
  | { readonly kind: 'masked'; readonly rule: string };

/** Who answered. */
export interface Witness {
  readonly oracle: OracleName;
  readonly vehicle: Vehicle;
}

/** A case, what the model makes of it, what the emulator made of it (undefined: it did not survive it). */
export type Testimony = Omit<Planned, 'manner'> & {
  readonly manner: Pick<Planned['manner'], 'direct' | 'hasPcid'>;
  readonly raw: Raw | undefined;
};

/** Judges a case; `without` a rule, if one is to be left out. */
export function judge(witness: Witness, testimony: Testimony, without?: string): Verdict {
  const { case: one, outcome, manner, raw } = testimony;
  if (raw === undefined) return { kind: 'different', why: 'the machine did not survive it', rules: [] };
  let comparison: Comparison = {
    case: one,
    modelled: one,
    outcome,
    direct: manner.direct,
    raw,
    seen: interpret(one, raw),
  };
  const used: string[] = [];
  for (const rule of rulesFor(witness)) {
    if (rule.id === without) continue;
    const isUnadapted = manner.hasPcid && rule.adapts?.(one) === true;
    if (isUnadapted || rule.refuses?.(one) === true) return { kind: 'masked', rule: rule.id };
    const applied = rule.apply?.(comparison);
    if (applied === undefined) continue;
    if (applied === 'masked') return { kind: 'masked', rule: rule.id };
    comparison = applied;
    used.push(rule.id);
  }
  const why = difference(comparison);
  return why === undefined ? { kind: 'equal', rules: used } : { kind: 'different', why, rules: used };
}
