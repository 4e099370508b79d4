// Random cases asked live: batches are made while the emulator works on the one before, every answer is judged, and what is
// not equal is asked again alone and made small.

import { describeCase } from '#abi/describe.ts';
import type { Prng } from '#lib/prng.ts';
import { accessCaseOf } from '#properties/paging/cases.ts';
import { describeResult } from './compare.ts';
import { type Course, describeCourse } from './courses.ts';
import type { Emulator } from './emulator.ts';
import { interpret } from './interpret.ts';
import { plan, type Planned } from './plan.ts';
import { refusal } from './rules.ts';
import { ask, type Judged, shrink } from './shrink.ts';

/** How often each thing happened, by name. */
export type Counts = Record<string, number>;

const count = (counts: Counts, name: string, n = 1): void => {
  counts[name] = (counts[name] ?? 0) + n;
};

/** What a course came to. */
export interface Tally {
  readonly course: Course;
  /** Cases that were asked. */
  asked: number;
  equal: number;
  different: number;
  /** Answers corrected or not used, and cases not asked, by rule. */
  readonly rules: Counts;
  /** Cases that cannot be asked, by reason. */
  readonly skipped: Counts;
  milliseconds: number;
}

export const emptyTally = (course: Course): Tally => ({
  course,
  asked: 0,
  equal: 0,
  different: 0,
  rules: {},
  skipped: {},
  milliseconds: 0,
});

/** What a campaign tells while it runs. */
export interface Listener {
  readonly progress: (tally: Tally) => void;
  readonly disagreement: (found: Disagreement) => void;
  readonly answered?: ((judged: readonly Judged[]) => void) | undefined;
  readonly stop: () => boolean;
}

/** A case on which emulator and model differ. */
export interface Disagreement {
  readonly course: Course;
  readonly judged: Judged;
  /** Whether it also disagrees when it is asked alone. */
  readonly isRepeatable: boolean;
}

/** A batch of cases that can be asked. */
function batchOf(prng: Prng, tally: Tally, size: number): readonly Planned[] {
  const { course } = tally;
  const batch: Planned[] = [];
  while (batch.length < size) {
    const one = course.tailor(accessCaseOf(prng, { engine: course.engine, oracle: true }));
    const rule = refusal(course, one);
    if (rule !== undefined) {
      count(tally.rules, rule.id);
      continue;
    }
    const planned = plan(one, course);
    if (planned.ok) batch.push(planned.planned);
    else count(tally.skipped, planned.reason);
  }
  return batch;
}

function note(tally: Tally, { verdict }: Judged): void {
  tally.asked += 1;
  switch (verdict.kind) {
    case 'equal':
      tally.equal += 1;
      for (const rule of verdict.rules) count(tally.rules, rule);
      return;
    case 'masked':
      count(tally.rules, verdict.rule);
      return;
    case 'different':
      tally.different += 1;
  }
}

/** At most so many disagreements of a course are made small; the others are counted. */
const SHRUNK = 5;

async function examine(emulator: Emulator, course: Course, of: { judged: Judged; listener: Listener }): Promise<void> {
  const { judged, listener } = of;
  const [alone = judged] = await ask(emulator, course, { planned: [judged.planned] });
  const isRepeatable = alone.verdict.kind === 'different';
  const small = isRepeatable ? await shrink(emulator, course, { judged: alone, stop: listener.stop }) : judged;
  listener.disagreement({ course, judged: small, isRepeatable });
}

/** Asks `cases` random cases. */
export async function run(
  emulator: Emulator,
  course: Course,
  of: { readonly cases: number; readonly prng: Prng; readonly listener: Listener },
): Promise<Tally> {
  const { cases, prng, listener } = of;
  const tally = emptyTally(course);
  const start = performance.now();
  const size = (): number => Math.min(course.batch, cases - tally.asked);
  let batch = batchOf(prng, tally, size());
  let examined = 0;
  while (batch.length > 0 && !listener.stop()) {
    const answers = ask(emulator, course, { planned: batch });
    const left = Math.max(0, Math.min(course.batch, cases - tally.asked - batch.length));
    // Nothing awaited in between: the emulator works on its own while this process makes the next batch.
    const next = batchOf(prng, tally, left);
    const judged = await answers;
    if (listener.stop()) break;
    for (const each of judged) note(tally, each);
    tally.milliseconds = performance.now() - start;
    listener.answered?.(judged);
    listener.progress(tally);
    for (const each of judged) {
      if (each.verdict.kind !== 'different' || examined >= SHRUNK) continue;
      examined += 1;
      await examine(emulator, course, { judged: each, listener });
    }
    batch = next;
  }
  tally.milliseconds = performance.now() - start;
  return tally;
}

/** A disagreement in words. */
export function describeDisagreement({ course, judged, isRepeatable }: Disagreement): string[] {
  const { planned, raw, verdict } = judged;
  const seen = raw === undefined ? 'did not survive it' : describeResult(interpret(planned.case, raw));
  return [
    `${describeCourse(course)}: ${verdict.kind === 'different' ? verdict.why : verdict.kind}`,
    `  model: ${describeResult(planned.outcome.result)}`,
    `  emulator: ${seen}${isRepeatable ? '' : ' (but not when asked alone)'}`,
    ...describeCase(planned.case).map((line) => `  ${line}`),
  ];
}
