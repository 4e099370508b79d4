// A law is a value: an id, an English sentence, and how it is judged. Tests, campaigns, exhibits, README and the teaching
// page take laws from one list (properties/index.ts). `always` laws are judged at every step of one lockstep run, all of
// them together; `sometimes` laws guard against proving things about nothing; `pair` laws compare two runs; `case` laws
// judge one access against one memory image.

import type { Case } from '#abi/case.ts';
import type { Invariant } from '#abi/invariants.ts';
import type { Mechanism } from '#abi/operation.ts';
import type { Trace } from '#abi/trace.ts';
import type { Subject } from './subject.ts';
import type { View } from './view.ts';

/** What a law found: which invariant, in whose mechanism, the first thing that differs, and both sides in words. */
export interface Problem {
  readonly invariant: Invariant;
  readonly mechanism: Mechanism;
  /** The kind of thing that differs first (`frame.refs`, `reply.status`): part of the failure's identity. */
  readonly field: string;
  /** What is wrong, in a sentence with the numbers of this case. */
  readonly sentence: string;
  readonly expected?: string;
  readonly actual?: string;
}

interface Named {
  /** `<mechanism or harness>/<sentence in camel case>`. */
  readonly id: string;
  readonly invariant: Invariant;
  readonly statement: string;
}

export interface AlwaysLaw extends Named {
  readonly kind: 'always';
  /** The first problem in what just happened; undefined: the law holds. */
  readonly judge: (view: View) => Problem | undefined;
}

export interface SometimesLaw extends Named {
  readonly kind: 'sometimes';
  /** The mark that a run leaves when the state is reached (see marks.ts). */
  readonly mark: string;
}

export interface PairLaw extends Named {
  readonly kind: 'pair';
  /** The first problem between a run of `trace` and its variation. */
  readonly judge: (trace: Trace, subject: Subject) => Problem | undefined;
}

export interface CaseLaw extends Named {
  readonly kind: 'case';
  readonly judge: (one: Case) => Problem | undefined;
}

export type Law = AlwaysLaw | SometimesLaw | PairLaw | CaseLaw;

/** A broken law, and where. */
export interface Failure extends Problem {
  /** Id of the law. */
  readonly law: string;
  readonly statement: string;
  /** Index of the step at which it was found; the number of steps if it was found at the end. */
  readonly step: number;
}

/** What makes two failures the same: law, mechanism, first differing field. */
export const fingerprint = (failure: Failure): string => `${failure.law} ${failure.mechanism} ${failure.field}`;
