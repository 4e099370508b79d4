// The grant table as a whole: its size, its growth (all or nothing; frames go back with the domain only), and setupTable,
// which tells a guest where its grant frames are mapped: a translated guest as gfns, all ones if nowhere; a paravirtual one which they are.
// Source: Xen common/grant_table.c (gnttab_grow_table, gnttab_setup_table, gnttab_query_size).

import type { DomId } from '#abi/address.ts';
import type { GrantsOp, GrantStatus } from '#abi/grants.ts';
import { reply, type Reply } from '#abi/reply.ts';
import { high21, low32 } from '#lib/bits.ts';
import type { Call } from '../execution.ts';
import type { Machine } from '../machine.ts';
import { storeWord } from '../memory/guest.ts';
import { allocateAll } from '../memory/heap.ts';
import { ownGfn } from '../memory/p2m.ts';
import { callerIn, exists, isParavirtual, targetOf } from '../memory/target.ts';
import type { Step } from '../port.ts';
import { beginWritable } from '../pv/frames.ts';

type Query = Extract<GrantsOp<'concrete'>, { kind: 'grants.query' }>;
type Setup = Extract<GrantsOp<'concrete'>, { kind: 'grants.setupTable' }>;

const ALL_ONES = low32(-1);

/** Grows the table of `dom` to `count` frames; false: above its limit, or the heap refused and nothing has changed. */
export function* growGrants(m: Machine, dom: number, count: number): Step<boolean> {
  const { grantLock } = m.f;
  yield* m.port.lock('grantLock', grantLock, dom);
  // Whoever waited for the lock may find the domain buried: frames would be given to nobody.
  const isGrown = exists(m, dom) && (yield* growLocked(m, dom, count));
  yield* m.port.unlock('grantLock', grantLock, dom);
  return isGrown;
}

function* growLocked(m: Machine, dom: number, count: number): Step<boolean> {
  const had = m.f.grantFrameCount.get(dom);
  if (count > m.f.grantLimit.get(dom)) return false;
  if (count <= had) return true;
  const roles = Array.from({ length: count - had }, () => 'grantFrame' as const);
  const fresh = yield* allocateAll(m, dom as DomId, roles);
  if (fresh === undefined) return false;
  const base = dom * m.geometry.capacity.grantFrames + had;
  fresh.forEach((mfn, i) => m.f.grantFrame.set(base + i, mfn));
  if (isParavirtual(m, dom)) for (const mfn of fresh) beginWritable(m, mfn);
  m.f.grantFrameCount.set(dom, count);
  return true;
}

/** The domain whose table is meant, or why not. */
function tableOf(m: Machine, call: Call, target: DomId): DomId | GrantStatus {
  const dom = targetOf(m, call, target);
  if (dom === 'ESRCH') return 'badDomain';
  return dom === 'EPERM' ? 'permissionDenied' : dom;
}

/** How many grant frames there are, and how many there may be. */
export function query(m: Machine, call: Call, op: Query): Reply {
  const dom = tableOf(m, call, op.target);
  if (typeof dom === 'string') return reply(dom);
  return reply('okay', { out: [m.f.grantFrameCount.get(dom), m.f.grantLimit.get(dom)] });
}

/** Where frame `index` of the table is mapped, as the guest reads it. */
function listed(m: Machine, dom: number, index: number): { readonly lo: number; readonly hi: number } {
  const mfn = m.f.grantFrame.get(dom * m.geometry.capacity.grantFrames + index);
  // A paravirtual guest is told the frame itself.
  const gfn = isParavirtual(m, dom) ? mfn : ownGfn(m, mfn);
  return gfn < 0 ? { lo: ALL_ONES, hi: ALL_ONES } : { lo: low32(gfn), hi: high21(gfn) };
}

/** Grows the table as asked, unless `target` has been buried before its lock could be had. */
function* growChecked(
  m: Machine,
  call: Call,
  { target, op }: { readonly target: number; readonly op: Setup },
): Step<GrantStatus> {
  const { grantLock } = m.f;
  yield* m.port.lock('grantLock', grantLock, target);
  const dom = tableOf(m, call, op.target);
  const isGrown = typeof dom !== 'string' && (yield* growLocked(m, dom, op.frames));
  yield* m.port.unlock('grantLock', grantLock, target);
  if (typeof dom === 'string') return dom;
  return isGrown ? 'okay' : 'generalError';
}

/** Grows the table as asked and lists its frames. A word that cannot be written does not stop the list. */
export function* setupTable(m: Machine, call: Call, op: Setup): Step<Reply> {
  const target = tableOf(m, call, op.target);
  if (typeof target === 'string') return reply(target);
  const grown = yield* growChecked(m, call, { target, op });
  if (grown !== 'okay') return reply(grown);
  const who = { domain: callerIn(call), purpose: 'guest' } as const;
  let status: GrantStatus = 'okay';
  for (let index = 0; index < op.frames; index += 1) {
    const dom = tableOf(m, call, op.target);
    if (typeof dom === 'string') return reply(dom);
    const to = { domain: who.domain, buffer: op.list, index, ...listed(m, dom, index) };
    if (!(yield* storeWord(m, who, to))) status = 'badVirtAddr';
  }
  return reply(status);
}
