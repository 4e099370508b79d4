// How bit-exact nested tables represent the model's P2M: the leaf through which the hardware sees a gfn has the frame, the
// type and the rights of the entry.

import type { DomId } from '#abi/address.ts';
import { p2mTypes } from '#abi/hap.ts';
import { describeRights } from '#abi/rights.ts';
import { rightsOfEntry } from '#model/p2m.ts';
import { entryOf, type State } from '#model/state.ts';
import { firstDifference } from '../harness/difference.ts';
import type { Problem } from '../harness/law.ts';
import type { Reach } from '../harness/reach.ts';

/** Compares what `gfn` means to `domain`. */
export function placeProblem(reach: Reach, state: State, at: { domain: number; gfn: number }): Problem | undefined {
  const { domain, gfn } = at;
  const entry = entryOf(state, domain as DomId, gfn);
  const leaf = reach.leafAt(domain, gfn);
  const thing = `gfn ${gfn} of d${domain}`;
  return firstDifference({ invariant: 'refines', mechanism: 'hap', thing }, 'p2m', [
    ['frame', entry?.mfn, leaf && leaf.mfn + (gfn - leaf.gfn)],
    ['type', entry?.type, leaf && p2mTypes[leaf.type]],
    ['rights', entry && describeRights(rightsOfEntry(entry)), leaf && describeRights(leaf.rights)],
  ]);
}
