// Unmapping, in two passes over the batch: first every mapping disappears and its status is written, then the uses behind
// them end (pins, status bits, references). The flush of a removed translation comes at the P2M unlock in the first pass,
// so no frame is let go while a processor may still reach it. A fault in the first pass ends it; what it did is completed.
// Stricter than Xen: the gfn must be the one that this handle was mapped at.
// Source: Xen common/grant_table.c (gnttab_unmap_grant_ref, unmap_common, unmap_common_complete).

import { gfnCount } from '#abi/geometry.ts';
import { mapFlags, type GrantsOp, type GrantStatus } from '#abi/grants.ts';
import { reply, type ElementReply, type Reply } from '#abi/reply.ts';
import { and, hasAny, without } from '#lib/bits.ts';
import type { Call } from '../execution.ts';
import { lockP2m, lookup, unlockP2m } from '../hap/table.ts';
import type { Machine } from '../machine.ts';
import { markFrame } from '../memory/dirty-log.ts';
import { setP2m } from '../memory/p2m.ts';
import { callerIn } from '../memory/target.ts';
import type { Step } from '../port.ts';
import { activeAt, dropGrip, isPinned, isReadOnly, type Grip } from './active.ts';
import { answerAtOnce, copyBack } from './batch.ts';
import { bindHandle, giveHandle, mappedAt, type Mapped } from './maptrack.ts';

type UnmapOp = Extract<GrantsOp<'concrete'>, { kind: 'grants.unmap' }>;

/** One element in hand: which handle of whom, where it says it is mapped. */
interface Unmapping {
  readonly mapper: number;
  readonly handle: number;
  readonly gfn: number;
  readonly dev: 'none' | 'mapped' | 'wrong';
  readonly index: number;
}

const HOST = mapFlags.host;
const DEVICE = mapFlags.device;

/** The whole batch. */
export function* unmapGrants(m: Machine, call: Call, op: UnmapOp): Step<Reply> {
  const mapper = callerIn(call);
  const answer = answerAtOnce(m, mapper, op);
  if (answer !== undefined) return answer;
  const elements: ElementReply[] = [];
  const grips: Grip[] = [];
  let isWritten = true;
  for (const { handle, gfn, dev } of op.elements.slice(op.start)) {
    const index = op.start + elements.length;
    const status = yield* unmapOne(m, { mapper, handle, gfn, dev, index }, grips);
    isWritten = yield* copyBack(m, mapper, { to: op.results, index, status });
    if (!isWritten) break;
    elements.push({ status, out: [] });
  }
  for (const grip of grips) yield* dropGrip(m, grip);
  return reply(isWritten ? 'ok' : 'EFAULT', { done: op.start + elements.length, elements });
}

/** The first pass for one element; a use that is to end in the second pass joins `grips`. */
function* unmapOne(m: Machine, unmapping: Unmapping, grips: Grip[]): Step<GrantStatus> {
  const mapped = mappedAt(m, unmapping.mapper, unmapping.handle);
  if (mapped === undefined) return 'badHandle';
  const { activeLock } = m.f;
  const at = activeAt(m, mapped);
  yield* m.port.lock('activeLock', activeLock, at);
  const mfn = m.f.activeMfn.get(at);
  const status = yield* unmapLocked(m, unmapping, { mapped, grips });
  yield* m.port.unlock('activeLock', activeLock, at);
  // Whoever could write through the mapping is taken to have written.
  if (status === 'okay' && !isReadOnly(mapped.flags)) yield* markFrame(m, mapped.granter, mfn);
  return status;
}

/** What the handle stands for, if that is still the same grant: it is only sure to be under the active lock. */
function stillMapped(m: Machine, { mapper, handle }: Unmapping, before: Mapped): Mapped | undefined {
  const now = mappedAt(m, mapper, handle);
  return now?.granter === before.granter && now.ref === before.ref ? now : undefined;
}

function* unmapLocked(
  m: Machine,
  unmapping: Unmapping,
  of: { readonly mapped: Mapped; readonly grips: Grip[] },
): Step<GrantStatus> {
  const { mapper, handle, dev } = unmapping;
  const at = activeAt(m, of.mapped);
  const mapped = stillMapped(m, unmapping, of.mapped);
  if (mapped === undefined || !isPinned(m, at)) return 'badHandle';
  const { granter, ref, gfn, flags } = mapped;
  const hasDevice = hasAny(flags, DEVICE);
  if (hasDevice && dev === 'wrong') return 'badDevAddr';
  const mfn = m.f.activeMfn.get(at);
  const hasHost = hasAny(flags, HOST);
  if (hasHost && !(yield* remove(m, { ...unmapping, mfn, mappedAt: gfn }))) return 'generalError';
  const done = (hasHost ? HOST : 0) + (hasDevice && dev === 'mapped' ? DEVICE : 0);
  const left = without(flags, done);
  if (!hasAny(left, HOST + DEVICE)) yield* giveHandle(m, mapper, handle);
  else if (done !== 0) bindHandle(m, { mapper, handle }, { granter, ref, gfn, flags: left });
  if (done !== 0) of.grips.push({ granter, ref, mfn, flags: done + and(flags, mapFlags.readOnly) });
  return 'okay';
}

/** The mapping disappears from the P2M, and from the processors with the unlock; false: it is not there, or no table. */
function* remove(
  m: Machine,
  entry: { readonly mapper: number; readonly gfn: number; mappedAt: number; mfn: number; index: number },
): Step<boolean> {
  const { mapper, gfn, mfn, index: done } = entry;
  if (gfn !== entry.mappedAt || gfn >= gfnCount(m.geometry)) return false;
  yield* lockP2m(m, mapper);
  const found = lookup(m, mapper, gfn);
  const isGrant = found !== undefined && (found.type === 'grantRw' || found.type === 'grantRo');
  const isRemoved =
    isGrant && found.mfn === mfn && (yield* setP2m(m, mapper, { gfn, order: 0, mfn: 0, type: 'none', done }));
  yield* unlockP2m(m, mapper);
  return isRemoved;
}
