// Changing one entry of a table that is in use, its page locked: the new entry holds what it leads to before it is written, and what the
// old one held is let go of after that, so that whoever walks the table meanwhile finds nothing that is not held.
// A first reader may skip `write`. Sources: Xen arch/x86/mm.c (mod_l1_entry to mod_l4_entry), arch/x86/pv/mm.h (update_intpte).

import type { Machine } from '../machine.ts';
import type { Step } from '../port.ts';
import { adjusted, frameIn, isHarmless, isPresent, isXenSlot, keepingFlags, type Entry } from './entry.ts';
import { tableOf } from './frames.ts';
import { dropEntry, isLinear } from './linear.ts';
import { letGoOfLeaf, type Table } from './release.ts';
import { refusal, takeEntry, type Unfit } from './types.ts';

/** What is to stand at `index`; whether it keeps the flags that processors have set there. */
export interface Change extends Entry {
  readonly index: number;
  readonly keepsFlags: boolean;
}

/** What has been replaced above pages, and must be let go of when no processor walks it any more. */
export interface Replaced {
  readonly below: number;
  /** Whether it is a table of the same level. */
  readonly isLinear: boolean;
}

/** Changes the entry; why not, or what is left to be let go of. */
export function* changeEntry(m: Machine, table: Table, change: Change): Step<Unfit | Replaced | undefined> {
  const { mfn, level, owner } = table;
  const { index } = change;
  if (isXenSlot(m, level, index)) return 'EINVAL';
  const isThere = isPresent(change);
  if (isThere && refusal(m, table, change) !== undefined) return 'EINVAL';
  const wanted = isThere ? adjusted(change, level, level === m.geometry.levels) : change;
  yield* m.port.load(tableOf(owner), 'table', { mfn, index });
  const old = { lo: m.port.lo, hi: m.port.hi };
  const isKept = isThere && isPresent(old) && isHarmless(old, wanted);
  const taken = isThere && !isKept ? yield* takeEntry(m, table, wanted) : wanted;
  if (typeof taken === 'string') return taken;
  yield* write(m, table, { ...change, lo: taken.lo, hi: taken.hi });
  if (isKept || !isPresent(old)) return undefined;
  if (level > 1) return yield* replaced(m, table, frameIn(old));
  yield* letGoOfLeaf(m, owner, old);
  return undefined;
}

/** A table is led to by one entry less; that very table is nothing to be let go of. */
function* replaced(m: Machine, table: Table, below: number): Step<Replaced | undefined> {
  if (below === table.mfn) return undefined;
  const isUsedLinear = isLinear(m, table, below);
  if (isUsedLinear) yield* dropEntry(m, table.mfn);
  return { below, isLinear: isUsedLinear };
}

function* write(m: Machine, { mfn, owner }: Table, { index, keepsFlags, lo, hi }: Change): Step<void> {
  const who = tableOf(owner);
  if (!keepsFlags) {
    yield* m.port.store(who, 'table', { mfn, index, lo, hi });
    return;
  }
  yield* m.port.point('compareExchange', 'table');
  const there = m.port.peek(who, { mfn, index });
  m.port.poke(who, { mfn, index, ...keepingFlags({ lo, hi }, there) });
}
