// Unmapping, in two passes over the batch, as Xen does it: first every mapping disappears and its status is written,
// then, after one flush for all, the uses behind them end (reference, pin, status bits). So no frame is let go while a
// processor may still reach it. A faulting result ends the first pass; what it did is flushed and completed all the same.
// Stricter than Xen: the gfn must be the one that this handle was mapped at.
// Source: Xen common/grant_table.c (gnttab_unmap_grant_ref, unmap_common, unmap_common_complete).

import { mapFlags, type GrantStatus } from '#abi/grants.ts';
import { hasAny, without } from '#lib/bits.ts';
import { failure, type Cut } from '../cut.ts';
import { setP2m, settle } from '../p2m.ts';
import { at, end, go, noting, type Grip, type OpOf, type Task, type Turn } from '../progress.ts';
import { entryOf, type Domain, type Mapped, type State } from '../state.ts';
import { beginBatch, conclude, copyBack, delivered } from './batch.ts';
import { mappedAt, withHandle } from './maptrack.ts';
import { dropGrip, isReadOnly } from './pins.ts';

type UnmapOp = OpOf<'grants.unmap'>;
type Element = UnmapOp['elements'][number];

/** One micro-step of unmap. `work.part` counts the uses ended in the second pass. */
export function unmapStep(cut: Cut, task: Task<UnmapOp>): Turn {
  const { op, work, caller } = task;
  if (work.at === 'begin') return beginBatch(cut, task);
  if (work.at === 'copyBack') return giveResult(cut, task);
  if (work.at === 'settle') return go(at(cut, settle(cut.state, task.debts)), task, { at: 'release' });
  if (work.at === 'release') return release(cut, task);
  const element = op.elements[work.index];
  if (element === undefined) return go(cut, task, { at: 'settle' });
  const mapper = cut.state.domains.get(caller);
  const mapped = mapper && mappedAt(cut.state, mapper, element.handle);
  if (mapper === undefined || mapped === undefined) return conclude(cut, task, { status: 'badHandle', out: [] });
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
  const hasHost = hasAny(mapped.flags, HOST);
  if (hasAny(mapped.flags, DEVICE) && element.dev === 'wrong') return fail(cut, 'badDevAddr');
  if (!hasHost) return unbind(cut, task, { ...parties, grip });
  if (!isMappedHere(cut.state, parties, grip)) return fail(cut, 'generalError');
  const failed = failure(cut, { class: 'pool', domain: mapper.id, done: task.work.index });
  if (failed !== undefined) return fail(failed, 'generalError');
  const removed = setP2m(cut.state, { domain: mapper.id, gfn: element.gfn }, undefined);
  return go(at(cut, removed), task, { at: 'unbind' });
}

/** The second part, after the tables are flushed: what is left of the mapping stays with the handle, or the handle goes back. */
function unbind(cut: Cut, task: Task<UnmapOp>, parties: Parties & { readonly grip: Grip }): Turn {
  const { element, mapper, mapped, grip } = parties;
  const isDeviceDone = hasAny(mapped.flags, DEVICE) && element.dev === 'mapped';
  const done = (hasAny(mapped.flags, HOST) ? HOST : 0) + (isDeviceDone ? DEVICE : 0);
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

function giveResult(cut: Cut, task: Task<UnmapOp>): Turn {
  const { cut: after, ok } = copyBack(cut, task);
  if (ok) return go(after, task, { at: 'next', index: task.work.index + 1 });
  return go(after, task, { at: 'settle', status: 'EFAULT', elements: delivered(task) });
}

/** The second pass: one use ends per micro-step. */
function release(cut: Cut, task: Task<UnmapOp>): Turn {
  const { grips, part, status, index, elements } = task.work;
  const grip = grips[part];
  if (grip === undefined) return end(cut, status, { done: index, elements });
  return go(at(cut, dropGrip(cut.state, grip)), task, { part: part + 1 });
}
