// What must hold of a processor's accesses: the implementation's walkers are fast, the model's is the architecture's, and
// both read the same bytes. A first reader may skip the cutting of an access into pieces.
// Sources: Intel SDM vol. 3C, "EPT Translation Mechanism", "EPT Violations", "Accessed and Dirty Flags for EPT"; AMD64 APM
// vol. 2, "Nested Paging".

import type { Gfn, Mfn, Word } from '#abi/address.ts';
import { bytesPerFrame } from '#abi/geometry.ts';
import type { AccessOp } from '#abi/paging.ts';
import { RIGHT } from '#abi/rights.ts';
import { and } from '#lib/bits.ts';
import type { Machine } from '#impl/machine.ts';
import { walkNested, type Walk } from '#model/hap/walk.ts';
import { linearContext } from '#model/paging/context.ts';
import { lookAt } from '../harness/occasions.ts';
import type { AlwaysLaw, Problem } from '../harness/law.ts';
import { lastAttempt, type Returned, type View } from '../harness/view.ts';

/** Rights that each access needs: said once more, apart from model/paging/step.ts, for a slip that both sides share must not be here too. */
export const needs: Readonly<Record<AccessOp<'concrete'>['kind'], number>> = {
  'paging.read': RIGHT.read,
  'paging.write': RIGHT.write,
  'paging.compareExchange': RIGHT.read + RIGHT.write,
  'paging.fetch': RIGHT.execute,
};

/** The bytes of the machine as the architecture's walker reads them. */
export const readerOf =
  (m: Machine) =>
  (mfn: Mfn, index: number): Word => {
    const at = 2 * (mfn * m.geometry.wordsPerFrame + index);
    return { lo: m.f.memory.get(at), hi: m.f.memory.get(at + 1) };
  };

/** gfns that an access touches, in order, and for each whether the tables were walked for it. */
function pieces(m: Machine, op: AccessOp<'concrete'>, log: Returned['log']): readonly { gfn: Gfn; walked: boolean }[] {
  const size = bytesPerFrame(m.geometry);
  const first = op.gfn + Math.floor(op.offset / size);
  const answers = lastAttempt(log).filter(({ choice }) => choice.kind === 'walked' || choice.kind === 'cached');
  return answers.map(({ choice }, i) => ({ gfn: (first + i) as Gfn, walked: choice.kind === 'walked' }));
}

/** Every fresh walk of the access as the architecture has it. */
function walks(m: Machine, returned: Returned): readonly { gfn: Gfn; walk: Walk }[] {
  const { op, agent, reply } = returned;
  const log = lastAttempt(returned.log);
  // Refused while it was served: the tables may have changed since it walked, by others or by what was reclaimed for it.
  if (log.some(({ choice }) => choice.kind === 'failed')) return [];
  if (!('via' in op) || agent.kind !== 'vcpu' || (reply.status !== 'ok' && reply.status !== 'violation')) return [];
  // With paging on it is the guest's tables that say which gfns are looked up.
  if (linearContext(returned.before, agent) !== undefined) return [];
  const root = m.f.domRoot.get(agent.domain) as Mfn;
  return pieces(m, op, log)
    .filter(({ walked }) => walked)
    .map(({ gfn }) => ({
      gfn,
      walk: root === 0 ? { kind: 'violation', level: m.geometry.levels } : walkNested(m, readerOf(m), { root, gfn }),
    }));
}

const isAllowed = (walk: Walk, wanted: number): boolean => walk.kind === 'frame' && and(walk.rights, wanted) === wanted;

/** The fast walker and the architecture's come to the same end on the same bytes. */
export const accessesWalkArchitecturally: AlwaysLaw = {
  kind: 'always',
  id: 'paging/accessesWalkArchitecturally',
  invariant: 'WALK',
  statement: 'An access that walks the tables is refused exactly when the architecture refuses it.',
  judge: ({ machine, returned, looks }: View): Problem | undefined => {
    if (returned === undefined || !('via' in returned.op)) return undefined;
    const made = walks(machine, returned);
    if (made.length === 0) return undefined;
    looks?.('paging');
    const wanted = needs[returned.op.kind];
    const refusals = made.filter(({ walk }) => !isAllowed(walk, wanted));
    const isRefused = returned.reply.status === 'violation';
    if (isRefused === refusals.length > 0) return undefined;
    const gfn = (refusals[0] ?? made[0])?.gfn;
    const sentence = `an access of d${'domain' in returned.agent ? returned.agent.domain : '?'} through gfn ${gfn} is ${isRefused ? 'refused' : 'allowed'}, the architecture's walk says otherwise`;
    return { invariant: 'WALK', mechanism: 'paging', field: 'walk', sentence };
  },
};

/** Software that looks for written pages finds them. */
export const writesLeaveTheDirtyFlag: AlwaysLaw = {
  kind: 'always',
  id: 'paging/writesLeaveTheDirtyFlag',
  invariant: 'WALK',
  statement: 'After a write that walked the tables, its leaf is marked accessed and dirty; after a read, accessed.',
  judge: ({ machine, returned, looks }: View): Problem | undefined => {
    if (returned === undefined || !('via' in returned.op) || returned.reply.status !== 'ok') return undefined;
    const writes = and(needs[returned.op.kind], RIGHT.write) !== 0;
    for (const { gfn, walk } of walks(machine, returned)) {
      looks?.('paging');
      if (walk.kind !== 'frame' || (walk.accessed && (walk.dirty || !writes))) continue;
      const sentence = `gfn ${gfn} was ${writes ? 'written' : 'read'}, but its leaf at level ${walk.level} is not marked so`;
      return { invariant: 'WALK', mechanism: 'paging', field: 'walk.flags', sentence };
    }
    return undefined;
  },
};

/** With paging on, what comes of an access or of a hypercall's address is decided by the guest's own tables. */
export const guestTablesAreWalkedArchitecturally: AlwaysLaw = {
  kind: 'always',
  id: 'paging/guestTablesAreWalkedArchitecturally',
  invariant: 'WALK',
  statement: 'Processors and the hypervisor make of a linear address what the architecture makes of the guest\'s tables.', // prettier-ignore
  judge: (view: View): Problem | undefined => {
    lookAt('WALK', view);
    return view.problems.find(({ invariant }) => invariant === 'WALK');
  },
};

export const pagingLaws: readonly AlwaysLaw[] = [
  accessesWalkArchitecturally,
  writesLeaveTheDirtyFlag,
  guestTablesAreWalkedArchitecturally,
];
