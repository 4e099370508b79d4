// How bit-exact nested tables represent the model's P2M: the leaf through which the hardware sees a gfn has the frame, the
// type and the rights of the entry. Where an entry gives no rights at all there is no such leaf, and the hypervisor's own bits are asked.

import type { DomId } from '#abi/address.ts';
import { p2mTypes } from '#abi/hap.ts';
import { describeRights } from '#abi/rights.ts';
import { lookup, type Found } from '#impl/hap/table.ts';
import type { Machine } from '#impl/machine.ts';
import { rightsOfEntry } from '#model/p2m.ts';
import { entryOf, type Entry, type State } from '#model/state.ts';
import { firstDifference, type Relation } from '../harness/difference.ts';
import type { Reach } from '../harness/reach.ts';
import type { Leaf } from '../harness/leaf.ts';

/** A gfn on both sides: what the model's entry says, the leaf that the hardware finds, and what the hypervisor finds. */
interface Sides {
  readonly domain: number;
  readonly gfn: number;
  readonly entry: Entry | undefined;
  readonly leaf: Leaf | undefined;
  readonly found: Found | undefined;
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
      machine: ({ leaf, found, gfn }) => (leaf === undefined ? found?.mfn : leaf.mfn + (gfn - leaf.gfn)),
    },
    {
      name: 'type',
      breaks: 'refines',
      model: ({ entry }) => entry?.type,
      machine: ({ leaf, found }) => (leaf === undefined ? found?.type : p2mTypes[leaf.type]),
    },
    {
      name: 'access',
      breaks: 'refines',
      model: ({ entry }) => entry?.access,
      machine: ({ found }) => found?.access,
    },
    {
      name: 'rights',
      breaks: 'refines',
      model: ({ entry }) => entry && describeRights(rightsOfEntry(entry)),
      machine: ({ leaf, found }) => found && describeRights(leaf?.rights ?? 0),
      isSame: ({ entry, leaf }) => entry !== undefined && rightsOfEntry(entry) === (leaf?.rights ?? 0),
    },
  ],
};

/** What the hypervisor itself finds at `gfn`; what is on demand is no entry of the model's. */
function foundAt(m: Machine, domain: number, gfn: number): Found | undefined {
  const found = lookup(m, domain, gfn);
  return found?.type === 'populateOnDemand' ? undefined : found;
}

/** Both sides of a machine. */
export interface Both {
  readonly m: Machine;
  readonly reach: Reach;
  readonly state: State;
}

/** Compares what `gfn` means to `domain`. */
export const placeProblem = ({ m, reach, state }: Both, { domain, gfn }: { domain: number; gfn: number }) =>
  firstDifference(places, {
    domain,
    gfn,
    entry: entryOf(state, domain as DomId, gfn),
    leaf: reach.leafAt(domain, gfn),
    found: foundAt(m, domain, gfn),
  });
