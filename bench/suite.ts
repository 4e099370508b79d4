// The suite: completed operations per CPU second with all laws on, the implementation alone on the same recorded traces
// beside it, and where the time goes, from the differences between runs that leave more and more away.

import { attempt, sourceOf } from '#museum/attempt.ts';
import { clean } from '#properties/harness/subject.ts';
import { race, type Contestant, type Timed } from './clock.ts';
import { recordings, replayAll, replayLawless, runBare, runModel } from './recording.ts';

/** Microseconds of an average operation, by where they go. */
export interface Breakdown {
  readonly generation: number;
  readonly laws: number;
  readonly comparison: number;
  readonly model: number;
  readonly implementation: number;
}

export interface SuiteFigures {
  readonly operations: number;
  readonly timed: readonly Timed[];
  readonly microseconds: Breakdown;
}

const RUNS = 240;

export function suiteFigures(seed: number, rounds: number): SuiteFigures {
  const all = recordings(seed, RUNS);
  const operations = all.reduce((sum, one) => sum + one.operations, 0);
  const generateAndJudge = (): number =>
    all.reduce((sum, _, i) => sum + attempt(clean, sourceOf(seed, i + 1)).operations, 0);
  const contestants: readonly Contestant[] = [
    { name: 'suite: generated, all laws', work: generateAndJudge },
    { name: 'replayed, all laws', work: () => replayAll(all) },
    { name: 'replayed, no laws', work: () => replayLawless(all) },
    { name: 'model alone', work: () => runModel(all) },
    { name: 'implementation alone', work: () => runBare(all) },
  ];
  const timed = race(contestants, rounds);
  const [suite = 0, judged = 0, lawless = 0, model = 0, implementation = 0] = timed.map(
    ({ perSecond }) => 1e6 / perSecond,
  );
  return {
    operations,
    timed,
    microseconds: {
      generation: suite - judged,
      laws: judged - lawless,
      comparison: lawless - model - implementation,
      model,
      implementation,
    },
  };
}
