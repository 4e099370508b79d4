// Copying between frames, each side named by a grant or (the caller's own) by gfn. A claim on a side holds a reference and,
// for a grant, a pin; claims are kept from one element to the next while they fit, and let go of in Xen's order: pin and
// status first, then the reference. The bytes of an element move in one micro-step.
// Whether a side may be named by gfn is asked where the claim is made: of the source before that of the destination is looked at.
// Source: Xen common/grant_table.c (gnttab_copy, gnttab_copy_one, gnttab_copy_claim_buf, gnttab_copy_buf).

import { DOMID_SELF, type DomId, type Gfn, type GrantRef } from '#abi/address.ts';
import { bytesPerFrame } from '#abi/geometry.ts';
import { mapFlags, type GrantStatus } from '#abi/grants.ts';
import { preemption, type Cut } from '../cut.ts';
import { getReference, putReference } from '../frames.ts';
import { wish } from '../memory/pod-demand.ts';
import {
  at,
  changedWork,
  end,
  go,
  noting,
  type Claim,
  type OpOf,
  type Task,
  type Turn,
  type Work,
} from '../progress.ts';
import { domainNamed, frameOf } from '../state.ts';
import { readBytes, writeBytes } from '../words.ts';
import { beginBatch, conclude, copyBack, delivered } from './batch.ts';
import { mark, pagedFrame, take, type Wanted } from './claim.ts';
import { starting, typing, working, type Then } from './native.ts';
import { dropPins } from './pins.ts';
import { runOne } from '../pv/run.ts';

type CopyOp = OpOf<'grants.copy'>;
type Element = CopyOp['elements'][number];

/** One side of an element. */
interface Side {
  readonly by: 'gfn' | 'ref';
  readonly domain: DomId;
  readonly ref: GrantRef;
  readonly gfn: Gfn;
}

const sourceOf = (e: Element): Side => ({ by: e.sourceBy, domain: e.sourceDomain, ref: e.sourceRef, gfn: e.sourceGfn });
const destOf = (e: Element): Side => ({ by: e.destBy, domain: e.destDomain, ref: e.destRef, gfn: e.destGfn });

/** One micro-step of copy. */
export function copyStep(cut: Cut, task: Task<CopyOp>): Turn {
  const { op, work } = task;
  if (work.at === 'begin') return beginBatch(cut, task);
  if (work.at === 'next') return border(cut, task);
  if (work.at === 'release') return release(cut, task);
  if (work.at === 'copyBack') return giveResult(cut, task);
  if (work.at === 'finish') return end(cut, work.status, { done: work.index, elements: work.elements });
  if (work.at === 'complete') return conclude(cut, task, { status: work.status, out: [] });
  const element = op.elements[work.index];
  if (element === undefined) return end(cut, 'EINVAL');
  if (work.at === 'check') return check(cut, task, element);
  if (work.at === 'bytes') return moveBytes(cut, task, element);
  const side = work.side === 'source' ? sourceOf(element) : destOf(element);
  if (work.at === 'claim') return claim(cut, task, side);
  if (work.at === 'hold') return working(cut, task, { at: 'hold', then: typed(task) });
  return work.at === 'mark' ? setBits(cut, task, side) : pin(cut, task, side);
}

/** The claims that are held, source first. */
const claimsOf = ({ source, dest }: Work): readonly Claim[] => [source, dest].filter((one) => one !== undefined);

/** Lets go of both sides, then goes on at `then`. */
const letGo = (cut: Cut, task: Task<CopyOp>, change: Partial<Work> & Pick<Work, 'then'>): Turn =>
  go(cut, task, { at: 'release', leaving: claimsOf(task.work), source: undefined, dest: undefined, ...change });

/** The element fails: nothing is kept for the next one. */
const fail = (cut: Cut, task: Task<CopyOp>, status: GrantStatus): Turn =>
  letGo(cut, task, { status, then: 'complete' });

function border(cut: Cut, task: Task<CopyOp>): Turn {
  const { op, work } = task;
  if (work.index === op.elements.length) return letGo(cut, task, { status: 'ok', then: 'finish' });
  const preempted = work.index > op.start ? preemption(cut, work.index) : undefined;
  if (preempted !== undefined) return letGo(preempted, task, { status: 'preempted', then: 'finish' });
  return go(cut, task, { at: 'check' });
}

/** Looks up the domains of both sides; claims made for other domains are of no use. */
function check(cut: Cut, task: Task<CopyOp>, element: Element): Turn {
  const source = sourceOf(element);
  const dest = destOf(element);
  const isThere = ({ domain }: Side): boolean => domainNamed(cut.state, domain, task.caller) !== undefined;
  if (!isThere(source) || !isThere(dest)) return fail(cut, task, 'badDomain');
  const { work } = task;
  const isOther =
    (work.source !== undefined && work.source.domain !== source.domain) ||
    (work.dest !== undefined && work.dest.domain !== dest.domain);
  const first = { side: 'source' } as const;
  return isOther ? letGo(cut, task, { ...first, then: 'claim' }) : go(cut, task, { ...first, at: 'claim' });
}

const fits = (claimed: Claim, side: Side): boolean =>
  claimed.by === side.by && (side.by === 'ref' ? claimed.ref === side.ref : claimed.gfn === side.gfn);

/** The side in hand is claimed. */
const next = (cut: Cut, task: Task<CopyOp>, change: Partial<Work>): Turn =>
  task.work.side === 'source'
    ? go(cut, task, { ...change, at: 'claim', side: 'dest' })
    : go(cut, task, { ...change, at: 'bytes' });

/** Keeps a claim that fits, lets go of one that does not, makes one where there is none. */
function claim(cut: Cut, task: Task<CopyOp>, side: Side): Turn {
  const name = task.work.side;
  const claimed = task.work[name];
  if (claimed !== undefined && fits(claimed, side)) return next(cut, task, {});
  if (claimed !== undefined)
    return go(cut, task, { at: 'release', leaving: [claimed], [name]: undefined, then: 'claim' });
  return side.by === 'ref' ? go(cut, task, { at: 'mark' }) : claimOwn(cut, task, side);
}

/** A foreign domain's memory only through a grant; one's own by gfn only as DOMID_SELF. */
function claimOwn(cut: Cut, task: Task<CopyOp>, side: Side): Turn {
  if (side.domain !== DOMID_SELF) return fail(cut, task, 'permissionDenied');
  wish(cut, task.work, { domain: task.caller, gfn: side.gfn });
  const domain = cut.state.domains.get(task.caller);
  const mfn = domain && pagedFrame(cut.state, domain, side.gfn);
  const referenced = mfn === undefined ? undefined : getReference(cut.state, mfn);
  if (mfn === undefined || referenced === undefined) return fail(cut, task, 'badPage');
  return held(at(cut, referenced), task, { ...side, mfn, grip: undefined, isTyped: false });
}

/** A side's frame is held; what is to be written is used as writable, if its owner's frames have types. */
function held(cut: Cut, task: Task<CopyOp>, claimed: Claim): Turn {
  const { side } = task.work;
  const { owner } = frameOf(cut.state, claimed.mfn);
  const work = changedWork(task.work, { [side]: claimed });
  if (side === 'source' || owner === undefined) return next(cut, { ...task, work }, {});
  const todo = typing(cut.state, { granter: owner, mfn: claimed.mfn, flags: mapFlags.host });
  if (todo.length === 0) return next(cut, { ...task, work }, {});
  return starting(cut, { ...task, work }, todo, { at: 'hold', then: typed(task) });
}

const typed =
  (task: Task<CopyOp>): Then =>
  (cut, { work }, isDone) => {
    const { dest } = work;
    if (!isDone) return fail(cut, { ...task, work }, 'generalError');
    return next(cut, { ...task, work }, { dest: dest && { ...dest, isTyped: true } });
  };

function wanted(task: Task<CopyOp>, side: Side): Wanted {
  const flags = task.work.side === 'source' ? mapFlags.host + mapFlags.readOnly : mapFlags.host;
  const granter = side.domain === DOMID_SELF ? task.caller : side.domain;
  return { granter, ref: side.ref, by: task.caller, flags, purpose: 'copy' };
}

function setBits(cut: Cut, task: Task<CopyOp>, side: Side): Turn {
  // Either side of an element can lose: they are told apart in the log.
  const part = 2 * task.work.index + (task.work.side === 'dest' ? 1 : 0);
  const { cut: after, status, asked } = mark(cut, wanted(task, side), part);
  return status === 'okay' ? go(after, task, { at: 'pin', asked }) : fail(after, task, status);
}

function pin(cut: Cut, task: Task<CopyOp>, side: Side): Turn {
  const want = wanted(task, side);
  const { state, mfn } = take(cut, task.work, want);
  if (typeof mfn === 'string') return fail(at(cut, state), task, mfn);
  const grip = { granter: want.granter, ref: want.ref, mfn, flags: want.flags };
  return held(at(cut, state), task, { ...side, mfn, grip, isTyped: false });
}

/** The bytes move, unless the element reaches beyond a frame. */
function moveBytes(cut: Cut, task: Task<CopyOp>, element: Element): Turn {
  const { source, dest } = task.work;
  const { sourceOffset, destOffset, length } = element;
  if (Math.max(sourceOffset, destOffset) + length > bytesPerFrame(cut.state.geometry))
    return fail(cut, task, 'badCopyArg');
  if (source === undefined || dest === undefined) return fail(cut, task, 'generalError');
  const bytes = readBytes(cut.state, { mfn: source.mfn, offset: sourceOffset }, length);
  const moved = writeBytes(cut.state, { mfn: dest.mfn, offset: destOffset, author: task.caller }, bytes);
  const owner = frameOf(moved, dest.mfn).owner ?? task.caller;
  return go(noting(at(cut, moved), { domain: owner, mfn: dest.mfn }), task, { at: 'complete', status: 'okay' });
}

/** One part of letting go per micro-step: the pin of the first claim, then its type, then its reference. */
function release(cut: Cut, task: Task<CopyOp>): Turn {
  const [first, ...others] = task.work.leaving;
  if (first === undefined) return go(cut, task, { at: task.work.then });
  if (first.grip === undefined && first.isTyped)
    return go(runOne(cut, [{ do: 'putType', mfn: first.mfn }]).cut, task, { leaving: [{ ...first, isTyped: false }, ...others] }); // prettier-ignore
  if (first.grip === undefined) return go(at(cut, putReference(cut.state, first.mfn)), task, { leaving: others });
  const unpinned = { ...first, grip: undefined };
  return go(at(cut, dropPins(cut.state, first.grip)), task, { leaving: [unpinned, ...others] });
}

function giveResult(cut: Cut, task: Task<CopyOp>): Turn {
  const { cut: after, ok } = copyBack(cut, task);
  if (ok) return go(after, task, { at: 'next', index: task.work.index + 1 });
  return letGo(after, task, { status: 'EFAULT', then: 'finish', elements: delivered(task) });
}
