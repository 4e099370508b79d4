// The end of a mapper: a dying domain gives up its mappings of others' grants one by one, from the highest handle down, so
// that the granters see their pins and status bits go. Nothing runs the domain any more, so no flush is owed.
// The end of a granter revokes nothing: mapped frames stay with their dead owner until the last use ends.
// Source: Xen common/grant_table.c (gnttab_release_mappings).

import { mapFlags } from '#abi/grants.ts';
import { hasAny, without } from '#lib/bits.ts';
import { lockP2m, lookup, unlockP2m } from '../hap/table.ts';
import type { Machine } from '../machine.ts';
import { setP2m } from '../memory/p2m.ts';
import { isParavirtual } from '../memory/target.ts';
import type { Step } from '../port.ts';
import { activeAt, dropPins, letGoOf } from './active.ts';
import { giveHandle, handleCount, isStill, mappedAt, type Mapped } from './maptrack.ts';

/** Gives up the mapping of the highest handle of `dom`, which is dying; false: there is none left. */
export function* releaseHandle(m: Machine, dom: number): Step<boolean> {
  for (let handle = handleCount(m, dom) - 1; handle >= 0; handle -= 1) {
    const mapped = mappedAt(m, dom, handle);
    if (mapped === undefined) continue;
    const { granter, ref, flags } = mapped;
    if (!isStill(m, mapped)) {
      // Its mapper has taken the entry away by other means, and nothing has kept the granter.
      yield* giveHandle(m, dom, handle);
      return true;
    }
    const mfn = m.f.activeMfn.get(activeAt(m, mapped));
    const isNative = isParavirtual(m, dom);
    if (hasAny(flags, mapFlags.host) && !isNative) yield* hide(m, dom, { ...mapped, mfn });
    yield* giveHandle(m, dom, handle);
    yield* dropPins(m, { granter, ref, mfn, flags });
    // What a paravirtual guest has in its tables goes with those.
    yield* letGoOf(m, { granter, mfn, flags: isNative ? without(flags, mapFlags.host) : flags });
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
