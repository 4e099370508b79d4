// For every rule a case that is judged differently without it. Recorded with the answer, so that tests need no emulator; asked
// again live, so that a rule that a newer emulator does not need any more is told.
// A first reader may skip this file.

import { readFileSync } from 'node:fs';
import { decodeCase, encodeCase } from '#abi/decode.ts';
import type { Prng } from '#lib/prng.ts';
import { accessCaseOf } from '#properties/paging/cases.ts';
import { corpusFolder } from './corpus.ts';
import { type Course, courses } from './courses.ts';
import type { Emulator } from './emulator.ts';
import { judge, type Verdict, type Witness } from './judge.ts';
import type { AccessCase, Raw, Vehicle } from './pack.ts';
import { plan, type Planned } from './plan.ts';
import { type Rule, rules } from './rules.ts';
import { ask, type Judged, shrink } from './shrink.ts';
import { expected } from './window.ts';

/** A rule's case as it was asked, and the answer; none: the machine did not survive it. */
export interface Directed {
  readonly rule: string;
  readonly version: string;
  readonly vehicle: Vehicle;
  readonly case: AccessCase;
  readonly direct: boolean;
  readonly hasPcid: boolean;
  readonly raw: Raw | undefined;
}

const file = (): string => `${corpusFolder()}/directed.json`;

interface Stored extends Omit<Directed, 'case'> {
  readonly case: object;
}

/** The recorded directed cases. */
export function readDirected(): readonly Directed[] {
  const stored = JSON.parse(readFileSync(file(), 'utf8')) as readonly Stored[];
  return stored.map((entry) => {
    const decoded = decodeCase(JSON.stringify(entry.case));
    if (!decoded.ok || decoded.case.engine === 'ept')
      throw new Error(`directed.json, ${entry.rule}: ${decoded.ok ? 'no such engine' : decoded.error}`);
    return { ...entry, case: decoded.case };
  });
}

/** The directed cases as text, one line each. */
export const printDirected = (directed: readonly Directed[]): string => {
  const lines = directed.map((entry) => JSON.stringify({ ...entry, case: JSON.parse(encodeCase(entry.case)) }));
  return `[\n${lines.join(',\n')}\n]\n`;
};

const witnessOf = ({ rule, vehicle }: Pick<Directed, 'rule' | 'vehicle'>): Witness => ({
  oracle: rules.find(({ id }) => id === rule)?.oracle ?? 'qemu',
  vehicle,
});

/** How a directed case is judged with all rules, and without its own. */
export interface Need {
  readonly with: Verdict;
  readonly without: Verdict;
}

/** Judges a directed case by a recorded or a fresh answer. */
export function needOf(directed: Directed): Need {
  const outcome = expected(directed.case, directed.direct);
  if (outcome === undefined) throw new Error(`${directed.rule}: the guest does not reach the kernel`);
  const testimony = {
    case: directed.case,
    outcome,
    manner: { direct: directed.direct, hasPcid: directed.hasPcid },
    raw: directed.raw,
  };
  const witness = witnessOf(directed);
  return { with: judge(witness, testimony), without: judge(witness, testimony, directed.rule) };
}

/** Whether a rule is needed: without it there is a disagreement, with it there is none. */
export const isNeeded = (need: Need): boolean => need.with.kind !== 'different' && need.without.kind === 'different';

/** Asks the emulator at hand about the directed cases of its rules; answers those that need their rule no more. */
export async function unneeded(emulator: Emulator, oracle: Course['oracle']): Promise<readonly Directed[]> {
  const mine = readDirected().filter((entry) => witnessOf(entry).oracle === oracle);
  const asked = mine.flatMap((entry) => {
    const planned = plan(entry.case, witnessOf(entry));
    const rule = rules.find(({ id }) => id === entry.rule);
    return planned.ok && rule !== undefined ? [{ entry, planned: unadapted(rule, planned.planned) }] : [];
  });
  const raws = await emulator.run(asked.map(({ planned }) => planned));
  return asked.map(({ entry }, i) => ({ ...entry, raw: raws[i] })).filter((entry) => !isNeeded(needOf(entry)));
}

const SEARCH_BATCH = 1500;
const SEARCH_ROUNDS = 40;

/** A case as it would be asked if there were no such rule. */
const unadapted = (rule: Rule, planned: Planned): Planned =>
  rule.adapts === undefined ? planned : { ...planned, manner: { ...planned.manner, hasPcid: true } };

/** Random cases that concern a rule: all but those that another rule refuses. */
function batchFor(rule: Rule, course: Course, prng: Prng): readonly Planned[] {
  const batch: Planned[] = [];
  for (let tries = 0; tries < 50 * SEARCH_BATCH && batch.length < SEARCH_BATCH; tries += 1) {
    const one = accessCaseOf(prng, { engine: course.engine, oracle: true });
    const isRefused = rules.some(
      (other) =>
        other.id !== rule.id &&
        other.oracle === course.oracle &&
        other.vehicles.includes(course.vehicle) &&
        other.refuses?.(one) === true,
    );
    if (isRefused || rule.refuses?.(one) === false || rule.adapts?.(one) === false) continue;
    const planned = plan(one, course);
    if (planned.ok) batch.push(unadapted(rule, planned.planned));
  }
  return batch;
}

const needsRule = (witness: Witness, { planned, raw, verdict }: Judged): boolean =>
  verdict.kind === 'different' && judge(witness, { ...planned, raw }).kind !== 'different';

/** Looks for a case that needs `rule` and makes it small; undefined if none turns up. */
export async function findDirected(
  emulator: Emulator,
  rule: Rule,
  of: { readonly prng: Prng; readonly stop: () => boolean },
): Promise<Directed | undefined> {
  const course = courses.find(({ oracle, vehicle }) => oracle === rule.oracle && rule.vehicles.includes(vehicle));
  if (course === undefined) return undefined;
  for (let round = 0; round < SEARCH_ROUNDS && !of.stop(); round += 1) {
    const planned = batchFor(rule, course, of.prng);
    const answers = await ask(emulator, course, { planned, without: rule.id });
    const found = answers.find((judged) => needsRule(course, judged));
    if (found === undefined) continue;
    const small = await shrink(emulator, course, { judged: found, without: rule.id, stop: of.stop });
    const { vehicle } = course;
    const { case: one, manner } = small.planned;
    return {
      rule: rule.id,
      version: emulator.version,
      vehicle,
      case: one,
      direct: manner.direct,
      hasPcid: manner.hasPcid,
      raw: small.raw,
    };
  }
  return undefined;
}
