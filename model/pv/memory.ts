// Memory of a paravirtual guest comes and goes by machine frame: there is no P2M, only what each frame is called (M2P). A page that is
// given back stays as long as somebody refers to it, a table say: types are not looked at.
// A first reader may skip nothing. Source: Xen common/memory.c (populate_physmap, decrease_reservation, guest_remove_page).

import { type Gfn, INVALID_GFN, type Mfn } from '#abi/address.ts';
import { high21, low32, pow2 } from '#lib/bits.ts';
import { storeWord } from '../buffers.ts';
import type { Cut } from '../cut.ts';
import { at, end, go, isSame, type OpOf, type Task, type Turn } from '../progress.ts';
import { frameOf, withFrame, type Domain, type State } from '../state.ts';
import { isHalt, prepare, runOne, type Ran } from './run.ts';
import { attempt, fail, NO_PV_WORK, pvWork, type Todo } from './work.ts';

type Populate = Task<OpOf<'memory.populate' | 'memory.populateOnDemand' | 'memory.increase' | 'memory.decrease'>>;

/** The pages of a new extent are called by their guest's names, one by one, unless they have gone with their domain. */
export function nameExtent(cut: Cut, task: Populate, domain: Domain): Turn {
  const { op, work } = task;
  const { part, index, gfn } = work;
  const mfn = (work.mfn + part) as Mfn;
  const isOwn = isSame(cut.state, work) && frameOf(cut.state, work.mfn).owner === domain.id;
  if (!isOwn) return end(cut, 'EINVAL', { done: index });
  // No frame has a name beyond the last one.
  const name = Math.min(gfn + part, INVALID_GFN) as Gfn;
  const named = at(cut, withFrame(cut.state, mfn, { pseudo: name }));
  if (part + 1 < pow2(op.order)) return go(named, task, { part: part + 1 });
  const isTold = op.kind !== 'memory.increase' && op.extents.by === 'buffer';
  return go(named, task, isTold ? { at: 'copyBack' } : { at: 'next', index: index + 1 });
}

/** The caller is told in its own list which frames it got. */
export function tellExtent(cut: Cut, task: Populate): Turn {
  const { op, work } = task;
  const { index, mfn } = work;
  if (op.kind === 'memory.increase' || op.extents.by !== 'buffer') return end(cut, 'EINVAL', { done: index });
  const word = { lo: low32(mfn), hi: high21(mfn) };
  const stored = storeWord(cut, task, { buffer: op.extents.buffer, index, word });
  if (!stored.ok) return end(stored.cut, 'EFAULT', { done: index });
  return go(stored.cut, task, { at: 'next', index: index + 1 });
}

/** Page `part` of an extent that is given back. */
function leaving({ geometry }: State, { work }: Populate, domain: Domain): Todo {
  const mfn = (work.gfn + work.part) as Mfn;
  if (mfn >= geometry.frameCount) return [fail('EINVAL')];
  return [
    attempt({ do: 'getPage', mfn, owner: domain.id }, 'ENXIO'),
    { do: 'dropAllocated', mfn },
    { do: 'putPage', mfn },
  ];
}

/** One micro-step of giving an extent back. */
export function giveBack(cut: Cut, task: Populate, domain: Domain): Turn {
  const { op, work } = task;
  const { index, part, pv } = work;
  const ran: Ran = pv.todo.length > 0 ? runOne(cut, pv.todo) : prepare(cut, leaving(cut.state, task, domain));
  if (ran.failed !== undefined && !isHalt(ran.failed)) return end(ran.cut, ran.failed, { done: index });
  if (ran.todo.length > 0) return go(ran.cut, task, { pv: pvWork(ran.todo) });
  if (part + 1 === pow2(op.order)) return go(ran.cut, task, { at: 'next', index: index + 1, pv: NO_PV_WORK });
  return go(ran.cut, task, { part: part + 1, pv: NO_PV_WORK });
}
