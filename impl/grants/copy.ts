// Copying between frames, each side named by a grant or (the caller's own) by gfn. A claim on a side holds a reference and,
// for a grant, a pin; claims are kept from one element to the next while they fit. They are let go of in Xen's order: pin
// and status bits first, the reference after that (XSA-236). The bytes of an element move in one act.
// Whether a side may be named by gfn is asked where the claim is made: of the source before that of the destination is looked at.
// Source: Xen common/grant_table.c (gnttab_copy, gnttab_copy_one, gnttab_copy_claim_buf, gnttab_copy_buf).

import { DOMID_SELF, type DomId } from '#abi/address.ts';
import { bytesPerFrame } from '#abi/geometry.ts';
import { mapFlags, type GrantsOp, type GrantStatus } from '#abi/grants.ts';
import { reply, type ElementReply, type Reply } from '#abi/reply.ts';
import type { Call } from '../execution.ts';
import type { Machine } from '../machine.ts';
import { getReference, putReference } from '../memory/frames.ts';
import { callerIn, exists, isParavirtual } from '../memory/target.ts';
import type { Step } from '../port.ts';
import { putType } from '../pv/release.ts';
import { dropPins, getTypes, type Grip } from './active.ts';
import { answerAtOnce, copyBack } from './batch.ts';
import { markFrame } from '../memory/dirty-log.ts';
import { moveBytes } from './bytes.ts';
import { acquire, isPopulated, pagedFrame } from './claim.ts';

type CopyOp = Extract<GrantsOp<'concrete'>, { kind: 'grants.copy' }>;
type Element = CopyOp['elements'][number];

/** One side of an element, as the caller wrote it. */
interface Side {
  readonly by: 'gfn' | 'ref';
  readonly domain: number;
  readonly ref: number;
  readonly gfn: number;
}

/** A side whose frame is held. `grip`: the pin, if it came by a grant. */
interface Claim extends Side {
  readonly mfn: number;
  readonly grip: Grip | undefined;
  /** Whether it is used as writable, as a paravirtual guest's must be that is written. */
  isTyped: boolean;
}

/** The sides as claimed so far, from element to element. Owned by one batch. */
interface Claims {
  readonly caller: DomId;
  source: Claim | undefined;
  dest: Claim | undefined;
}

type Which = 'source' | 'dest';

const sourceOf = (e: Element): Side => ({ by: e.sourceBy, domain: e.sourceDomain, ref: e.sourceRef, gfn: e.sourceGfn });
const destOf = (e: Element): Side => ({ by: e.destBy, domain: e.destDomain, ref: e.destRef, gfn: e.destGfn });

/** The whole batch, up to its end or a preemption. */
export function* copyGrants(m: Machine, call: Call, op: CopyOp): Step<Reply> {
  const caller = callerIn(call);
  const answer = answerAtOnce(m, caller, op);
  if (answer !== undefined) return answer;
  const claims: Claims = { caller, source: undefined, dest: undefined };
  const elements: ElementReply[] = [];
  const status = yield* copyElements(m, op, { claims, elements });
  yield* letGo(m, claims);
  return reply(status, { done: op.start + elements.length, elements });
}

function* copyElements(
  m: Machine,
  op: CopyOp,
  into: { readonly claims: Claims; readonly elements: ElementReply[] },
): Step<'ok' | 'preempted' | 'EFAULT'> {
  const { claims, elements } = into;
  for (let index = op.start; ; index += 1) {
    const element = op.elements[index];
    if (element === undefined) return 'ok';
    if (index > op.start && m.port.preempts(index)) return 'preempted';
    const status = yield* copyOne(m, claims, { element, index });
    if (status !== 'okay') yield* letGo(m, claims);
    const isWritten = yield* copyBack(m, claims.caller, { to: op.results, index, status });
    if (!isWritten) return 'EFAULT';
    elements.push({ status, out: [] });
  }
}

/** Whether there is the domain that a side names. */
const isThere = (m: Machine, { domain }: Side, caller: DomId): boolean =>
  exists(m, domain === DOMID_SELF ? caller : domain);

const isOther = (claim: Claim | undefined, side: Side): boolean => claim !== undefined && claim.domain !== side.domain;

function* copyOne(
  m: Machine,
  claims: Claims,
  { element, index }: { readonly element: Element; readonly index: number },
): Step<GrantStatus> {
  const source = sourceOf(element);
  const dest = destOf(element);
  if (!isThere(m, source, claims.caller) || !isThere(m, dest, claims.caller)) return 'badDomain';
  // Claims made for other domains are of no use.
  if (isOther(claims.source, source) || isOther(claims.dest, dest)) yield* letGo(m, claims);
  const first = yield* claim(m, claims, { which: 'source', side: source, index });
  if (first !== 'okay') return first;
  const second = yield* claim(m, claims, { which: 'dest', side: dest, index });
  return second === 'okay' ? yield* copyBetween(m, claims, element) : second;
}

/** The bytes move, unless the element reaches beyond a frame. */
function* copyBetween(m: Machine, { caller, source, dest }: Claims, element: Element): Step<GrantStatus> {
  const { sourceOffset, destOffset, length } = element;
  if (Math.max(sourceOffset, destOffset) + length > bytesPerFrame(m.geometry)) return 'badCopyArg';
  if (source === undefined || dest === undefined) return 'generalError';
  const from = { mfn: source.mfn, offset: sourceOffset };
  const to = { mfn: dest.mfn, offset: destOffset };
  yield* moveBytes(m, { domain: caller, purpose: 'guest' }, { from, to, length });
  yield* markFrame(m, m.f.frameOwner.get(dest.mfn) - 1, dest.mfn);
  return 'okay';
}

const fits = (claimed: Claim, side: Side): boolean =>
  claimed.by === side.by && (side.by === 'ref' ? claimed.ref === side.ref : claimed.gfn === side.gfn);

/** Keeps a claim that fits, lets go of one that does not, makes one where there is none. */
function* claim(
  m: Machine,
  claims: Claims,
  want: { readonly which: Which; readonly side: Side; readonly index: number },
): Step<GrantStatus> {
  const { which, side, index } = want;
  const claimed = claims[which];
  if (claimed !== undefined && fits(claimed, side)) return 'okay';
  claims[which] = undefined;
  if (claimed !== undefined) yield* release(m, claimed);
  if (side.by === 'gfn') return yield* claimOwn(m, claims, { which, side });
  const flags = which === 'source' ? mapFlags.host + mapFlags.readOnly : mapFlags.host;
  const granter = side.domain === DOMID_SELF ? claims.caller : side.domain;
  const { ref } = side;
  const taken = yield* acquire(m, {
    granter,
    ref,
    by: claims.caller,
    flags,
    purpose: 'copy',
    done: 2 * index + (which === 'dest' ? 1 : 0),
  });
  if (taken.status !== 'okay') return taken.status;
  const grip = { granter, ref, mfn: taken.mfn, flags };
  return yield* hold(m, claims, { which, claimed: { ...side, mfn: taken.mfn, grip, isTyped: false } });
}

/** A side's frame is held; what is to be written is used as writable, if its owner's frames are used by type. */
function* hold(
  m: Machine,
  claims: Claims,
  { which, claimed }: { readonly which: Which; readonly claimed: Claim },
): Step<GrantStatus> {
  claims[which] = claimed;
  const { mfn } = claimed;
  const owner = m.f.frameOwner.get(mfn) - 1;
  if (which === 'source' || !isParavirtual(m, owner)) return 'okay';
  claimed.isTyped = yield* getTypes(m, { granter: owner, mfn, flags: mapFlags.host });
  return claimed.isTyped ? 'okay' : 'generalError';
}

/** A foreign domain's memory only through a grant; one's own by gfn only as DOMID_SELF. */
function* claimOwn(
  m: Machine,
  claims: Claims,
  { which, side }: { readonly which: Which; readonly side: Side },
): Step<GrantStatus> {
  if (side.domain !== DOMID_SELF) return 'permissionDenied';
  yield* m.port.point('reference', 'frame');
  while (yield* isPopulated(m, claims.caller, side.gfn)) yield* m.port.point('reference', 'frame');
  const mfn = pagedFrame(m, claims.caller, side.gfn);
  if (mfn === 0 || !getReference(m, mfn)) return 'badPage';
  return yield* hold(m, claims, { which, claimed: { ...side, mfn, grip: undefined, isTyped: false } });
}

/** Lets go of one side: pin and status bits, then the type and the reference. */
function* release(m: Machine, { grip, mfn, isTyped }: Claim): Step<void> {
  if (grip !== undefined) yield* dropPins(m, grip);
  if (isTyped) yield* putType(m, mfn);
  yield* putReference(m, mfn);
}

/** Lets go of both sides, source first. */
function* letGo(m: Machine, claims: Claims): Step<void> {
  const { source, dest } = claims;
  claims.source = undefined;
  claims.dest = undefined;
  if (source !== undefined) yield* release(m, source);
  if (dest !== undefined) yield* release(m, dest);
}
