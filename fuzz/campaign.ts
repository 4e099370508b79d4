// A campaign on the implementation as it stands: stored failures first, then generated runs, some of them extending what
// earlier runs reached. Ends at the first failure that counts, or when time, operations or patience run out.
// Laws about pairs of runs cost several runs each and are judged now and then; laws about cases have no traces and are the
// business of npm test. The work is synchronous in slices of one run; `fuzz` and `start` drive it.
// A first reader may skip the bookkeeping.

import type { Mechanism } from '#abi/operation.ts';
import type { Trace } from '#abi/trace.ts';
import { fold } from '#lib/hash.ts';
import { Prng } from '#lib/prng.ts';
import { attempt, replay, sourceOf, type Attempt } from '#museum/attempt.ts';
import { failsOn, type Fails } from '#museum/shorten.ts';
import type { AlwaysLaw, Failure, Law, PairLaw } from '#properties/harness/law.ts';
import type { Settings } from '#properties/harness/settings.ts';
import { clean } from '#properties/harness/subject.ts';
import { Corpus, extended } from './extend.ts';

/** What a campaign tests and which failures count. */
export interface Campaign {
  readonly seed: number;
  /** The laws that are judged. */
  readonly laws: readonly Law[];
  /** Only failures in this mechanism count; others are tallied. */
  readonly mechanism?: Mechanism;
  /** What else runs are to do: tell of what they reach, say. */
  readonly settings?: Partial<Omit<Settings, 'laws'>>;
}

/** What has been seen so far. */
export interface Tally {
  runs: number;
  operations: number;
  refused: number;
  /** Runs given up because too many orders were possible. */
  abandoned: number;
  /** Runs that extended a kept prefix. */
  extensions: number;
  /** Failures that do not count, by law. */
  readonly elsewhere: Map<string, number>;
}

/** Why a campaign has something to report. */
export type Finding =
  | { readonly kind: 'failure'; readonly trace: Trace; readonly failure: Failure }
  | { readonly kind: 'error'; readonly trace: Trace; readonly error: Error };

/** One run in this many extends a prefix of the corpus. */
const EXTEND_ONE_IN = 4;

/** One run in this many is judged by the laws about pairs. */
const PAIR_ONE_IN = 16;

/** A campaign under way; mutable, owned by the command that runs it. */
export class CampaignRun {
  readonly tally: Tally = { runs: 0, operations: 0, refused: 0, abandoned: 0, extensions: 0, elsewhere: new Map() };
  readonly corpus = new Corpus();
  readonly marks = new Set<string>();
  readonly #of: Campaign;
  readonly #settings: Partial<Settings>;
  readonly #pairs: readonly PairLaw[];
  readonly #prng: Prng;
  #generated = 0;

  constructor(of: Campaign) {
    this.#of = of;
    this.#settings = {
      ...of.settings,
      laws: of.laws.filter((law): law is AlwaysLaw => law.kind === 'always'),
    };
    this.#pairs = of.laws.filter((law): law is PairLaw => law.kind === 'pair');
    this.#prng = new Prng(fold(0x6361_6d70, of.seed));
  }

  /** Replays a stored trace. */
  again(trace: Trace): Finding | undefined {
    return this.#took(replay(clean, trace, this.#settings), true);
  }

  /** One generated run. */
  next(): Finding | undefined {
    this.#generated += 1;
    const source = sourceOf(this.#of.seed, this.#generated);
    const prefix = this.#prng.chance(1, EXTEND_ONE_IN) ? this.corpus.prefix(this.#prng) : undefined;
    if (prefix !== undefined) this.tally.extensions += 1;
    const feed = prefix === undefined ? source : extended(prefix, source);
    return this.#took(attempt(clean, feed, this.#settings), this.#generated % PAIR_ONE_IN === 0);
  }

  /** Runs a trace again and says how it fails: with the law that `failure` broke, if that one needs a run of its own. */
  failsLike(failure: Failure): Fails {
    const law = this.#pairs.find(({ id }) => id === failure.law);
    return law === undefined ? failsOn(clean, this.#settings) : (trace) => judged(law, trace);
  }

  #took(one: Attempt, withPairs: boolean): Finding | undefined {
    const { trace, error } = one;
    this.tally.runs += 1;
    this.tally.operations += one.operations;
    this.tally.refused += one.refused;
    if (one.abandoned) this.tally.abandoned += 1;
    for (const mark of one.marks) this.marks.add(mark);
    if (error !== undefined) return { kind: 'error', trace, error };
    const failure = one.failure ?? (withPairs ? this.#pairFailure(trace) : undefined);
    if (failure === undefined) {
      this.corpus.take(trace, one.semantic);
      return undefined;
    }
    if (this.#of.mechanism === undefined || failure.mechanism === this.#of.mechanism)
      return { kind: 'failure', trace, failure };
    const { elsewhere } = this.tally;
    elsewhere.set(failure.law, (elsewhere.get(failure.law) ?? 0) + 1);
    return undefined;
  }

  #pairFailure(trace: Trace): Failure | undefined {
    for (const law of this.#pairs) {
      const failure = judged(law, trace);
      if (failure !== undefined) return failure;
    }
    return undefined;
  }
}

/** What a law about pairs says of a trace, as a failure at its end. */
function judged(law: PairLaw, trace: Trace): Failure | undefined {
  const problem = law.judge(trace, clean);
  return problem && { ...problem, law: law.id, statement: law.statement, step: trace.steps.length };
}
