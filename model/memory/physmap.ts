// Putting hypervisor pages, own frames and foreign frames at a gfn, and taking what is there away.
// Order: the previous page is unhooked and freed, then the frame leaves its old gfn, then it appears at the new one.
// A paravirtual guest has no such places. A refusal of the pool changes nothing: tables are reserved before the first change (stricter than Xen).
// Sources: Xen common/memory.c (xenmem_add_to_physmap_one), arch/x86/mm.c, arch/x86/mm/p2m.c (p2m_add_foreign).

import type { DomId, Gfn, Mfn } from '#abi/address.ts';
import { gfnCount } from '#abi/geometry.ts';
import type { Errno } from '#abi/reply.ts';
import { low32 } from '#lib/bits.ts';
import { match } from 'ts-pattern';
import { failure, type Cut } from '../cut.ts';
import { getReference, putReference } from '../frames.ts';
import { growGrants } from '../grants/table.ts';
import { ownGfn, setP2m, settle } from '../p2m.ts';
import { at, end, go, isSame, noting, targetOf, type OpOf, type Task, type Turn } from '../progress.ts';
import { isOnDemand } from '../pod.ts';
import { domainNamed, entryOf, frameOf, isRamType, isSpecialType, type Domain } from '../state.ts';
import { wish } from './pod-demand.ts';
import { letGo } from './reservation.ts';

type Add = OpOf<'memory.addToPhysmap'>;
type Found = { readonly mfn: Mfn } | { readonly errno: Errno };

/** One micro-step of addToPhysmap. */
export function addToPhysmap(cut: Cut, task: Task<Add>): Turn {
  const target = placesOf(cut, task, task.op.space);
  if (typeof target === 'string') return end(cut, target);
  if (task.work.at === 'begin') return begin(cut, task, target);
  if (task.work.at === 'hold') return populateBeside(cut, task, target);
  if (task.work.at === 'claim') return claim(cut, task, target);
  if (task.work.at === 'release')
    return go(at(cut, release(cut, task, target)), task, { ...task.work.arriving, at: 'detach' });
  return task.work.at === 'detach' ? detach(cut, task, target) : install(cut, task, target);
}

/** The domain at whose gfns something is to be put. What it has no places for is said before who may (xatp_permission_check). */
export function placesOf(cut: Cut, task: Task<{ readonly target: DomId }>, space: string): Domain | Errno {
  const domain = domainNamed(cut.state, task.op.target, task.caller);
  if (domain === undefined) return 'ESRCH';
  // Devices are for the control domain to map for itself.
  const isForCaller = space !== 'devMmio' || (domain.kind === 'control' && domain.id === task.caller);
  return domain.kind === 'pv' || !isForCaller ? 'EACCES' : targetOf(cut, task);
}

/** Whether it is being looked whether the operation can be: what it is about is populated then, once. */
const isLooking = ({ work }: Task<Add>): boolean => work.at === 'begin';

/** The frame of another domain that the control domain may map: RAM of some kind, not itself borrowed. */
function foreignFrame(cut: Cut, task: Task<Add>, target: Domain): Found {
  const foreign = cut.state.domains.get(task.op.foreign);
  if (target.kind !== 'control') return { errno: 'EPERM' };
  if (foreign === undefined) return { errno: 'ESRCH' };
  if (foreign.id === target.id) return { errno: 'EINVAL' };
  wish(cut, task.work, { domain: foreign.id, gfn: task.op.index });
  const entry = foreign.p2m.get(task.op.index);
  if (entry === undefined || !isRamType(entry.type)) return { errno: 'EINVAL' };
  return { mfn: entry.mfn };
}

/** Which grant frame is meant: Xen looks at 32 bits of the index. */
const grantIndex = ({ op }: Task<Add>): number => low32(op.index);

/** The grant table grows to the frame that is asked for: a micro-step of its own. undefined: it need not, or may not. */
function grow(cut: Cut, task: Task<Add>, target: Domain): Turn | undefined {
  const { space } = task.op;
  const index = grantIndex(task);
  const { frames, limit } = target.grants;
  if (space !== 'grantTable' || index >= limit || index < frames.length) return undefined;
  const grown = growGrants(cut, target, index + 1);
  return grown.ok ? go(grown.cut, task, { at: 'begin' }) : end(grown.cut, 'EINVAL');
}

function grantFrame(task: Task<Add>, target: Domain): Found {
  const mfn = target.grants.frames[grantIndex(task)];
  return mfn === undefined ? { errno: 'EINVAL' } : { mfn };
}

function ownFrame(cut: Cut, task: Task<Add>, target: Domain): Found {
  if (isLooking(task)) wish(cut, task.work, { domain: target.id, gfn: task.op.index });
  const entry = target.p2m.get(task.op.index);
  if (entry === undefined || !isRamType(entry.type)) return { errno: 'EINVAL' };
  return { mfn: entry.mfn };
}

const find = (cut: Cut, task: Task<Add>, target: Domain): Found =>
  match(task.op.space)
    .with('gmfn', () => ownFrame(cut, task, target))
    .with('grantTable', () => grantFrame(task, target))
    .with('gmfnForeign', () => foreignFrame(cut, task, target))
    .with('devMmio', (): Found => ({ errno: 'EINVAL' }))
    .with('sharedInfo', (): Found => (task.op.index === 0 ? { mfn: target.sharedInfo } : { errno: 'EINVAL' }))
    .exhaustive();

/** Why the frame at hand may not come to the gfn. */
function objection(cut: Cut, task: Task<Add>, target: Domain): Errno | undefined {
  const { gfn } = task.op;
  if (target.state !== 'running' || gfn >= gfnCount(cut.state.geometry)) return 'EINVAL';
  const previous = entryOf(cut.state, target.id, gfn);
  if (previous?.type === 'mmioDirect') return 'EPERM';
  // What holds a reference cannot be taken away like RAM.
  return previous !== undefined && isSpecialType(previous.type) ? 'ENXIO' : undefined;
}

/** The frame, if it may come to the gfn. */
function fitting(cut: Cut, task: Task<Add>, target: Domain): Found {
  const found = find(cut, task, target);
  const errno = 'errno' in found ? undefined : objection(cut, task, target);
  return errno === undefined ? found : { errno };
}

/** Checks, and makes sure that there is such a frame. */
function begin(cut: Cut, task: Task<Add>, target: Domain): Turn {
  const grown = grow(cut, task, target);
  if (grown !== undefined) return grown;
  const found = fitting(cut, task, target);
  if ('errno' in found) return end(cut, found.errno);
  if (!isOnDemand(target, task.op.gfn)) return go(cut, task, { at: 'claim' });
  const held = getReference(cut.state, found.mfn);
  return held === undefined ? end(cut, 'EINVAL') : go(at(cut, held), task, { at: 'hold', mfn: found.mfn });
}

/** The gfn is populated first if it is on demand, while the frame that is to come there is held: it could be reclaimed for it. */
function populateBeside(cut: Cut, task: Task<Add>, target: Domain): Turn {
  wish(cut, task.work, { domain: target.id, gfn: task.op.gfn });
  return go(at(cut, putReference(cut.state, task.work.mfn)), task, { at: 'claim' });
}

/** With tables in hand: finds the frame again, holds it if it is foreign, and unhooks what was at the gfn. */
function claim(cut: Cut, task: Task<Add>, target: Domain): Turn {
  const { op } = task;
  // Which of several elements was refused is told.
  const which = task.work.part > 0 ? { done: task.work.index } : {};
  const failed = failure(cut, { class: 'pool', domain: target.id, ...which });
  if (failed !== undefined) return end(failed, 'ENOMEM');
  const found = fitting(cut, task, target);
  if ('errno' in found) return end(cut, found.errno);
  const held = op.space === 'gmfnForeign' ? getReference(cut.state, found.mfn) : cut.state;
  if (held === undefined) return end(cut, 'EBUSY');
  const arriving = { mfn: found.mfn, incarnation: frameOf(held, found.mfn).incarnation };
  const previous = entryOf(held, target.id, op.gfn);
  if (previous === undefined || previous.mfn === found.mfn)
    return go(at(cut, held), task, { ...arriving, at: 'detach' });
  const unhooked = setP2m(held, { domain: target.id, gfn: op.gfn }, undefined);
  const { incarnation } = frameOf(unhooked, previous.mfn);
  return go(at(cut, unhooked), task, { at: 'release', mfn: previous.mfn, incarnation, arriving });
}

const release = (cut: Cut, task: Task<Add>, target: Domain) => letGo(cut, task, target.id);

/** The frame leaves the gfn it had. */
function detach(cut: Cut, task: Task<Add>, target: Domain): Turn {
  const { op, work } = task;
  const old = op.space === 'gmfnForeign' ? undefined : ownGfn(cut.state, work.mfn);
  if (old === undefined || old === op.gfn) return go(cut, task, { at: 'install' });
  const moved = setP2m(cut.state, { domain: target.id, gfn: old }, undefined);
  return go(at(cut, moved), task, { at: 'install' });
}

function install(cut: Cut, task: Task<Add>, target: Domain): Turn {
  const { op, work } = task;
  const isForeign = op.space === 'gmfnForeign';
  const state = settle(cut.state, task.debts);
  const isFitting = target.state === 'running' && isSame(state, work) && !isTaken(target, op.gfn, work.mfn);
  if (!isFitting) return end(at(cut, isForeign ? putReference(state, work.mfn) : state), 'EINVAL');
  const place = { domain: target.id, gfn: op.gfn };
  const entry = { mfn: work.mfn, type: isForeign ? 'foreign' : 'ramRw' } as const;
  const isThere = entryOf(state, place.domain, place.gfn)?.mfn === work.mfn;
  const appeared = at(cut, isThere ? state : setP2m(state, place, entry));
  // What a gfn holds has changed as if it were written.
  return end(isThere || isForeign ? appeared : noting(appeared, place), 'ok');
}

/** Whether another operation has put something that holds a reference there meanwhile. */
function isTaken(target: Domain, gfn: Gfn, mfn: Mfn): boolean {
  const entry = target.p2m.get(gfn);
  return entry !== undefined && entry.mfn !== mfn && isSpecialType(entry.type);
}

/** Takes away what is at a gfn. RAM stays owned, at no gfn; a foreign entry gives its reference back. */
export function removeFromPhysmap(cut: Cut, task: Task<OpOf<'memory.removeFromPhysmap'>>): Turn {
  const { op, work } = task;
  if (work.at === 'release') return end(at(cut, putReference(settle(cut.state, task.debts), work.mfn)), 'ok');
  const target = targetOf(cut, task);
  if (typeof target === 'string') return end(cut, target);
  if (target.kind === 'pv') return end(cut, 'EACCES');
  wish(cut, work, { domain: target.id, gfn: op.gfn });
  const entry = target.p2m.get(op.gfn);
  if (entry === undefined || entry.type === 'grantRw' || entry.type === 'grantRo') return end(cut, 'ENOENT');
  if (entry.type === 'mmioDirect') return end(cut, 'EPERM');
  const failed = failure(cut, { class: 'pool', domain: target.id });
  if (failed !== undefined) return end(failed, 'ENOMEM');
  const removed = at(cut, setP2m(cut.state, { domain: target.id, gfn: op.gfn }, undefined));
  return entry.type === 'foreign' ? go(removed, task, { at: 'release', mfn: entry.mfn }) : end(removed, 'ok');
}
