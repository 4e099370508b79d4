// How the implementation's types of frames represent the model's.
// A first reader may skip this file.

import type { Mfn } from '#abi/address.ts';
import { frameTypes } from '#abi/pv.ts';
import type { Machine } from '#impl/machine.ts';
import { linearOf } from '#impl/pv/linear.ts';
import { frameOf, type Frame, type State } from '#model/state.ts';
import { firstDifference, type Relation } from '../harness/difference.ts';
import type { Problem } from '../harness/law.ts';

interface Sides {
  readonly m: Machine;
  readonly mfn: number;
  readonly frame: Frame;
}

const types: Relation<Sides> = {
  mechanism: 'pv',
  kind: 'type',
  thing: ({ mfn }) => `frame ${mfn}`,
  rows: [
    {
      name: 'type',
      breaks: 'refines',
      model: ({ frame }) => frame.type,
      machine: ({ m, mfn }) => frameTypes[m.f.frameType.get(mfn)],
    },
    {
      name: 'typeCount',
      breaks: 'REF',
      model: ({ frame }) => frame.typeCount,
      machine: ({ m, mfn }) => m.f.frameTypeCount.get(mfn),
    },
    {
      // A table that counts as one and was not looked at is walked as it stands.
      name: 'validated',
      breaks: 'PTW',
      model: ({ frame }) => frame.validated,
      machine: ({ m, mfn }) => m.f.frameValidated.get(mfn) === 1,
    },
    {
      // How far a table has come is of no meaning for any other.
      name: 'partial',
      breaks: 'REF',
      model: ({ frame: { partial } }) =>
        partial === undefined ? 0 : 1 + 2 * partial.entries + (partial.holds ? 1 : 0),
      machine: ({ m, mfn }) => m.f.framePartial.get(mfn),
    },
    {
      name: 'linear',
      breaks: 'REF',
      model: ({ frame }) => frame.linear,
      machine: ({ m, mfn }) => linearOf(m, mfn),
    },
    {
      name: 'pinned',
      breaks: 'REF',
      model: ({ frame }) => frame.pinned,
      machine: ({ m, mfn }) => m.f.framePinned.get(mfn) === 1,
    },
  ],
};

/** Compares what frame `mfn` is typed as. */
export const typeProblem = (m: Machine, state: State, mfn: number): Problem | undefined =>
  mfn >= m.geometry.frameCount ? undefined : firstDifference(types, { m, mfn, frame: frameOf(state, mfn as Mfn) });
