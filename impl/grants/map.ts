// Mapping granted frames. Per element: checks, a handle, the grant comes into use (claim.ts), the frame appears at the
// caller's gfn, the handle is bound, the status is written back. Until the handle is bound everything can be undone; a
// status that cannot be written undoes nothing, and the handle is lost to the guest, as in Xen.
// A first reader may skip what concerns a domain that maps its own grant.
// Sources: Xen common/grant_table.c (map_grant_ref), arch/x86/mm.c (create_grant_p2m_mapping), arch/x86/mm/p2m.c
// (p2m_add_page).

import { gfnCount } from '#abi/geometry.ts';
import { mapFlags, type GrantsOp, type GrantStatus } from '#abi/grants.ts';
import type { DomId } from '#abi/address.ts';
import type { VcpuAgent } from '#abi/agents.ts';
import { reply, type ElementReply, type Reply } from '#abi/reply.ts';
import { and, hasAny, without } from '#lib/bits.ts';
import type { Call } from '../execution.ts';
import { lockP2m, lookup, unlockP2m } from '../hap/table.ts';
import type { Machine } from '../machine.ts';
import { crash } from '../memory/life.ts';
import { isSpecialType, ownGfn, setP2m } from '../memory/p2m.ts';
import { callerIn, exists, isAlive } from '../memory/target.ts';
import type { Step } from '../port.ts';
import { createEntry } from '../pv/granted.ts';
import { paravirtualIn } from '../pv/owner.ts';
import { dropGrip, getTypes, isReadOnly } from './active.ts';
import { answerAtOnce, copyBack } from './batch.ts';
import { acquire } from './claim.ts';
import { bindHandle, giveHandle, takeHandle } from './maptrack.ts';
import { placeIn } from './place.ts';
import { moveEntry } from './move.ts';

type MapOp = Extract<GrantsOp<'concrete'>, { kind: 'grants.map' }>;

/** One element in hand. */
interface Mapping {
  readonly mapper: DomId;
  readonly granter: number;
  readonly ref: number;
  readonly flags: number;
  readonly gfn: number;
  readonly offset: number;
  readonly index: number;
  /** A paravirtual guest's processor, by whose tables an address is meant. */
  readonly agent: VcpuAgent | undefined;
}

const HVM = 1;
const USED = mapFlags.host + mapFlags.device;
/** What a translated guest cannot ask for. */
const PV_ONLY = mapFlags.device + mapFlags.applicationMap + mapFlags.containsPte;

const refused = (status: GrantStatus): ElementReply => ({ status, out: [] });

/** The whole batch, up to its end or a preemption. */
export function* mapGrants(m: Machine, call: Call, op: MapOp): Step<Reply> {
  const mapper = callerIn(call);
  const answer = answerAtOnce(m, mapper, op);
  if (answer !== undefined) return answer;
  const elements: ElementReply[] = [];
  for (let index = op.start; ; index += 1) {
    const element = op.elements[index];
    if (element === undefined) return reply('ok', { done: index, elements });
    if (index > op.start && m.port.preempts(index)) return reply('preempted', { done: index, elements });
    const { domain: granter, ref, flags, gfn, offset } = element;
    const agent = paravirtualIn(m, call);
    const outcome = yield* mapOne(m, { mapper, granter, ref, flags, gfn, offset, index, agent });
    const isWritten = yield* copyBack(m, mapper, { to: op.results, index, status: outcome.status });
    if (!isWritten) return reply('EFAULT', { done: index, elements });
    elements.push(outcome);
  }
}

/** What is wrong with the request itself, in Xen's order. The id of the granter is literal: DOMID_SELF is nobody. */
function objection(m: Machine, { mapper, granter, flags }: Mapping): GrantStatus | undefined {
  if (!hasAny(flags, USED)) return 'badGntref';
  if (m.f.domKind.get(mapper) === HVM && hasAny(flags, PV_ONLY)) return 'generalError';
  return exists(m, granter) ? undefined : 'badDomain';
}

function* mapOne(m: Machine, mapping: Mapping): Step<ElementReply> {
  const { mapper, flags, index } = mapping;
  const wrong = objection(m, mapping);
  if (wrong !== undefined) return refused(wrong);
  const handle = yield* takeHandle(m, mapper, index);
  if (handle < 0) return refused('noSpace');
  const { granter, ref } = mapping;
  const want = { granter, ref, flags, by: mapper, purpose: 'map', done: index } as const;
  const { status, mfn } = yield* acquire(m, want);
  if (status !== 'okay') {
    yield* giveHandle(m, mapper, handle);
    return refused(status);
  }
  // The reference keeps the granter.
  const life = m.f.domLife.get(granter);
  const isTyped = yield* getTypes(m, { granter, mfn, flags });
  const isInstalled = isTyped && (!hasAny(flags, mapFlags.host) || (yield* install(m, mapping, mfn)));
  if (isInstalled && (yield* bind(m, mapping, { handle, life }))) return { status: 'okay', out: [handle] };
  if (isInstalled) yield* hide(m, mapping, mfn);
  yield* dropGrip(m, { granter, ref, mfn, flags }, isTyped);
  yield* giveHandle(m, mapper, handle);
  return refused('generalError');
}

/** The frame appears where it is wanted; false: nothing has changed, except that a mapper may have been stopped for good. */
function* install(m: Machine, mapping: Mapping, mfn: number): Step<boolean> {
  const { mapper, flags, gfn, agent } = mapping;
  if (agent !== undefined) return yield* createEntry(m, agent, { place: placeIn(mapping, flags), mfn, flags });
  const isPlain = without(flags, mapFlags.readOnly + mapFlags.device) === mapFlags.host;
  if (!isPlain || gfn >= gfnCount(m.geometry)) return false;
  yield* lockP2m(m, mapper);
  const isPlaced = yield* place(m, mapping, mfn);
  yield* unlockP2m(m, mapper);
  return isPlaced;
}

/** Changes the P2M, whose lock is held. RAM that was at the gfn is orphaned: owned, at no gfn. */
function* place(m: Machine, { mapper, flags, gfn, index: done }: Mapping, mfn: number): Step<boolean> {
  const previous = lookup(m, mapper, gfn);
  if (previous !== undefined && isSpecialType(previous.type)) {
    crash(m, mapper);
    return false;
  }
  if (!isAlive(m, mapper)) return false;
  const type = isReadOnly(flags) ? 'grantRo' : 'grantRw';
  const old = m.f.frameOwner.get(mfn) === mapper + 1 ? ownGfn(m, mfn) : -1;
  if (old < 0 || old === gfn) return yield* setP2m(m, mapper, { gfn, order: 0, mfn, type, done });
  return yield* moveEntry(m, mapper, { from: old, to: gfn, mfn, type, done });
}

/** The handle stands for the mapping; false: the mapper has been killed meanwhile and cannot have it any more. */
function* bind(
  m: Machine,
  mapping: Mapping,
  { handle, life }: { readonly handle: number; readonly life: number },
): Step<boolean> {
  const { mapper, granter, ref, gfn } = mapping;
  yield* m.port.point('store', 'maptrack');
  if (!isAlive(m, mapper)) return false;
  const flags = and(mapping.flags, USED + mapFlags.readOnly + mapFlags.containsPte);
  bindHandle(m, { mapper, handle }, { granter, ref, life, flags, gfn });
  return true;
}

/** Takes the entry of a mapping that could not be bound away again. */
function* hide(m: Machine, { mapper, flags, gfn }: Mapping, mfn: number): Step<void> {
  if (!hasAny(flags, mapFlags.host)) return;
  yield* lockP2m(m, mapper);
  if (lookup(m, mapper, gfn)?.mfn === mfn) yield* setP2m(m, mapper, { gfn, order: 0, mfn: 0, type: 'none' });
  yield* unlockP2m(m, mapper);
}
