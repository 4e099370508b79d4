// Laws about the run itself rather than about one mechanism: that both sides agree, that nobody reaches what is not theirs,
// and that the hypervisor neither fails, hangs nor strays. The list of all `always` laws in the order in which they judge:
// isolation first, for a leak says more than the disagreement that comes with it.

import type { Invariant } from '#abi/invariants.ts';
import { invariants } from '#abi/invariants.ts';
import { frameRoles } from '#abi/roles.ts';
import { domStates, refsOf } from '#impl/layout.ts';
import type { FieldName } from '#impl/layout.ts';
import { grantsLaws } from '../grants/laws.ts';
import { hapLaws } from '../hap/laws.ts';
import { memoryLaws } from '../memory/laws.ts';
import { pagingLaws } from '../paging/laws.ts';
import { linearLaws } from '../tlb/linear-laws.ts';
import { pvLaws } from '../pv/laws.ts';
import { tlbLaws } from '../tlb/laws.ts';
import type { AlwaysLaw, Problem } from './law.ts';
import { lookAt } from './occasions.ts';
import type { View } from './view.ts';
import { workIsBounded } from './work.ts';

/** A law that reports what driving the two sides has found to break `invariant`. When there was occasion to: occasions.ts. */
const driven = (invariant: Invariant, id: string, statement: string): AlwaysLaw => ({
  kind: 'always',
  id: `harness/${id}`,
  invariant,
  statement,
  judge: (view) => {
    lookAt(invariant, view);
    return view.problems.find((problem) => problem.invariant === invariant);
  },
});

const lockFields = [
  'p2mLock',
  'grantLock',
  'maptrackLock',
  'domainLock',
  'activeLock',
  'heapLock',
  'pageLock',
] as const satisfies readonly FieldName[];

/** At rest no lock is held and no deferral is open. */
const noLockIsKept: AlwaysLaw = {
  kind: 'always',
  id: 'harness/noLockIsKept',
  invariant: 'LOCK',
  statement: invariants.LOCK,
  judge: ({ machine, quiescent, audit, problems, looks }: View): Problem | undefined => {
    const circle = problems.find(({ invariant }) => invariant === 'LOCK');
    if (circle !== undefined || !quiescent) return circle;
    const { f, geometry } = machine;
    for (const name of lockFields) {
      const field = f[name];
      // The many locks of active entries are looked at when everything is.
      if ((name === 'activeLock' || name === 'pageLock') && !audit && field.length > 64) continue;
      for (let i = 0; i < field.length; i += 1)
        if (field.get(i) !== 0) return kept(name, name === 'activeLock' ? Math.floor(i / refsOf(geometry)) : i);
    }
    looks?.('memory');
    looks?.('grants');
    for (let id = 0; id < geometry.capacity.domains; id += 1)
      if (f.p2mDepth.get(id) + f.p2mDefer.get(id) + f.domBusy.get(id) !== 0) return kept('p2mDepth', id);
    return undefined;
  },
};

const kept = (name: string, id: number): Problem => ({
  invariant: 'LOCK',
  mechanism:
    name === 'grantLock' || name === 'activeLock' || name === 'maptrackLock'
      ? 'grants'
      : name === 'pageLock'
        ? 'pv'
        : 'memory',
  field: `lock.${name}`,
  sentence: `${name} of d${id} is still held although nothing is in flight`,
});

/** A domain that is gone owns nothing. */
const nothingIsLeftBehind: AlwaysLaw = {
  kind: 'always',
  id: 'harness/nothingIsLeftBehind',
  invariant: 'LIFE',
  statement: invariants.LIFE,
  judge: ({ machine, audit, problems, looks }: View): Problem | undefined => {
    const told = problems.find(({ invariant }) => invariant === 'LIFE');
    if (told !== undefined || !audit) return told;
    const { f, geometry } = machine;
    for (let id = 0; id < geometry.capacity.domains; id += 1)
      if (f.domLife.get(id) > 0 && domStates[f.domState.get(id)] === 'none') looks?.('memory');
    for (let mfn = 0; mfn < geometry.frameCount; mfn += 1) {
      const owner = f.frameOwner.get(mfn) - 1;
      if (owner < 0 || domStates[f.domState.get(owner)] !== 'none') continue;
      const role = frameRoles[f.frameRole.get(mfn)] ?? 'free';
      const sentence = `frame ${mfn} (${role}) is still owned by d${owner}, which is gone`;
      return { invariant: 'LIFE', mechanism: 'memory', field: `frame.${role}`, sentence };
    }
    return undefined;
  },
};

const strays = [
  driven('XEN', 'noGuestAddressesTheHypervisor', invariants.XEN),
  driven('CRASH', 'noAssertionFails', invariants.CRASH),
  noLockIsKept,
  driven('ACT', 'everyActIsAuthorised', invariants.ACT),
  workIsBounded,
];

const agreements = [
  driven('PRIV', 'onlyManagersManage', invariants.PRIV),
  driven('FREE', 'everyUseIsOfThePresentLife', invariants.FREE),
  driven('STALE', 'nothingIsUsedPastItsFlush', invariants.STALE),
  driven('LEAK', 'framesAreErasedBeforeTheyAreHandedOver', invariants.LEAK),
  driven('REF', 'countersEqualTheModel', invariants.REF),
  driven('M2P', 'bothMapsAgree', invariants.M2P),
  driven('STATUS', 'statusBitsMatchTheState', invariants.STATUS),
  driven('ERR', 'refusalsHaveNoOtherEffects', invariants.ERR),
  nothingIsLeftBehind,
  {
    ...driven('refines', 'bothSidesAgree', invariants.refines),
    // The last law: what no other has claimed is a disagreement too.
    judge: (view: View): Problem | undefined => {
      lookAt('refines', view);
      return view.problems[0];
    },
  },
];

/** All laws of one lockstep run, in the order in which they judge. */
export const alwaysLaws: readonly AlwaysLaw[] = [
  ...strays,
  ...linearLaws,
  ...tlbLaws,
  ...hapLaws,
  ...grantsLaws,
  ...memoryLaws,
  ...pagingLaws,
  ...pvLaws,
  ...agreements,
];
