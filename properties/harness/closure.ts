// The full answer to "what may have happened": breadth-first over single micro-steps of any operation in flight.
// Candidates are told apart by a digest of their state and of how far each operation has come.
// A first reader may skip the digests.

import type { Logged } from '#abi/choices.ts';
import type { Label } from '#abi/operand.ts';
import type { Expected, Reply } from '#abi/reply.ts';
import { fold } from '#lib/hash.ts';
import type { Invariant } from '#abi/invariants.ts';
import type { Progress } from '#model/progress.ts';
import type { State } from '#model/state.ts';
import { advance, advanceLog } from '#model/step.ts';
import { digestOf, digestState } from './digest.ts';
import { sameReply } from './replies.ts';

/** An operation in flight within a candidate. */
export interface Pending {
  readonly label: Label;
  readonly progress: Progress;
}

/** A state that may be, and how far each operation in flight has come in it. */
export interface Candidate {
  readonly state: State;
  readonly pending: readonly Pending[];
}

/** Why nothing explains what was seen. `expected`: what the model would have answered, where it got that far. */
export interface Refusal {
  readonly invariant: Invariant;
  readonly reason: string;
  readonly expected?: Expected;
}

/** The logs of the operations in flight, by label. */
export type Logs = ReadonlyMap<Label, readonly Logged[]>;

/** More candidates than this are not followed up. */
const CANDIDATES_MAX = 2000;

const NO_LOG: readonly Logged[] = [];

/** The log of `label`, perhaps empty. */
export const logOf = (logs: Logs, label: Label): readonly Logged[] => logs.get(label) ?? NO_LOG;

/** Every register counts: two operations that differ in one may go on differently. */
function progressDigest(seed: number, { label, progress }: Pending): number {
  const { work, ending, cursor, debts, written, isCounted } = progress;
  const at = fold(fold(seed, label), isCounted ? -1 - cursor : cursor);
  return fold(fold(fold(fold(at, digestOf(debts)), digestOf(written)), digestOf(work)), digestOf(ending));
}

/** Digest of a candidate. */
export const keyOf = ({ state, pending }: Candidate): number => pending.reduce(progressDigest, digestState(state));

/** `list` without repetitions. */
export function distinct(list: readonly Candidate[]): readonly Candidate[] {
  if (list.length < 2) return list;
  return [...new Map(list.map((candidate) => [keyOf(candidate), candidate])).values()];
}

/** `candidate` with its `at`-th operation in flight moved on. */
export const moved = (candidate: Candidate, at: number, to: { state: State; progress: Progress }): Candidate => ({
  state: to.state,
  pending: candidate.pending.map((one, i) => (i === at ? { label: one.label, progress: to.progress } : one)),
});

/** What a closure came to. */
export interface Closure {
  /** Everything that may be. */
  readonly open: readonly Candidate[];
  /** With an operation that returns: where it has returned with that very reply. */
  readonly done: readonly { readonly candidate: Candidate; readonly expected: Expected }[];
  readonly refusal: Refusal | undefined;
  /** Whether it was cut off: then a refusal is not to be believed. */
  readonly overflowed: boolean;
}

/** The closure of `list`; `ending` has returned, and its log is whole. `still` does not move. */
export function close(
  list: readonly Candidate[],
  logs: Logs,
  how: { readonly ending?: { readonly label: Label; readonly reply: Reply }; readonly still?: Label } = {},
): Closure {
  const { ending, still } = how;
  const seen = new Set<number>(list.map(keyOf));
  const open: Candidate[] = [...list];
  const done = new Map<number, { candidate: Candidate; expected: Expected }>();
  let refusal: Refusal | undefined;
  for (let next = 0; next < open.length && open.length <= CANDIDATES_MAX; next += 1) {
    const candidate = open[next] as Candidate;
    candidate.pending.forEach(({ label, progress }, at) => {
      if (label === still) return;
      const isEnding = label === ending?.label;
      const log = logOf(logs, label);
      const outcome = advance(candidate.state, progress, log, isEnding);
      for (const way of [outcome, advanceLog(candidate.state, progress, log)]) {
        if (way.kind !== 'moved') continue;
        const further = moved(candidate, at, way);
        const key = keyOf(further);
        if (!seen.has(key)) open.push(further);
        seen.add(key);
      }
      if (outcome.kind === 'refused') {
        refusal ??= { invariant: outcome.invariant, reason: outcome.reason };
      } else if (outcome.kind === 'done' && ending !== undefined && isEnding) {
        const { expected, state } = outcome;
        if (!sameReply(expected, ending.reply)) refusal = differs(expected);
        else {
          const rest = { state, pending: candidate.pending.filter((_, i) => i !== at) };
          done.set(keyOf(rest), { candidate: rest, expected });
        }
      }
    });
  }
  return { open, done: [...done.values()], refusal, overflowed: open.length > CANDIDATES_MAX };
}

/** The reply is not what the model would have answered. */
export const differs = (expected: Expected): Refusal => ({
  invariant: 'refines',
  reason: 'the reply differs from what the model allows',
  expected,
});
