// What must hold of the types of frames by which paravirtual guests are kept from their own tables. That nobody writes a table, and
// that nothing is walked as a table that was not looked at, is judged with everybody's reach (harness/judge.ts).
// A first reader may skip the recount (uses.ts).

import { frameTypes } from '#abi/pv.ts';
import { frameRoles } from '#abi/roles.ts';
import { linearOf } from '#impl/pv/linear.ts';
import { holdsOfPins } from '../grants/holds.ts';
import { isDirect } from '../harness/direct-reach.ts';
import type { AlwaysLaw, Problem } from '../harness/law.ts';
import type { View } from '../harness/view.ts';
import { usesByTables } from './uses.ts';

/** A type can be left only when nothing uses the frame as that any more. */
export const typeCountsEqualUses: AlwaysLaw = {
  kind: 'always',
  id: 'pv/typeCountsEqualUses',
  invariant: 'REF',
  statement:
    'With nothing in flight, the type count of a frame equals its uses as that type, it has no uses as another, and linear entries and uses are counted.',
  judge: ({ machine, quiescent, audit, looks }: View): Problem | undefined => {
    if (!quiescent || !audit) return undefined;
    const { f, geometry } = machine;
    const all = usesByTables(machine);
    const pins = holdsOfPins(machine);
    for (let mfn = 1; mfn < geometry.frameCount; mfn += 1) {
      const uses = all.get(mfn);
      const role = frameRoles[f.frameRole.get(mfn)];
      const count = f.frameTypeCount.get(mfn);
      const isShared = role === 'sharedInfo' || role === 'grantFrame';
      const granted = pins.get(mfn)?.types ?? 0;
      const linear = linearOf(machine, mfn);
      if (uses === undefined && granted === 0 && linear === 0 && (count === 0 || isShared)) continue;
      looks?.('pv');
      const type = frameTypes[f.frameType.get(mfn)] ?? 'none';
      const own = isShared && isDirect(machine, f.frameOwner.get(mfn) - 1) ? 1 : 0;
      const expected = (uses?.types.get(type) ?? 0) + own + (type === 'writable' ? granted : 0);
      const others = [...(uses?.types.keys() ?? []), ...(granted > 0 ? ['writable'] : [])].filter(
        (one) => one !== type,
      );
      const links = (uses?.linear ?? 0) - (uses?.linearUses ?? 0);
      if (linear !== links) {
        const sentence = `frame ${mfn} counts ${linear} linear entries (below 0: uses) of ${links}`;
        return { invariant: 'REF', mechanism: 'pv', field: 'linear.uses', sentence };
      }
      if (count === expected && others.length === 0) continue;
      const sentence = `frame ${mfn} is ${type} with count ${count}, but used ${expected} times as that${others.map((one) => `, and as ${one}`).join('')}`;
      return { invariant: 'REF', mechanism: 'pv', field: 'type.uses', sentence };
    }
    return undefined;
  },
};

/** Letting go of a table lets go of what it leads to: of its own level that must not go on and on. */
export const linearTablesEndAtOnce: AlwaysLaw = {
  kind: 'always',
  id: 'pv/linearTablesEndAtOnce',
  invariant: 'WORK',
  statement: 'With nothing in flight, a table that leads to another of its own level is led to by none of that level.',
  judge: ({ machine, quiescent, audit, looks }: View): Problem | undefined => {
    if (!quiescent || !audit || !machine.pvLinear) return undefined;
    for (const [mfn, { linear, linearUses }] of usesByTables(machine)) {
      if (linear > 0) looks?.('pv');
      if (linear === 0 || linearUses === 0) continue;
      const sentence = `frame ${mfn} leads to tables of its own level ${linear} times, and is led to by such ${linearUses} times`;
      return { invariant: 'WORK', mechanism: 'pv', field: 'linear.depth', sentence };
    }
    return undefined;
  },
};

export const pvLaws: readonly AlwaysLaw[] = [typeCountsEqualUses, linearTablesEndAtOnce];
