// How bit-exact nested tables represent the model's P2M: the leaf through which the hardware sees a gfn has the frame, the
// type and the rights of the entry.

import type { DomId } from '#abi/address.ts';
import { p2mTypes } from '#abi/hap.ts';
import { describeRights } from '#abi/rights.ts';
import { rightsOfEntry } from '#model/p2m.ts';
import { entryOf, type Entry, type State } from '#model/state.ts';
import { firstDifference, type Relation } from '../harness/difference.ts';
import type { Reach } from '../harness/reach.ts';
import type { Leaf } from '../harness/leaf.ts';

/** A gfn on both sides: what the model's entry says, and the leaf that the hardware finds. */
interface Sides {
  readonly domain: number;
  readonly gfn: number;
  readonly entry: Entry | undefined;
  readonly leaf: Leaf | undefined;
}

const places: Relation<Sides> = {
  mechanism: 'hap',
  kind: 'p2m',
  thing: ({ domain, gfn }) => `gfn ${gfn} of d${domain}`,
  rows: [
    {
      name: 'frame',
      breaks: 'refines',
      model: ({ entry }) => entry?.mfn,
      machine: ({ leaf, gfn }) => leaf && leaf.mfn + (gfn - leaf.gfn),
    },
    {
      name: 'type',
      breaks: 'refines',
      model: ({ entry }) => entry?.type,
      machine: ({ leaf }) => leaf && p2mTypes[leaf.type],
    },
    {
      name: 'rights',
      breaks: 'refines',
      model: ({ entry }) => entry && describeRights(rightsOfEntry(entry)),
      machine: ({ leaf }) => leaf && describeRights(leaf.rights),
      isSame: ({ entry, leaf }) => entry !== undefined && rightsOfEntry(entry) === leaf?.rights,
    },
  ],
};

/** Compares what `gfn` means to `domain`. */
export const placeProblem = (reach: Reach, state: State, { domain, gfn }: { domain: number; gfn: number }) =>
  firstDifference(places, {
    domain,
    gfn,
    entry: entryOf(state, domain as DomId, gfn),
    leaf: reach.leafAt(domain, gfn),
  });
