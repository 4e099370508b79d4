// All leaves of one type become leaves of another, where they are: no table comes or goes, and superpages stay. One act.
// What a listener has left of their rights stays. A first reader may skip it. Sources: Xen arch/x86/mm/p2m.c (p2m_change_entry_type_global); there entries are only marked, and
// changed when a processor comes by (mm/p2m-ept.c, resolve_misconfig; mm/p2m-pt.c, do_recalc).

import type { P2mType } from '#abi/hap.ts';
import { tableEntries } from '#abi/geometry.ts';
import { invariant } from '#lib/invariant.ts';
import type { Machine } from '../machine.ts';
import type { Step } from '../port.ts';
import { markFlush } from '../tlb/flush.ts';
import { codeOf, entryAt, storeEntry } from './entry.ts';

interface Retyping {
  readonly from: P2mType;
  readonly to: P2mType;
}

/** Changes the leaves below a table; whether there was one that processors may remember. */
function below(
  m: Machine,
  { table, level }: { readonly table: number; readonly level: number },
  how: Retyping,
): boolean {
  const { accessIn, codeIn, frameIn, isPresent, isTable, leafHigh, leafLow } = m.entries;
  let isChanged = false;
  for (let index = 0; index < tableEntries(m.geometry); index += 1) {
    const at = entryAt(m, table, index);
    const low = m.f.memory.get(at);
    const high = m.f.memory.get(at + 1);
    if (isTable(low, high)) {
      if (below(m, { table: frameIn(low, high), level: level - 1 }, how)) isChanged = true;
      continue;
    }
    if (codeIn(high) !== codeOf(how.from)) continue;
    const leaf = { mfn: frameIn(low, high), level, code: codeOf(how.to), access: accessIn(high), flags: 0 };
    storeEntry(m, { table, index }, { lo: leafLow(leaf), hi: leafHigh(leaf) });
    if (isPresent(low)) isChanged = true;
  }
  return isChanged;
}

/** Changes all leaves of `dom`, the P2M lock held; processors forget at its unlock. `entered` is done in the same act. */
export function* retype(m: Machine, dom: number, how: Retyping, entered: () => void): Step<void> {
  invariant(m.f.p2mLock.get(dom) !== 0, 'types are changed under the P2M lock');
  yield* m.port.point('store', 'table');
  entered();
  const table = m.f.domRoot.get(dom);
  if (table === 0 || !below(m, { table, level: m.geometry.levels }, how)) return;
  markFlush(m, dom);
  m.f.p2mNeedFlush.set(dom, 1);
}
