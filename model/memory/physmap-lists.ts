// Putting many frames at as many gfns: a range of a guest's own memory, moved page by page in the order in which none is moved twice; and
// a batch, whose elements are told one by one what became of them. Each element is what addToPhysmap does (physmap.ts), settled before the next.
// A first reader may skip the checks. Sources: Xen common/memory.c (xenmem_add_to_physmap, xenmem_add_to_physmap_batch, xatp_permission_check).

import { INVALID_GFN, ZERO_WORD, type Gfn, type Word } from '#abi/address.ts';
import { errnoNumbers, type ElementReply, type Status } from '#abi/reply.ts';
import { low32, pow2 } from '#lib/bits.ts';
import { storeWord } from '../buffers.ts';
import { failure, preemption, type Cut } from '../cut.ts';
import { settle } from '../p2m.ts';
import { at, end, go, type OpOf, type Task, type Turn } from '../progress.ts';
import { addToPhysmap, placesOf } from './physmap.ts';
import { countOf, fetchGfn } from './reservation.ts';

type Range = Task<OpOf<'memory.addRange'>>;
type Batch = Task<OpOf<'memory.addBatch'>>;
type Add = OpOf<'memory.addToPhysmap'>;

/** Between two elements, where nothing of one is in hand. */
const BETWEEN = { at: 'next', part: 0 } as const;

/** In the middle of an element, which has registers of its own. */
const isWithin = ({ work }: Range | Batch): boolean => work.part > 0;

/** The first micro-step of an element is the next. */
const WITHIN = { at: 'begin', part: 1 } as const;

/** All 64 bits. */
const isNoGfn = (gfn: number): boolean => gfn === INVALID_GFN || gfn >= pow2(64);

/** One micro-step of an element; `then`: it has come to its end. */
function within(cut: Cut, task: Range | Batch, of: { add: Add; then: (cut: Cut, status: Status) => Turn }): Turn {
  const turn = addToPhysmap(cut, { ...task, op: of.add });
  if ('work' in turn) return turn;
  const status = turn.expected.kind === 'exact' ? turn.expected.reply.status : 'EINVAL';
  return of.then(turn.cut, status);
}

/** Page `index` of a range that is moved: from the end on, if the beginning would be moved onto what is still to be moved. */
function pageOf({ op }: Range, index: number): { readonly from: Gfn; readonly to: Gfn } {
  const isBackwards = op.gfn > op.index && op.gfn < op.index + op.count;
  const offset = isBackwards ? op.count - index - 1 : index;
  return { from: (op.index + offset) as Gfn, to: (op.gfn + offset) as Gfn };
}

/** One micro-step of moving a range. */
export function addRange(cut: Cut, task: Range): Turn {
  const { op, work } = task;
  const { index } = work;
  if (!isWithin(task)) return work.at === 'begin' ? beginRange(cut, task) : nextInRange(cut, task);
  const { from, to } = pageOf(task, index);
  const add: Add = {
    kind: 'memory.addToPhysmap',
    target: op.target,
    space: 'gmfn',
    foreign: op.target,
    index: from,
    gfn: to,
  };
  return within(cut, task, {
    add,
    then: (after, status) =>
      status === 'ok' ? go(after, task, { ...BETWEEN, index: index + 1 }) : end(after, status, { done: index }),
  });
}

function beginRange(cut: Cut, task: Range): Turn {
  const { target, index, gfn, count, start } = task.op;
  const done = { done: start };
  const domain = placesOf(cut, { ...task, op: { target } }, 'gmfn');
  if (typeof domain === 'string') return end(cut, domain, done);
  if (isNoGfn(gfn)) return end(cut, 'EINVAL', done);
  if (count < start) return end(cut, 'EILSEQ', done);
  if (count > 0 && isNoGfn(index)) return end(cut, 'EOVERFLOW', done);
  return go(cut, task, { ...BETWEEN, index: start });
}

/** The border between two pages. */
function nextInRange(before: Cut, task: Range): Turn {
  const { op, work } = task;
  const { index } = work;
  const cut = at(before, settle(before.state, task.debts));
  if (index === op.count) return end(cut, 'ok', { done: index });
  const preempted = index > op.start ? preemption(cut, index) : undefined;
  return preempted === undefined ? go(cut, task, WITHIN) : end(preempted, 'preempted', { done: index });
}

/** One micro-step of a batch. */
export function addBatch(cut: Cut, task: Batch): Turn {
  const { op, work } = task;
  if (!isWithin(task)) return between(cut, task);
  const { space } = op;
  if (space === 'gmfnRange') return end(cut, 'EOPNOTSUPP');
  const { target, foreign } = op;
  const add: Add = { kind: 'memory.addToPhysmap', target, space, foreign, index: work.handle as Gfn, gfn: work.gfn };
  return within(cut, task, {
    add,
    then: (after, status) =>
      go(after, task, { at: 'copyBack', part: 0, elements: [...work.elements, { status, out: [] }] }),
  });
}

function between(cut: Cut, task: Batch): Turn {
  if (task.work.at === 'begin') return beginBatch(cut, task);
  if (task.work.at === 'copyBack') return tell(cut, task);
  return task.work.at === 'some' ? fetchPlace(cut, task) : nextInBatch(cut, task);
}

function beginBatch(cut: Cut, task: Batch): Turn {
  const { op } = task;
  const done = { done: op.start };
  const size = countOf(op.indices);
  if (op.space === 'gmfnRange') return end(cut, 'EOPNOTSUPP', done);
  if (size > cut.state.geometry.capacity.batch) return end(cut, 'E2BIG');
  const domain = placesOf(cut, task, op.space);
  if (typeof domain === 'string') return end(cut, domain, done);
  if (size < op.start || (size === op.start && size > 0)) return end(cut, 'EILSEQ', done);
  return go(cut, task, { ...BETWEEN, index: op.start });
}

const endBatch = (cut: Cut, { work }: Batch, status: Status, elements: readonly ElementReply[] = work.elements): Turn =>
  end(cut, status, { done: work.index, elements });

/** The border between two elements: the end, preemption, or the fetch of what the next is about. */
function nextInBatch(before: Cut, task: Batch): Turn {
  const { op, work } = task;
  const { index } = work;
  const settled = at(before, settle(before.state, task.debts));
  if (index === countOf(op.indices)) return endBatch(settled, task, 'ok');
  const preempted = index > op.start ? preemption(settled, index) : undefined;
  if (preempted !== undefined) return endBatch(preempted, task, 'preempted');
  const { cut, gfn } = fetchGfn(settled, task, { extents: op.indices, index });
  return gfn === undefined ? endBatch(cut, task, 'EFAULT') : go(cut, task, { at: 'some', handle: gfn });
}

/** The fetch of where it is to come. */
function fetchPlace(before: Cut, task: Batch): Turn {
  const { cut, gfn } = fetchGfn(before, task, { extents: task.op.gfns, index: task.work.index });
  if (gfn === undefined) return endBatch(cut, task, 'EFAULT');
  return isNoGfn(gfn) ? endBatch(cut, task, 'EINVAL') : go(cut, task, { ...WITHIN, gfn });
}

/** What became of an element, as the caller reads it: 0, or an errno below it. */
function wordOf(status: Status | undefined): Word {
  const number = (errnoNumbers as Readonly<Partial<Record<Status, number>>>)[status ?? 'ok'] ?? 0;
  return number === 0 ? ZERO_WORD : { lo: low32(-number), hi: low32(-1) };
}

/** The caller is told of an element. If it cannot be, what was done stays, and it hears no more of it. */
function tell(cut: Cut, task: Batch): Turn {
  const { op, work } = task;
  const { index, elements } = work;
  const goOn = (after: Cut): Turn => go(after, task, { ...BETWEEN, index: index + 1 });
  if (op.results.in === 'null') return goOn(cut);
  const refused = failure(cut, { class: 'copyBack', done: index, nth: index - op.start + 1 });
  if (refused !== undefined) return endBatch(refused, task, 'EFAULT', elements.slice(0, -1));
  const word = wordOf(elements.at(-1)?.status);
  const stored = storeWord(cut, task, { buffer: op.results, index, word });
  return stored.ok ? goOn(stored.cut) : endBatch(stored.cut, task, 'EFAULT', elements.slice(0, -1));
}
