// Unmapping, in two passes over the batch, as Xen does it: first every mapping disappears and its status is written,
// then, after one flush for all, the uses behind them end (reference, pin, status bits). So no frame is let go while a
// processor may still reach it. A faulting result ends the first pass; what it did is flushed and completed all the same.
// Stricter than Xen: the gfn must be the one that this handle was mapped at. A paravirtual guest, as in Xen, says where a mapping is,
// and may have something else put in its place (unmap_and_replace).
// Source: Xen common/grant_table.c (gnttab_unmap_grant_ref, gnttab_unmap_and_replace, unmap_common, unmap_common_complete).

import type { Gfn, GrantHandle } from '#abi/address.ts';
import { mapFlags, type GrantStatus } from '#abi/grants.ts';
import { hasAny, without } from '#lib/bits.ts';
import { failure, type Cut } from '../cut.ts';
import { setP2m, settle } from '../p2m.ts';
import { crash } from '../frames.ts';
import { isStill } from '../life.ts';
import {
  at,
  changedWork,
  end,
  go,
  noting,
  type Grip,
  type OpOf,
  type Situation,
  type Task,
  type Turn,
} from '../progress.ts';
import { removing, replacing } from '../pv/granted.ts';
import { pvWork, type Todo } from '../pv/work.ts';
import { entryOf, isParavirtual, type Domain, type Mapped, type State } from '../state.ts';
import { beginBatch, conclude, copyBack, delivered } from './batch.ts';
import { mappedAt, withHandle } from './maptrack.ts';
import { isGiven, placeOf, rootOf, starting, untyping, working, type Then } from './native.ts';
import { dropGrip, dropPins, isReadOnly } from './pins.ts';

type UnmapOp = OpOf<'grants.unmap' | 'grants.replace'>;

/** What is unmapped where; and what comes there instead, at which address it is now. */
interface Element {
  readonly handle: GrantHandle;
  readonly gfn: Gfn;
  readonly offset: number;
  readonly dev: 'none' | 'mapped' | 'wrong';
  readonly instead: { readonly gfn: Gfn; readonly offset: number } | undefined;
}

/** The element in hand. Nothing replaces an entry if the address is zero. */
function elementIn({ op, work }: Task<UnmapOp>): Element | undefined {
  if (op.kind === 'grants.unmap') {
    const element = op.elements[work.index];
    return element && { ...element, instead: undefined };
  }
  const element = op.elements[work.index];
  if (element === undefined) return undefined;
  const { handle, gfn, offset, newGfn, newOffset } = element;
  const instead = newGfn > 0 || newOffset > 0 ? { gfn: newGfn, offset: newOffset } : undefined;
  return { handle, gfn, offset, dev: 'none', instead };
}

/** One micro-step of unmap. `work.part` counts the uses ended in the second pass. */
export function unmapStep(cut: Cut, task: Task<UnmapOp>): Turn {
  const { work, caller } = task;
  if (work.at === 'begin') return beginBatch(cut, task);
  if (work.at === 'copyBack') return giveResult(cut, task);
  if (work.at === 'settle') return go(at(cut, settle(cut.state, task.debts)), task, { at: 'release' });
  if (work.at === 'hold') return working(cut, task, { at: 'hold', then: flushed });
  if (work.at === 'release') return release(cut, task);
  if (work.at === 'detach') return working(cut, task, { at: 'detach', then: released(task) });
  if (work.at === 'piece') return working(cut, task, { at: 'piece', then: removed(task) });
  const element = elementIn(task);
  if (element === undefined) return flush(cut, task);
  const mapper = cut.state.domains.get(caller);
  const mapped = mapper && mappedAt(cut.state, mapper, element.handle);
  if (mapper === undefined || mapped === undefined) return conclude(cut, task, { status: 'badHandle', out: [] });
  // A granter that is gone cannot be let go of: its mapper has taken away the entry by other means.
  if (!isStill(cut.state, mapped.domain, mapped.life))
    return conclude(at(cut, crash(cut.state, mapper.id)), task, { status: 'badHandle', out: [] });
  const grip = work.at === 'unbind' ? gripOf(cut.state, mapped) : undefined;
  return grip === undefined
    ? unmapOne(cut, task, { element, mapper, mapped })
    : unbind(cut, task, { element, mapper, mapped, grip });
}

interface Parties {
  readonly element: Element;
  readonly mapper: Domain;
  readonly mapped: Mapped;
}

const HOST = mapFlags.host;
const DEVICE = mapFlags.device;

/** The grant behind a handle as a use to let go of. */
function gripOf(state: State, mapped: Mapped): Grip | undefined {
  const mfn = state.domains.get(mapped.domain)?.grants.active.get(mapped.ref)?.mfn;
  return mfn === undefined ? undefined : { granter: mapped.domain, ref: mapped.ref, mfn, flags: mapped.flags };
}

/** Whether the entry at the element's gfn is the one that the handle made. */
function isMappedHere(state: State, { element, mapper, mapped }: Parties, grip: Grip): boolean {
  const entry = entryOf(state, mapper.id, element.gfn);
  const isGrant = entry?.type === 'grantRw' || entry?.type === 'grantRo';
  return isGrant && mapped.gfn === element.gfn && entry.mfn === grip.mfn;
}

/** The first part: the mapping disappears. */
function unmapOne(cut: Cut, task: Task<UnmapOp>, parties: Parties): Turn {
  const { element, mapper, mapped } = parties;
  const fail = (at: Cut, status: GrantStatus): Turn => conclude(at, task, { status, out: [] });
  const grip = gripOf(cut.state, mapped);
  if (grip === undefined) return fail(cut, 'badHandle');
  const hasHost = hasAny(mapped.flags, HOST) && isGiven(cut.state, mapper.id, element);
  if (hasAny(mapped.flags, DEVICE) && element.dev === 'wrong') return fail(cut, 'badDevAddr');
  if (!hasHost) return unbind(cut, task, { ...parties, grip });
  if (mapper.kind === 'pv') return removeNative(cut, task, { ...parties, grip });
  if (element.instead !== undefined) return fail(cut, 'generalError');
  if (!isMappedHere(cut.state, parties, grip)) return fail(cut, 'generalError');
  const failed = failure(cut, { class: 'pool', domain: mapper.id, done: task.work.index });
  if (failed !== undefined) return fail(failed, 'generalError');
  const removed = setP2m(cut.state, { domain: mapper.id, gfn: element.gfn }, undefined);
  return go(at(cut, removed), task, { at: 'unbind' });
}

/** The same in a paravirtual guest's tables: wherever it says, if the entry there is one of this frame with these rights. */
function removeNative(cut: Cut, task: Task<UnmapOp>, parties: Parties & { readonly grip: Grip }): Turn {
  const { element, mapper, mapped, grip } = parties;
  const { state } = cut;
  const active = state.domains.get(grip.granter)?.grants.active.get(grip.ref);
  const incarnation = active?.ground.meant?.incarnation ?? 0;
  const expects = { mfn: grip.mfn, incarnation, writes: !isReadOnly(mapped.flags) };
  const { gfn, offset, instead } = element;
  const place = placeOf(cut, task, { gfn, offset, flags: mapped.flags });
  const todo =
    instead === undefined
      ? removing(state, mapper.id, place, expects)
      : replacing(state, mapper.id, { place, newPage: instead.gfn, root: rootOf(state, task.agent) }, expects);
  return starting(cut, task, todo, { at: 'piece', then: removed(task) });
}

const removed =
  (task: Task<UnmapOp>): Then =>
  (cut, { work }, isDone) =>
    isDone
      ? go(cut, { work }, { at: 'unbind' })
      : conclude(cut, { ...task, work }, { status: 'generalError', out: [] });

/** The second part, after the tables are flushed: what is left of the mapping stays with the handle, or the handle goes back. */
function unbind(cut: Cut, task: Task<UnmapOp>, parties: Parties & { readonly grip: Grip }): Turn {
  const { element, mapper, mapped, grip } = parties;
  const isDeviceDone = hasAny(mapped.flags, DEVICE) && element.dev === 'mapped';
  const isHostDone = hasAny(mapped.flags, HOST) && isGiven(cut.state, mapper.id, element);
  const done = (isHostDone ? HOST : 0) + (isDeviceDone ? DEVICE : 0);
  const flags = without(mapped.flags, done);
  const rest = hasAny(flags, HOST + DEVICE) ? { ...mapped, flags } : undefined;
  const left = withHandle(cut.state, mapper.id, { handle: element.handle, mapped: rest });
  const ended = { ...grip, flags: done + (mapped.flags - without(mapped.flags, mapFlags.readOnly)) };
  const grips = done === 0 ? task.work.grips : [...task.work.grips, ended];
  const unmapped = at(cut, left);
  // Whoever could write through the mapping is taken to have written.
  const noted = isReadOnly(mapped.flags) ? unmapped : noting(unmapped, { domain: mapped.domain, mfn: grip.mfn });
  return conclude(noted, { ...task, work: { ...task.work, grips } }, { status: 'okay', out: [] });
}

/** What was unmapped is forgotten: of a paravirtual guest's tables by its processors all together, whatever there was. */
function flush(cut: Cut, task: Situation): Turn {
  const todo: Todo = isParavirtual(cut.state, task.caller) ? [{ do: 'forgetChanged', domain: task.caller }] : [];
  return starting(cut, task, todo, { at: 'hold', then: flushed });
}

const flushed: Then = (cut, task) => go(cut, task, { at: 'settle' });

function giveResult(cut: Cut, task: Task<UnmapOp>): Turn {
  const { cut: after, ok } = copyBack(cut, task);
  if (ok) return go(after, task, { at: 'next', index: task.work.index + 1 });
  const work = changedWork(task.work, { status: 'EFAULT', elements: delivered(task) });
  return flush(after, { ...task, work });
}

/** The second pass: one use ends per micro-step. */
function release(cut: Cut, task: Task<UnmapOp>): Turn {
  const { grips, part, status, index, elements } = task.work;
  const grip = grips[part];
  if (grip === undefined) return end(cut, status, { done: index, elements });
  if (!isParavirtual(cut.state, grip.granter)) return go(at(cut, dropGrip(cut.state, grip)), task, { part: part + 1 });
  const todo = untyping(cut.state, grip);
  return go(at(cut, dropPins(cut.state, grip)), task, { at: 'detach', pv: pvWork(todo) });
}

const released =
  ({ work: { part } }: Task<UnmapOp>): Then =>
  (cut, task) =>
    go(cut, task, { at: 'release', part: part + 1 });
