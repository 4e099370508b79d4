// Pages for tables: all that a change needs are taken from the domain's pool before it begins, so a refusal leaves
// everything as it was; tables that a change has unhooked go back, children first, once no processor remembers them.
// Sources: Xen mm/p2m.c (p2m_alloc_ptp, p2m_free_ptp), mm/p2m-ept.c (ept_free_entry).

import { tableEntries } from '#abi/geometry.ts';
import type { Machine } from '../machine.ts';
import { giveTable, poolSpare, takeTable } from '../memory/pool.ts';
import { isAlive } from '../memory/target.ts';
import type { Step } from '../port.ts';
import { entryAt } from './entry.ts';

/** Zeroed pages as asked; undefined if the pool refuses one (that of a dying domain gives none): then those taken by then are back. */
export function* reserve(
  m: Machine,
  dom: number,
  want: { readonly count: number; readonly done: number | undefined },
): Step<number[] | undefined> {
  const taken: number[] = [];
  while (taken.length < want.count) {
    const injected = m.port.fails('pool');
    if (injected || poolSpare(m, dom) === 0 || !isAlive(m, dom)) {
      m.port.refuse('pool', want.done);
      for (const mfn of taken.toReversed()) yield* giveTable(m, dom, mfn);
      return undefined;
    }
    taken.push(yield* takeTable(m, dom));
  }
  return taken;
}

/** Gives a table and all under it back to the pool, children first. No processor may remember any of them. */
export function* giveTree(
  m: Machine,
  dom: number,
  tree: { readonly table: number; readonly level: number },
): Step<void> {
  const { frameIn, isTable } = m.entries;
  const { table, level } = tree;
  for (let index = 0; level > 1 && index < tableEntries(m.geometry); index += 1) {
    const at = entryAt(m, table, index);
    const low = m.f.memory.get(at);
    const high = m.f.memory.get(at + 1);
    if (isTable(low, high)) yield* giveTree(m, dom, { table: frameIn(low, high), level: level - 1 });
  }
  yield* giveTable(m, dom, table);
}
