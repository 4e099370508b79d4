// The end of a mapper: a dying domain gives up its mappings of others' grants one by one, from the highest handle down, so
// that the granters see their pins and status bits go. Nothing runs the domain any more, so no flush is owed.
// The end of a granter revokes nothing: mapped frames stay with their dead owner until the last use ends.
// Source: Xen common/grant_table.c (gnttab_release_mappings).

import { mapFlags } from '#abi/grants.ts';
import { hasAny } from '#lib/bits.ts';
import { lockP2m, lookup, unlockP2m } from '../hap/table.ts';
import type { Machine } from '../machine.ts';
import { setP2m } from '../memory/p2m.ts';
import type { Step } from '../port.ts';
import { activeAt, dropGrip } from './active.ts';
import { giveHandle, handleCount, mappedAt, type Mapped } from './maptrack.ts';

/** Gives up the mapping of the highest handle of `dom`, which is dying; false: there is none left. */
export function* releaseHandle(m: Machine, dom: number): Step<boolean> {
  for (let handle = handleCount(m, dom) - 1; handle >= 0; handle -= 1) {
    const mapped = mappedAt(m, dom, handle);
    if (mapped === undefined) continue;
    const { granter, ref, flags } = mapped;
    const mfn = m.f.activeMfn.get(activeAt(m, mapped));
    if (hasAny(flags, mapFlags.host)) yield* hide(m, dom, { ...mapped, mfn });
    yield* giveHandle(m, dom, handle);
    yield* dropGrip(m, { granter, ref, mfn, flags });
    return true;
  }
  return false;
}

/** Takes the entry away, if it is there. */
function* hide(m: Machine, dom: number, { gfn, mfn }: Mapped & { readonly mfn: number }): Step<void> {
  yield* lockP2m(m, dom);
  const found = lookup(m, dom, gfn);
  const isGrant = found !== undefined && (found.type === 'grantRw' || found.type === 'grantRo');
  if (isGrant && found.mfn === mfn) yield* setP2m(m, dom, { gfn, order: 0, mfn: 0, type: 'none' });
  yield* unlockP2m(m, dom);
}
