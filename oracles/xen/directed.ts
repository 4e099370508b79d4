// For every rule about Xen a sequence that shows why it is there: played without the rule, Xen and the model differ after its last
// step. Kept in corpus/directed.gz with what was seen, so that the tests can tell without Xen that the rule is still needed.
// A first reader may skip this file.

import { DIRECTED, readCorpus, type Recorded } from './corpus.ts';
import { play } from './play.ts';
import { type RuleId, rules } from './rules.ts';
import { drawSequence, replaySequence, type Sequence } from './sequences.ts';
import { shows, shrink } from './shrink.ts';
import type { World } from './world.ts';

/** At most so many sequences are drawn to find one that shows a rule. */
const DRAWN = 1000;
const LENGTH = 40;

/** Looks for a short sequence on which Xen and the model differ without `rule` only. */
export async function findDirected(
  world: World,
  rule: RuleId,
  of: { readonly seed: number; readonly stop: () => boolean },
): Promise<Recorded | undefined> {
  for (let i = 0; i < DRAWN && !of.stop(); i += 1) {
    const sequence = drawSequence(of.seed + i, LENGTH, { without: rule });
    if (!concerns(sequence, rule)) continue;
    const { trace } = sequence;
    const shown = await shows(world, trace, rule);
    if (shown === undefined || shown.at < 0) continue;
    const small = await shrink(world, shown, { stop: of.stop, without: rule });
    if ((await shows(world, small.trace)) !== undefined) continue;
    const { boot, observed, memory } = await play(world, replaySequence(small.trace, { without: rule }), rule);
    return { rule, trace: small.trace, boot, observed, memory };
  }
  return undefined;
}

/** Whether the rule has anything to say about the sequence: with it, some step is left out, or some domain outlives its death. */
function concerns({ trace, moments }: Sequence, rule: RuleId): boolean {
  const effect = rules.find(({ id }) => id === rule)?.effect;
  if (effect === 'normalise')
    return moments.some(({ state }) => state.domains.some((domain) => domain.state === 'dead'));
  return (replaySequence(trace).skipped[`rule ${rule}`] ?? 0) > 0;
}

/** Rules whose sequences no longer differ on the Xen at hand. */
export async function unneeded(world: World): Promise<readonly RuleId[]> {
  const found: RuleId[] = [];
  for (const { rule, trace } of readCorpus(DIRECTED).records) {
    if (rule === undefined) continue;
    const { disagreement } = await play(world, replaySequence(trace, { without: rule }), rule);
    if (disagreement === undefined) found.push(rule);
  }
  return found;
}
