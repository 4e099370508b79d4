// What grants of paravirtual guests have beside others: their frames are used by type, so whoever may write one holds it as writable;
// and who maps one has it in its own tables, whose entries then hold it. All of it is a list that is worked off act by act.
// A first reader may skip nothing. Sources: Xen common/grant_table.c (map_grant_ref, unmap_common_complete,
// gnttab_release_mappings), asm/grant_table.h (gnttab_host_mapping_get_page_type, gnttab_release_host_mappings).

import type { DomId, Gfn, Mfn } from '#abi/address.ts';
import { mapFlags } from '#abi/grants.ts';
import { hasAny, without } from '#lib/bits.ts';
import type { Cut } from '../cut.ts';
import { contextOf } from '../paging/context.ts';
import { changedWork, go, type At, type Grip, type Situation, type Turn } from '../progress.ts';
import type { Place } from '../pv/granted.ts';
import { prepare, runOne, type Ran } from '../pv/run.ts';
import { attempt, NO_PV_WORK, pvWork, type Item, type Todo } from '../pv/work.ts';
import { isParavirtual, type State } from '../state.ts';
import { countersOf, isReadOnly } from './pins.ts';

/** How many uses by type a use with these map flags has. */
const typesOf = (state: State, granter: DomId, flags: number): number =>
  isReadOnly(flags) || !isParavirtual(state, granter) ? 0 : countersOf(flags).length;

const times = (count: number, one: Item): Todo => Array.from({ length: count }, () => one);

/** A frame that is held comes to be used as writable, as often as a use asks for; nothing if it cannot be. */
export const typing = (state: State, { granter, mfn, flags }: Omit<Grip, 'ref'>): Todo =>
  times(typesOf(state, granter, flags), { do: 'getType', mfn, type: 'writable' }).map((one, i) =>
    attempt(one, undefined, ...times(i, { do: 'putType', mfn })),
  );

/** What a use holds is let go of, once its pins have gone. `isTyped`: its types as well. */
export const untyping = (state: State, { granter, mfn, flags }: Omit<Grip, 'ref'>, isTyped = true): Todo => [
  ...times(isTyped ? typesOf(state, granter, flags) : 0, { do: 'putType', mfn }),
  ...times(countersOf(flags).length, { do: 'putPage', mfn }),
];

/** What a mapper that is torn down lets go of itself: a paravirtual one's tables let go of what they have. */
export const releasing = (state: State, mapper: DomId, flags: number): number =>
  isParavirtual(state, mapper) ? without(flags, mapFlags.host) : flags;

/** Whether the caller says where its mapping is: a paravirtual guest's address zero is none. */
export const isGiven = (state: State, caller: DomId, at: { readonly gfn: Gfn; readonly offset: number }): boolean =>
  !isParavirtual(state, caller) || at.gfn > 0 || at.offset > 0;

/** The entry that a paravirtual caller means by an address; `flags` say how. */
export function placeOf(
  { state }: Cut,
  { agent }: Situation,
  at: { readonly gfn: Gfn; readonly offset: number; readonly flags: number },
): Place {
  const { gfn, offset, flags } = at;
  if (hasAny(flags, mapFlags.containsPte)) return { by: 'address', mfn: gfn as number as Mfn, offset };
  return { by: 'page', root: rootOf(state, agent), page: gfn };
}

/** The root of the caller's kernel. */
export const rootOf = (state: State, agent: Situation['agent']): Mfn =>
  (agent.kind === 'vcpu' ? contextOf(state, agent).root : 0) as number as Mfn;

/** How an operation goes on when its list is done, or has failed. */
export type Then = (cut: Cut, task: Situation, isDone: boolean) => Turn;

const goneOn = (ran: Ran, task: Situation, at: { readonly at: At; readonly then: Then }): Turn => {
  if (ran.todo.length > 0) return go(ran.cut, task, { at: at.at, pv: pvWork(ran.todo) });
  const work = changedWork(task.work, { pv: NO_PV_WORK });
  return at.then(ran.cut, { ...task, work }, ran.failed === undefined);
};

/** A list is begun with: no time passes before its first act. */
export const starting = (cut: Cut, task: Situation, todo: Todo, how: { readonly at: At; readonly then: Then }): Turn =>
  goneOn(prepare(cut, todo), task, how);

/** Its next act. */
export const working = (cut: Cut, task: Situation, how: { readonly at: At; readonly then: Then }): Turn =>
  goneOn(runOne(cut, task.work.pv.todo), task, how);

/** Whether the caller has grant operations: of a paravirtual guest a processor, if the guest has a grant table. */
export const mayGrant = (state: State, { agent, caller }: Situation): boolean => {
  const domain = state.domains.get(caller);
  return domain?.kind !== 'pv' || (agent.kind === 'vcpu' && domain.grants.limit > 0);
};
