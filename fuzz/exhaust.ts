// `npm run exhaust -- paging | hap`: every combination of the bits that decide about an access, in every context, on model and
// implementation (properties/paging/exhaust.ts says how the product is kept small). It ends at the first difference, which is
// made small and printed in words and as JSON, or at Ctrl-C, with what was done by then.
// Exit code: 0 no difference, 1 a difference.

import { CASE_FRAMES } from '#abi/case.ts';
import { encodeCase } from '#abi/decode.ts';
import { describeCase } from '#abi/describe.ts';
import { AccessUnit } from '#impl/paging/access.ts';
import { eptFamilies } from '#properties/hap/exhaust-ept.ts';
import { nptFamilies } from '#properties/hap/exhaust-npt.ts';
import { shrinkCase } from '#properties/harness/case-shrink.ts';
import type { AccessCase } from '#properties/paging/cases.ts';
import { accessJudge } from '#properties/paging/cases-judge.ts';
import { Enumeration, type Family } from '#properties/paging/exhaust.ts';
import { nativeFamilies } from '#properties/paging/exhaust-native.ts';
import { EXIT } from './fuzz.ts';
import { Deadline, Interrupt } from './interrupt.ts';
import { voiceOf, type Voice } from './live.ts';
import { counted, grouped, seconds, table } from './report.ts';

const familiesOf = {
  paging: nativeFamilies,
  hap: () => [...eptFamilies(), ...nptFamilies()],
} as const satisfies Readonly<Record<string, () => readonly Family[]>>;

export type ExhaustTarget = keyof typeof familiesOf;

/** What can be enumerated. */
export const exhaustTargets = Object.keys(familiesOf) as readonly ExhaustTarget[];

/** Cases between two breaths, and executions while a difference is made small. */
const SLICE = 20_000;
const EXECUTIONS = 5000;

const INTS_PER_FRAME = 1024;

/** A family and its enumeration. */
interface Part {
  readonly name: string;
  readonly contexts: number;
  readonly run: Enumeration;
}

/** Counts the members of all families: no rate means anything before that. */
async function partsOf(target: ExhaustTarget, interrupt: Interrupt, voice: Voice): Promise<readonly Part[]> {
  const memory = new Int32Array(CASE_FRAMES * INTS_PER_FRAME);
  const families = familiesOf[target]();
  const parts: Part[] = [];
  for (const family of families) {
    if (await interrupt.breath()) break;
    voice.progress(`  counting: ${parts.length} of ${families.length} families`, {
      phase: 'counting',
      families: parts.length,
    });
    const run = new Enumeration(family, memory, (shared) => new AccessUnit(shared));
    parts.push({ name: family.name, contexts: family.contexts.length, run });
  }
  return parts;
}

const doneIn = (parts: readonly Part[]): number => parts.reduce((sum, { run }) => sum + run.done, 0);
const askedIn = (parts: readonly Part[]): number => parts.reduce((sum, { run }) => sum + run.asked, 0);
const totalIn = (parts: readonly Part[]): number => parts.reduce((sum, { run }) => sum + run.total, 0);

/** Runs everything to its end, the first difference, or Ctrl-C. */
async function enumerate(
  parts: readonly Part[],
  clock: Deadline,
  of: { interrupt: Interrupt; voice: Voice },
): Promise<Part | undefined> {
  const total = totalIn(parts);
  let before = 0;
  for (const part of parts) {
    while (!part.run.isOver) {
      part.run.step(SLICE);
      const done = before + part.run.done;
      const rate = done / Math.max(clock.elapsed, 0.001);
      const remaining = (total - done) / Math.max(rate, 1);
      of.voice.progress(
        `  ${grouped(done)} of ${counted(total, 'case')}, ${grouped(rate)}/s, ${seconds(remaining)} left: ${part.name}`,
        { phase: 'enumerating', cases: done, total, casesPerSecond: Math.round(rate), remaining, family: part.name },
      );
      if (await of.interrupt.breath()) return undefined;
    }
    if (part.run.found !== undefined) return part;
    before += part.run.done;
  }
  return undefined;
}

/** Families that differ in mode and level only, by what is enumerated. */
function tellTable(parts: readonly Part[], voice: Voice): void {
  const kinds = new Map<string, Part[]>();
  for (const part of parts) {
    const kind =
      part.name.startsWith('EPT') || part.name.startsWith('NPT')
        ? part.name.split(',')[0]
        : part.name.split(', ').slice(0, 2).join(', ');
    kinds.set(kind ?? part.name, [...(kinds.get(kind ?? part.name) ?? []), part]);
  }
  const rows = [...kinds].map(([kind, list]) => [
    kind,
    grouped(list.reduce((sum, { contexts }) => sum + contexts, 0)),
    grouped(doneIn(list)),
    grouped(askedIn(list)),
  ]);
  voice.say('', ...table([['enumerated', 'contexts', 'cases', 'asked of the model'], ...rows]));
  for (const { name, contexts, run } of parts)
    voice.record({ kind: 'family', name, contexts, cases: run.done, total: run.total, asked: run.asked });
}

/** The difference in words and as JSON. A class may differ from its member: then the fold itself is broken. */
function tellDifference(found: AccessCase, name: string, voice: Voice): void {
  const judge = accessJudge();
  const problem = judge(found);
  if (problem === undefined) {
    voice.say(
      '',
      `In ${name}: alone this case agrees, but the model says something else of its class, or more was written:`,
    );
    voice.say(...describeCase(found), encodeCase(found));
    voice.record({ kind: 'difference', family: name, field: 'fold', case: found });
    return;
  }
  const failsAs = (one: Parameters<typeof encodeCase>[0]): string | undefined =>
    one.engine === 'ept' ? undefined : judge(one)?.field;
  const small = shrinkCase(found, { failsAs, executions: EXECUTIONS }).case;
  const told = small.engine === 'ept' ? problem : (judge(small) ?? problem);
  voice.say('', `In ${name}: ${told.sentence}.`, '', ...describeCase(small), '', encodeCase(small));
  voice.record({ kind: 'difference', family: name, field: told.field, sentence: told.sentence, case: small });
}

/** Enumerates a target; answers the exit code. */
export async function exhaust(options: { readonly target: ExhaustTarget; readonly json: boolean }): Promise<number> {
  const interrupt = new Interrupt();
  const voice = voiceOf(options.json);
  const parts = await partsOf(options.target, interrupt, voice);
  const clock = new Deadline(Infinity);
  const differing = interrupt.requested ? undefined : await enumerate(parts, clock, { interrupt, voice });
  voice.done();
  tellTable(parts, voice);
  const [cases, total, asked] = [doneIn(parts), totalIn(parts), askedIn(parts)];
  const found = differing?.run.found;
  if (differing !== undefined && found !== undefined) tellDifference(found, differing.name, voice);
  const isWhole = !interrupt.requested && found === undefined;
  const rate = cases / Math.max(clock.elapsed, 0.001);
  const verdict =
    found === undefined ? 'no difference between model and implementation' : 'model and implementation differ';
  voice.say(
    '',
    `${isWhole ? 'Done' : 'Stopped'} after ${seconds(clock.elapsed)}: ${grouped(cases)} of ${counted(total, 'case')} ` +
      `(${grouped(rate)}/s), ${grouped(asked)} of them asked of the model: ${verdict}.`,
  );
  const code = found === undefined ? EXIT.ok : EXIT.failure;
  voice.record({
    kind: 'summary',
    target: options.target,
    cases,
    total,
    asked,
    casesPerSecond: Math.round(rate),
    seconds: clock.elapsed,
    interrupted: interrupt.requested,
    code,
  });
  return code;
}
