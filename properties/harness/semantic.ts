// Semantic states: what a campaign is guided by. Not which line ran, but what kind of operation came to what end on what
// kind of objects, before and after; objects are classed by small integers (model/<mechanism>/features.ts).

import { fold, hashText } from '#lib/hash.ts';
import { features } from '#model/features.ts';
import type { State } from '#model/state.ts';
import type { Returned } from './view.ts';

/** Hash of (operation, outcome, features before, features after). Unsigned 32 bits. */
export function semanticHash({ agent, op, reply, before }: Returned, after: State): number {
  let hash = fold(hashText(op.kind), hashText(reply.status));
  for (const { status } of reply.elements) hash = fold(hash, hashText(status));
  const found = features(before, agent, op);
  for (const feature of found) hash = fold(hash, feature);
  for (const feature of after === before ? found : features(after, agent, op)) hash = fold(hash, feature);
  return hash;
}
