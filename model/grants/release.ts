// The end of a mapper: a dying domain gives up its mappings of others' grants, handle by handle, and cannot use them any more, for nothing
// runs it. What a paravirtual guest has in its tables goes with those; until then they hold it.
// A first reader may skip nothing. Source: Xen common/grant_table.c (gnttab_release_mappings).

import { refuse, type Cut } from '../cut.ts';
import { isStill } from '../life.ts';
import { setP2m } from '../p2m.ts';
import { at, go, type Grip, type Situation, type Turn } from '../progress.ts';
import { pvWork } from '../pv/work.ts';
import { isParavirtual, withGrants, type Domain, type Mapped, type State } from '../state.ts';
import { releasing, untyping } from './native.ts';
import { dropGrip, dropPins } from './pins.ts';

/** The mapping disappears from the address space, if it is there. */
function hidden(state: State, domain: Domain, grip: Grip, { gfn }: Mapped): State {
  const isHere = domain.p2m.get(gfn)?.mfn === grip.mfn;
  return isHere ? setP2m(state, { domain: domain.id, gfn }, undefined) : state;
}

/** Gives up the mapping of the highest handle; undefined: there is none left. `part` counts them. */
export function giveHandle(cut: Cut, task: Situation, domain: Domain): Turn | undefined {
  const { part } = task.work;
  const handle = domain.grants.handles.keys().findLast((one) => domain.grants.handles.get(one)?.flags !== 0);
  const mapped = handle === undefined ? undefined : domain.grants.handles.get(handle);
  if (handle === undefined || mapped === undefined) return undefined;
  const left = withGrants(cut.state, domain.id, { handles: domain.grants.handles.delete(handle) });
  const { domain: granter, ref, flags, life } = mapped;
  // Its granter may have gone if its mapper has taken the entry away by other means.
  if (!isStill(cut.state, granter, life)) return go(at(cut, left), task, { at: 'next', part: part + 1 });
  const mfn = cut.state.domains.get(granter)?.grants.active.get(ref)?.mfn;
  if (mfn === undefined) return refuse(`handle ${handle} maps a grant that is not active`, 'REF');
  const grip = { granter, ref, mfn, flags };
  const unmapped = hidden(left, domain, grip, mapped);
  const isNative = isParavirtual(cut.state, granter) || isParavirtual(cut.state, domain.id);
  if (!isNative) return go(at(cut, dropGrip(unmapped, grip)), task, { at: 'next', part: part + 1 });
  const todo = untyping(cut.state, { granter, mfn, flags: releasing(cut.state, domain.id, flags) });
  const dropped = at(cut, dropPins(unmapped, grip));
  return go(dropped, task, { at: 'next', pv: pvWork(todo), part: todo.length > 0 ? part : part + 1 });
}
