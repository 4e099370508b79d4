// Everything that can be said with the words of a trace: its kinds of operations, its agents, per field the values that occur
// in it, and its pauses, failures and preemptions. What certification searches over.
// A first reader may skip this file.

import { argumentsOf, fieldsOf, opWith, type Loose } from '#abi/fields.ts';
import type { Field, Fields } from '#abi/field.ts';
import type { Op } from '#abi/operation.ts';
import { isAct, type ActStep, type Trace } from '#abi/trace.ts';
import { Lockstep } from './lockstep.ts';
import type { Subject } from './subject.ts';

/** A step without its label. */
export type Letter = Omit<ActStep, 'label'>;

/** A value as a key of maps. */
export const keyOf = (value: unknown): string => JSON.stringify(value);

/** Values of each field that occur. Fields of operand types share them by type, the others if declared and named alike. */
class Values {
  readonly #by = new Map<string, Map<string, unknown>>();

  add(field: Field, name: string, value: unknown): void {
    const group = Values.#group(field, name);
    const known = this.#by.get(group) ?? new Map<string, unknown>();
    known.set(JSON.stringify(value), value);
    this.#by.set(group, known);
  }

  of(field: Field, name: string): readonly unknown[] {
    return [...(this.#by.get(Values.#group(field, name)) ?? new Map<string, unknown>()).values()];
  }

  static #group(field: Field, name: string): string {
    const isShared = field.type !== 'int' && field.type !== 'oneOf' && field.type !== 'list';
    return isShared ? field.type : `${keyOf(field)} ${name}`;
  }
}

function collect(values: Values, fields: Fields, args: Loose): void {
  for (const [name, field] of Object.entries(fields)) values.add(field, name, args[name]);
}

/** All records over `fields` with values that occur; lists as wholes. */
function* records(values: Values, fields: Fields): Generator<Loose, void, undefined> {
  const entries = Object.entries(fields);
  const pick = function* (from: number, chosen: Loose): Generator<Loose, void, undefined> {
    const entry = entries[from];
    if (entry === undefined) {
      yield chosen;
      return;
    }
    const [name, field] = entry;
    for (const value of values.of(field, name)) yield* pick(from + 1, { ...chosen, [name]: value });
  };
  yield* pick(0, {});
}

/** What may be tried in every state: first what the trace does, then all combinations, up to `max`. */
export function alphabetOf(
  trace: Trace,
  max: number,
): { readonly letters: readonly Letter[]; readonly isWhole: boolean } {
  const values = new Values();
  const acts = trace.steps.filter(isAct);
  for (const { op } of acts) collect(values, fieldsOf(op.kind), argumentsOf(op));
  const letters = new Map<string, Letter>();
  const note = (letter: Letter): boolean => {
    if (letters.size >= max && !letters.has(keyOf(letter))) return false;
    letters.set(keyOf(letter), letter);
    return true;
  };
  for (const act of acts) note({ agent: act.agent, op: act.op, ...fateOf(act) });
  for (const { agent, op } of acts) note({ agent, op });
  const isWhole = fill(acts, values, note);
  return { letters: [...letters.values()], isWhole };
}

/** Pause, failures and preemption of a step. */
const fateOf = ({ pause, failures, preempt }: ActStep): Omit<Letter, 'agent' | 'op'> => ({
  ...(pause === undefined ? {} : { pause }),
  ...(failures === undefined ? {} : { failures }),
  ...(preempt === undefined ? {} : { preempt }),
});

/** Adds every agent, operation and fate; false when `note` takes no more. */
function fill(acts: readonly ActStep[], values: Values, note: (letter: Letter) => boolean): boolean {
  const fates = new Map(acts.map((act) => [keyOf(fateOf(act)), fateOf(act)] as const));
  fates.set(keyOf({}), {});
  const agents = new Map(acts.map(({ agent }) => [keyOf(agent), agent] as const));
  const kinds = new Set<Op<'symbolic'>['kind']>(acts.map(({ op }) => op.kind));
  for (const fate of [...fates.values()].toReversed())
    for (const kind of kinds)
      for (const agent of agents.values())
        for (const args of records(values, fieldsOf(kind)))
          if (!note({ agent, op: opWith<'symbolic'>(kind, args), ...fate })) return false;
  return true;
}

// Handles and continuations name steps by label; in another order of steps the numbers themselves are what occurs.

/** `trace` with handles and starts as the raw numbers that they resolve to when the trace runs. */
export function withRawNumbers(subject: Subject, trace: Trace): Trace {
  const run = new Lockstep({ subject, header: trace.header });
  const steps = trace.steps.map((step) => {
    const raw = isAct(step) ? { ...step, op: rawOp(step.op, run) } : step;
    run.apply(step);
    return raw;
  });
  return { ...trace, steps };
}

function rawValue(field: Field, value: unknown, run: Lockstep): unknown {
  if (field.type === 'list' && Array.isArray(value))
    return value.map((element: Loose) => rawArgs(field.of, element, run));
  if (field.type !== 'handle' && field.type !== 'start') return value;
  const named = value as { readonly step?: number; readonly index?: number };
  if (named.step === undefined || named.index === undefined) return value;
  const number = field.type === 'start' ? run.replyOf(named.step)?.done : run.handedOut(named.step, named.index);
  return number === undefined ? value : { raw: number };
}

const rawArgs = (fields: Fields, args: Loose, run: Lockstep): Loose =>
  Object.fromEntries(
    Object.entries(args).map(([name, value]) => [name, fields[name] ? rawValue(fields[name], value, run) : value]),
  );

const rawOp = (op: Op<'symbolic'>, run: Lockstep): Op<'symbolic'> =>
  opWith<'symbolic'>(op.kind, rawArgs(fieldsOf(op.kind), argumentsOf(op), run));
