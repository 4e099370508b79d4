// Mapping granted frames: per element a handle is taken, the grant comes into use, its frame appears at the caller's gfn,
// the handle is bound, and the status is written back. Until the handle is bound everything can be undone; a result
// that cannot be written undoes nothing (the handle is lost to the guest, as in Xen).
// A domain may map its own grant: the frame then leaves the gfn at which it was RAM.
// A paravirtual guest has it in its tables: native.ts, pv/granted.ts.
// Sources: Xen common/grant_table.c (map_grant_ref), arch/x86/mm.c (create_grant_p2m_mapping), arch/x86/mm/p2m.c
// (p2m_add_page).

import { gfnCount } from '#abi/geometry.ts';
import { mapFlags, type GrantStatus } from '#abi/grants.ts';
import { and, hasAny, hasAll, without } from '#lib/bits.ts';
import { failure, preemption, type Cut } from '../cut.ts';
import { crash } from '../frames.ts';
import { ownGfn, setP2m, settle } from '../p2m.ts';
import { lifeOf, type Life } from '../life.ts';
import { at, changedWork, end, go, type OpOf, type Task, type Turn } from '../progress.ts';
import { creating, grantEntry } from '../pv/granted.ts';
import { pvWork } from '../pv/work.ts';
import { entryOf, frameOf, isParavirtual, isSpecialType, type Domain, type Mapped, type State } from '../state.ts';
import { beginBatch, conclude, copyBack, delivered, endBatch } from './batch.ts';
import { mark, take, type Wanted } from './claim.ts';
import { takeHandle, withHandle } from './maptrack.ts';
import { placeOf, starting, typing, untyping, working, type Then } from './native.ts';
import { dropGrip, dropPins, isReadOnly } from './pins.ts';

type MapOp = OpOf<'grants.map'>;
type Element = MapOp['elements'][number];

const USED = mapFlags.host + mapFlags.device;
/** What a translated guest cannot ask for. */
const PV_ONLY = mapFlags.device + mapFlags.applicationMap + mapFlags.containsPte;

/** One micro-step of map. */
export function mapStep(cut: Cut, task: Task<MapOp>): Turn {
  const { op, work, caller } = task;
  if (work.at === 'begin') return beginBatch(cut, task);
  if (work.at === 'next') return border(at(cut, settle(cut.state, task.debts)), task);
  if (work.at === 'copyBack') return giveResult(cut, task);
  if (work.at === 'release') return giveHandleBack(cut, task);
  const element = op.elements[work.index];
  const mapper = cut.state.domains.get(caller);
  if (element === undefined || mapper === undefined) return end(cut, 'ESRCH', { done: work.index });
  if (work.at === 'allocate') return check(cut, task, { element, mapper });
  if (work.at === 'claim') return reserve(cut, task, { element, mapper });
  if (work.at === 'mark') return setBits(cut, task, element);
  if (work.at === 'pin') return pin(cut, task, element);
  if (work.at === 'hold') return working(cut, task, { at: 'hold', then: typed(task, { element, mapper }) });
  if (work.at === 'piece') return working(cut, task, { at: 'piece', then: created(task) });
  if (work.at === 'settle') return working(cut, task, { at: 'settle', then: undone(task) });
  if (work.at === 'detach') return prepare(cut, task, { element, mapper });
  if (work.at === 'install') return install(cut, task, { element, mapper });
  return work.at === 'complete' ? bind(cut, task, { element, mapper }) : undo(cut, task, element);
}

interface Parties {
  readonly element: Element;
  readonly mapper: Domain;
}

const wanted = (task: Task<MapOp>, element: Element): Wanted => ({
  granter: element.domain,
  ref: element.ref,
  by: task.caller,
  flags: element.flags,
  purpose: 'map',
});

const mappedBy = (element: Element, life: Life): Mapped => ({
  domain: element.domain,
  life,
  ref: element.ref,
  flags: and(element.flags, USED + mapFlags.readOnly + mapFlags.containsPte),
  gfn: element.gfn,
});

const fail = (cut: Cut, task: Task<MapOp>, status: GrantStatus): Turn => conclude(cut, task, { status, out: [] });

function border(cut: Cut, task: Task<MapOp>): Turn {
  const { op, work } = task;
  if (work.index === op.elements.length) return endBatch(cut, task, 'ok');
  const preempted = work.index > op.start ? preemption(cut, work.index) : undefined;
  return preempted === undefined ? go(cut, task, { at: 'allocate' }) : endBatch(preempted, task, 'preempted');
}

/** What is wrong with the request itself, in Xen's order. The id of the granter is literal: DOMID_SELF is nobody. */
function objection(state: State, { element, mapper }: Parties): GrantStatus | undefined {
  if (!hasAny(element.flags, USED)) return 'badGntref';
  if (mapper.kind === 'hvm' && hasAny(element.flags, PV_ONLY)) return 'generalError';
  return state.domains.has(element.domain) ? undefined : 'badDomain';
}

/** Apart from taking a handle: the granter may be gone by the time there is one. */
function check(cut: Cut, task: Task<MapOp>, parties: Parties): Turn {
  const wrong = objection(cut.state, parties);
  return wrong === undefined ? go(cut, task, { at: 'claim' }) : fail(cut, task, wrong);
}

function reserve(cut: Cut, task: Task<MapOp>, parties: Parties): Turn {
  const want = { done: task.work.index, mapped: mappedBy(parties.element, task.work.arriving) };
  const { cut: after, handle } = takeHandle(cut, parties.mapper, want);
  return handle === undefined ? fail(after, task, 'noSpace') : go(after, task, { at: 'mark', handle });
}

/** The element has failed, and no use of its grant is left: the handle goes back, apart from that, for until then nobody else gets it. */
const release = (cut: Cut, task: Task<MapOp>, status: GrantStatus): Turn => go(cut, task, { at: 'release', status });

const giveHandleBack = (cut: Cut, task: Task<MapOp>): Turn =>
  fail(
    at(cut, withHandle(cut.state, task.caller, { handle: task.work.handle, mapped: undefined })),
    task,
    task.work.status as GrantStatus,
  );

function setBits(cut: Cut, task: Task<MapOp>, element: Element): Turn {
  const { cut: after, status, asked } = mark(cut, wanted(task, element), task.work.index);
  return status === 'okay' ? go(after, task, { at: 'pin', asked }) : release(after, task, status);
}

function pin(cut: Cut, task: Task<MapOp>, element: Element): Turn {
  const { state, mfn } = take(cut, task.work, wanted(task, element));
  if (typeof mfn === 'string') return release(at(cut, state), task, mfn);
  // A reference keeps the granter from here on.
  const arriving = lifeOf(state, element.domain);
  const use = { granter: element.domain, mfn, flags: element.flags };
  const mapper = state.domains.get(task.caller) as Domain;
  const held = { ...task, work: changedWork(task.work, { mfn, arriving, part: 0 }) };
  return starting(at(cut, state), held, typing(state, use), { at: 'hold', then: typed(task, { element, mapper }) });
}

/** The frame is used by type, as far as its owner's frames have types; it is mapped next. `part`: 1 if there are types to let go of. */
const typed =
  ({ op }: Task<MapOp>, { element, mapper }: Parties): Then =>
  (cut, { work, ...task }, isDone) => {
    if (!isDone) return go(cut, { work }, { at: 'undo' });
    const held = { ...task, op, work: changedWork(work, { part: 1 }) };
    if (!hasAll(element.flags, mapFlags.host)) return go(cut, held, { at: 'complete' });
    if (mapper.kind !== 'pv') return go(cut, held, { at: 'detach' });
    const { mfn } = work;
    const place = placeOf(cut, held, element);
    const todo = creating(cut.state, mapper.id, place, grantEntry(cut.state.geometry, mfn, element.flags));
    return starting(cut, held, todo, { at: 'piece', then: created(held) });
  };

/** The frame is in the mapper's tables, or could not come there. */
const created =
  (_: Task<MapOp>): Then =>
  (cut, task, isDone) =>
    go(cut, task, { at: isDone ? 'complete' : 'undo' });

/**
 * Whether the mapping can be made: nothing changes if not, but covering a granted or foreign entry stops the mapper for
 * good. A frame of the mapper's own leaves the gfn at which it is RAM, and only then appears at the new one.
 */
function prepare(cut: Cut, task: Task<MapOp>, { element, mapper }: Parties): Turn {
  const { mfn, index } = task.work;
  const { state } = cut;
  const isPlain = without(element.flags, mapFlags.readOnly + mapFlags.device) === mapFlags.host;
  if (!isPlain || element.gfn >= gfnCount(state.geometry)) return go(cut, task, { at: 'undo' });
  const previous = entryOf(state, mapper.id, element.gfn);
  if (previous !== undefined && isSpecialType(previous.type))
    return go(at(cut, crash(state, mapper.id)), task, { at: 'undo' });
  const failed = failure(cut, { class: 'pool', domain: mapper.id, done: index });
  if (failed !== undefined || mapper.state !== 'running') return go(failed ?? cut, task, { at: 'undo' });
  const old = frameOf(state, mfn).owner === mapper.id ? ownGfn(state, mfn) : undefined;
  if (old === undefined || old === element.gfn) return install(cut, task, { element, mapper });
  return go(at(cut, setP2m(state, { domain: mapper.id, gfn: old }, undefined)), task, { at: 'install' });
}

function install(cut: Cut, task: Task<MapOp>, { element, mapper }: Parties): Turn {
  const type = isReadOnly(element.flags) ? 'grantRo' : 'grantRw';
  const entry = { mfn: task.work.mfn, type } as const;
  return go(at(cut, setP2m(cut.state, { domain: mapper.id, gfn: element.gfn }, entry)), task, { at: 'complete' });
}

/** The handle is bound to the mapping; a mapper that has been killed meanwhile cannot have it any more. */
function bind(cut: Cut, task: Task<MapOp>, { element, mapper }: Parties): Turn {
  const { handle, mfn, arriving } = task.work;
  if (mapper.state === 'running') {
    const bound = withHandle(cut.state, mapper.id, { handle, mapped: mappedBy(element, arriving) });
    return conclude(at(cut, bound), task, { status: 'okay', out: [handle] });
  }
  const isThere = hasAll(element.flags, mapFlags.host) && mapper.p2m.get(element.gfn)?.mfn === mfn;
  const hidden = isThere ? setP2m(cut.state, { domain: mapper.id, gfn: element.gfn }, undefined) : cut.state;
  return go(at(cut, hidden), task, { at: 'undo' });
}

function undo(cut: Cut, task: Task<MapOp>, element: Element): Turn {
  const { mfn, part } = task.work;
  const use = { granter: element.domain, ref: element.ref, mfn, flags: element.flags };
  const settled = settle(cut.state, task.debts);
  if (!isParavirtual(cut.state, use.granter)) return release(at(cut, dropGrip(settled, use)), task, 'generalError');
  const todo = untyping(settled, use, part > 0);
  return go(at(cut, dropPins(settled, use)), task, { at: 'settle', pv: pvWork(todo) });
}

const undone =
  (task: Task<MapOp>): Then =>
  (cut, { work }) =>
    release(cut, { ...task, work }, 'generalError');

function giveResult(cut: Cut, task: Task<MapOp>): Turn {
  const { index } = task.work;
  const { cut: after, ok } = copyBack(cut, task);
  if (ok) return go(after, task, { at: 'next', index: index + 1 });
  return end(after, 'EFAULT', { done: index, elements: delivered(task) });
}
