// Unmapping, in two passes over the batch: first every mapping disappears and its status is written, then the uses behind
// them end (pins, status bits, references). The flush of a removed translation comes at the P2M unlock in the first pass,
// so no frame is let go while a processor may still reach it. A fault in the first pass ends it; what it did is completed.
// Stricter than Xen: the gfn must be the one that this handle was mapped at. A paravirtual guest says where in its tables a mapping is, as in
// Xen, and its processors forget between the passes.
// Source: Xen common/grant_table.c (gnttab_unmap_grant_ref, gnttab_unmap_and_replace, unmap_common, unmap_common_complete).

import type { VcpuAgent } from '#abi/agents.ts';
import { gfnCount } from '#abi/geometry.ts';
import { mapFlags, type GrantsOp, type GrantStatus } from '#abi/grants.ts';
import { reply, type ElementReply, type Reply } from '#abi/reply.ts';
import { and, hasAny, without } from '#lib/bits.ts';
import type { Call } from '../execution.ts';
import { lockP2m, lookup, unlockP2m } from '../hap/table.ts';
import type { Machine } from '../machine.ts';
import { markFrame } from '../memory/dirty-log.ts';
import { crash } from '../memory/life.ts';
import { setP2m } from '../memory/p2m.ts';
import { callerIn } from '../memory/target.ts';
import type { Step } from '../port.ts';
import { isPresent, type Entry } from '../pv/entry.ts';
import { removeEntry } from '../pv/granted.ts';
import { letGoOfLeaf } from '../pv/release.ts';
import { paravirtualIn } from '../pv/owner.ts';
import { flushNative, pcpusOf } from '../tlb/flush.ts';
import { activeAt, dropGrip, isPinned, isReadOnly, type Grip } from './active.ts';
import { answerAtOnce, copyBack } from './batch.ts';
import { bindHandle, giveHandle, isStill, mappedAt, type Mapped } from './maptrack.ts';
import { isAddress, placeIn, type Address } from './place.ts';

type UnmapOp = Extract<GrantsOp<'concrete'>, { kind: 'grants.unmap' | 'grants.replace' }>;

/** One element in hand: which handle of whom, where it says it is mapped, and what is mapped where that is to come there instead. */
interface Unmapping extends Address {
  readonly mapper: number;
  readonly handle: number;
  readonly dev: 'none' | 'mapped' | 'wrong';
  readonly instead: Address | undefined;
  readonly index: number;
  /** A paravirtual guest's processor, by whose tables an address is meant. */
  readonly agent: VcpuAgent | undefined;
}

/** What an operation asks for, from its start on. */
const elementsOf = (op: UnmapOp): readonly Pick<Unmapping, 'handle' | 'gfn' | 'offset' | 'dev' | 'instead'>[] =>
  op.kind === 'grants.unmap'
    ? op.elements.slice(op.start).map((one) => ({ ...one, instead: undefined }))
    : op.elements.slice(op.start).map(({ newGfn, newOffset, ...one }) => {
        const instead = { gfn: newGfn, offset: newOffset };
        return { ...one, dev: 'none', instead: isAddress(instead) ? instead : undefined };
      });

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
  const agent = paravirtualIn(m, call);
  for (const element of elementsOf(op)) {
    const index = op.start + elements.length;
    const status = yield* unmapOne(m, { ...element, mapper, index, agent }, grips);
    isWritten = yield* copyBack(m, mapper, { to: op.results, index, status });
    if (!isWritten) break;
    elements.push({ status, out: [] });
  }
  if (agent !== undefined) yield* flushNative(m, () => pcpusOf(m, mapper), true);
  for (const grip of grips) yield* dropGrip(m, grip);
  return reply(isWritten ? 'ok' : 'EFAULT', { done: op.start + elements.length, elements });
}

/** The first pass for one element; a use that is to end in the second pass joins `grips`. */
function* unmapOne(m: Machine, unmapping: Unmapping, grips: Grip[]): Step<GrantStatus> {
  const mapped = mappedAt(m, unmapping.mapper, unmapping.handle);
  if (mapped === undefined) return 'badHandle';
  if (!isStill(m, mapped)) {
    // Its mapper has taken the entry away by other means, or the grant had kept its granter.
    crash(m, unmapping.mapper);
    return 'badHandle';
  }
  const { activeLock } = m.f;
  const at = activeAt(m, mapped);
  yield* m.port.lock('activeLock', activeLock, at);
  const mfn = m.f.activeMfn.get(at);
  const of = { mapped, grips, left: NOTHING };
  const status = yield* unmapLocked(m, unmapping, of);
  yield* m.port.unlock('activeLock', activeLock, at);
  if (isPresent(of.left)) yield* letGoOfLeaf(m, unmapping.mapper, of.left);
  // Whoever could write through the mapping is taken to have written.
  if (status === 'okay' && !isReadOnly(mapped.flags)) yield* markFrame(m, mapped.granter, mfn);
  return status;
}

/** What the handle stands for, if that is still the same grant: it is only sure to be under the active lock. */
function stillMapped(m: Machine, { mapper, handle }: Unmapping, before: Mapped): Mapped | undefined {
  const now = mappedAt(m, mapper, handle);
  return now?.granter === before.granter && now.ref === before.ref && now.life === before.life ? now : undefined;
}

/** What an element comes to beside its status: uses that are to end, and an entry that nothing stands for any more. */
interface Ending {
  readonly mapped: Mapped;
  readonly grips: Grip[];
  left: Entry;
}

const NOTHING: Entry = { lo: 0, hi: 0 };

function* unmapLocked(m: Machine, unmapping: Unmapping, of: Ending): Step<GrantStatus> {
  const { mapper, handle, dev } = unmapping;
  const at = activeAt(m, of.mapped);
  const mapped = stillMapped(m, unmapping, of.mapped);
  if (mapped === undefined || !isPinned(m, at)) return 'badHandle';
  const { granter, ref, flags } = mapped;
  const hasDevice = hasAny(flags, DEVICE);
  if (hasDevice && dev === 'wrong') return 'badDevAddr';
  const mfn = m.f.activeMfn.get(at);
  const hasHost = hasAny(flags, HOST) && (unmapping.agent === undefined || isAddress(unmapping));
  if (hasHost && !(yield* remove(m, unmapping, { ...of, mapped, mfn }, of))) return 'generalError';
  const done = (hasHost ? HOST : 0) + (hasDevice && dev === 'mapped' ? DEVICE : 0);
  const left = without(flags, done);
  if (!hasAny(left, HOST + DEVICE)) yield* giveHandle(m, mapper, handle);
  else if (done !== 0) bindHandle(m, { mapper, handle }, { ...mapped, flags: left });
  if (done !== 0) of.grips.push({ granter, ref, mfn, flags: done + and(flags, mapFlags.readOnly) });
  return 'okay';
}

/** The mapping disappears; false: it is not there. */
function* remove(
  m: Machine,
  unmapping: Unmapping,
  { mapped, mfn }: { readonly mapped: Mapped; readonly mfn: number },
  into: Ending,
): Step<boolean> {
  const { agent, instead } = unmapping;
  if (agent === undefined) return instead === undefined && (yield* hide(m, unmapping, { mfn, mappedAt: mapped.gfn }));
  const incarnation = m.f.activeIncarnation.get(activeAt(m, mapped));
  const sought = { mfn, incarnation, writes: !isReadOnly(mapped.flags) };
  const place = placeIn(unmapping, mapped.flags);
  const { isDone, left } = yield* removeEntry(m, agent, { place, sought, instead: instead?.gfn });
  into.left = left;
  return isDone;
}

/** From the P2M, and from the processors with the unlock; false: it is not there, or no table. */
function* hide(
  m: Machine,
  { mapper, gfn, index: done }: Unmapping,
  { mfn, mappedAt: at }: { readonly mfn: number; readonly mappedAt: number },
): Step<boolean> {
  if (gfn !== at || gfn >= gfnCount(m.geometry)) return false;
  yield* lockP2m(m, mapper);
  const found = lookup(m, mapper, gfn);
  const isGrant = found !== undefined && (found.type === 'grantRw' || found.type === 'grantRo');
  const isRemoved =
    isGrant && found.mfn === mfn && (yield* setP2m(m, mapper, { gfn, order: 0, mfn: 0, type: 'none', done }));
  yield* unlockP2m(m, mapper);
  return isRemoved;
}
