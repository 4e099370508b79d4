// Entries of lowest tables that paravirtual guests have had changed lately: whoever walks next should go there, and what was changed is
// changed back soon, for processors may still go by what stood there meanwhile.
// A first reader may skip this file.

import type { DomId } from '#abi/address.ts';
import type { Agent } from '#abi/agents.ts';
import type { Literal } from '#abi/operand.ts';
import { contextOf } from '#model/paging/context.ts';
import { wordAt } from '#model/words.ts';
import type { Gen } from '../harness/decisions.ts';
import { linearOf, pagesThrough, treeOf } from '../paging/tables.ts';
import { entryOrNothing, type Slot } from './entries.ts';

/** A vCPU of a guest that could go by its tables. */
const walkerOf = (g: Gen, id: DomId): Extract<Agent, { kind: 'vcpu' }> | undefined => {
  const one = g.callers().find(({ domain }) => domain === id);
  return one && { kind: 'vcpu', ...one };
};

/** Notes that an entry is to be changed, if it is one of the lowest tables that a vCPU of the guest goes by. */
export function noteChange(g: Gen, id: DomId, { mfn, index }: Slot): void {
  const walker = walkerOf(g, id);
  if (walker === undefined) return;
  const tree = treeOf(g.state, walker);
  const table = tree.tables.find((one) => one.mfn === mfn && one.level === 1);
  if (table === undefined) return;
  const place = { table, index };
  const pages = pagesThrough(g.geometry, tree, place).map((page) => linearOf(g.geometry, page));
  const { root } = contextOf(g.state, walker);
  g.changes.note({ domain: id, root, place, was: wordAt(g.state, mfn, index), pages });
}

/** The last such change of a guest, and what undoes it. */
export function takenBack(g: Gen, id: DomId): { readonly slot: Slot; readonly value: Literal } | undefined {
  const walker = walkerOf(g, id);
  const last = walker && g.changes.lastOf(id, contextOf(g.state, walker).root);
  if (last === undefined) return undefined;
  const { table, index } = last.place;
  return { slot: { mfn: table.mfn, level: 1, index }, value: entryOrNothing(g, last.was) };
}
