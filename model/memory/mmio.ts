// Frames of devices: who may have them at gfns, and putting them there. The toolstack says what a domain may be given (its own
// permissions bound that) and then maps; what was mapped stays when a permission is taken back. Frames of devices are no
// memory: they are nobody's, count nothing, and are never freed.
// A range is mapped in pieces as large as superpages can be; only so many in one call. A piece that cannot be made ends the call,
// which then tells how far it came; nothing is undone. RAM that was at the gfn is orphaned: owned, at no gfn.
// How large pieces are depends on the tables that are there, which this model does not know: it follows where the call stops.
// A first reader may skip `stopAfter`. Sources: Xen common/domctl.c (XEN_DOMCTL_iomem_permission, XEN_DOMCTL_memory_mapping),
// arch/x86/mm/p2m.c (map_mmio_regions, unmap_mmio_regions, set_typed_p2m_entry, clear_mmio_p2m_entry).

import type { DomId, Gfn, Mfn } from '#abi/address.ts';
import { gfnCount, type Geometry } from '#abi/geometry.ts';
import type { Errno } from '#abi/reply.ts';
import { pow2 } from '#lib/bits.ts';
import { Trie } from '#lib/trie.ts';
import { failure, preemption, refuse, type Cut } from '../cut.ts';
import { crash } from '../frames.ts';
import { setP2m, settle } from '../p2m.ts';
import { at, end, go, type OpOf, type Task, type Turn } from '../progress.ts';
import { isSpecialType, withDomain, type Domain, type State } from '../state.ts';

type Permit = OpOf<'memory.iomemPermission'>;
type Mapping = OpOf<'memory.mapMmio'>;

/** The control domain begins with all devices, others with none. */
export const initialPermissions = (geometry: Geometry, id: DomId): Trie<true> =>
  Array.from({ length: id === 0 ? geometry.deviceFrames : 0 }).reduce<Trie<true>>(
    (trie, _, i) => trie.set(geometry.frameCount + i, true),
    Trie.empty<true>(),
  );

/** Whether `id` may have every frame of a run. */
function isPermitted(state: State, id: DomId, run: { readonly mfn: number; readonly count: number }): boolean {
  const iomem = state.domains.get(id)?.iomem;
  if (iomem === undefined || run.count > state.geometry.deviceFrames || run.count <= 0) return false;
  return Array.from({ length: run.count }, (_, i) => run.mfn + i).every((mfn) => iomem.has(mfn));
}

/** Lets a domain be given devices, or no more. Nobody can allow what it has not itself. */
export function iomemPermission(cut: Cut, task: Task<Permit>): Turn {
  const { op, caller } = task;
  const { state } = cut;
  const domain = state.domains.get(op.target);
  if (domain === undefined) return end(cut, 'ESRCH');
  if (op.count === 0 && op.frame > 0) return end(cut, 'EINVAL');
  if (caller !== 0 || !isPermitted(state, caller, { mfn: op.frame, count: op.count })) return end(cut, 'EPERM');
  let { iomem, iomemEver } = domain;
  for (let mfn = op.frame as number; mfn < op.frame + op.count; mfn += 1) {
    iomem = op.allow === 'yes' ? iomem.set(mfn, true) : iomem.delete(mfn);
    if (op.allow === 'yes') iomemEver = iomemEver.set(mfn, true);
  }
  return end(at(cut, withDomain(state, domain.id, { iomem, iomemEver })), 'ok');
}

/** What is wrong with the numbers: nothing is left to do, or there are no such frames. */
function isIllegal({ geometry }: State, { frame, count, start }: Mapping): boolean {
  return count <= start || frame + count - 1 >= pow2(geometry.maxPhysAddr - 12);
}

/** One micro-step: the checks, or one gfn. */
export function mapMmio(cut: Cut, task: Task<Mapping>): Turn {
  const { op, work, caller } = task;
  const { state } = cut;
  const domain = state.domains.get(op.target);
  if (domain === undefined) return end(cut, 'ESRCH');
  if (work.at !== 'begin') return work.at === 'check' ? change(cut, task, domain) : border(cut, task);
  if (isIllegal(state, op)) return end(cut, 'EINVAL');
  const run = { mfn: op.frame + op.start, count: op.count - op.start };
  if (caller !== 0 || !isPermitted(state, caller, run) || !isPermitted(state, domain.id, run)) return end(cut, 'EPERM');
  // A paravirtual guest maps them itself.
  if (domain.kind === 'pv') return end(cut, 'ok', { done: op.count });
  return go(cut, task, { at: 'check', index: op.start });
}

/** Between two gfns: the end, or as many pieces are made as one call may make. */
function border(cut: Cut, task: Task<Mapping>): Turn {
  const { op, work } = task;
  const settled = at(cut, settle(cut.state, task.debts));
  if (work.index === op.count) return end(settled, 'ok', { done: work.index });
  const stopped = preemption(settled, work.index);
  if (stopped === undefined) return go(settled, task, { at: 'check' });
  if (work.index - op.start < cut.state.geometry.capacity.devicePieces)
    return refuse('a mapping of devices stops although it may make more pieces', 'refines');
  return end(stopped, 'preempted', { done: work.index });
}

/** The call ends at a piece that cannot be made: an error if it is the first, else it says how far it came. */
const stopAfter = (cut: Cut, task: Task<Mapping>, errno: Errno): Turn =>
  task.work.index === task.op.start
    ? end(cut, errno, { done: task.work.index })
    : end(cut, 'preempted', { done: task.work.index });

function change(cut: Cut, task: Task<Mapping>, domain: Domain): Turn {
  const { op, work } = task;
  const { state } = cut;
  const place = { domain: domain.id, gfn: (op.gfn + work.index) as Gfn };
  const mfn = (op.frame + work.index) as Mfn;
  const next = { at: 'next', index: work.index + 1 } as const;
  const entry = domain.p2m.get(place.gfn);
  if (op.action === 'unmaps' && entry?.type !== 'mmioDirect') return stopAfter(cut, task, 'EINVAL');
  if (op.action === 'maps' && entry !== undefined && isSpecialType(entry.type)) {
    if (entry.type === 'mmioDirect' && entry.mfn === mfn) return go(cut, task, next);
    return stopAfter(at(cut, crash(state, domain.id)), task, 'EPERM');
  }
  if (place.gfn >= gfnCount(state.geometry)) return stopAfter(cut, task, 'EINVAL');
  const failed = failure(cut, { class: 'pool', domain: domain.id, done: work.index });
  if (failed !== undefined) return stopAfter(failed, task, 'ENOMEM');
  const to = op.action === 'maps' ? ({ mfn, type: 'mmioDirect' } as const) : undefined;
  return go(at(cut, setP2m(state, place, to)), task, next);
}
