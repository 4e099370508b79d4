// update_va_mapping: the entry of a page of the caller's own address space, found by walking its tables as they stand; and then
// a flush, if it asks for one.
// A first reader may skip `whose`. Source: Xen arch/x86/mm.c (__do_update_va_mapping), arch/x86/pv/mm.c (map_guest_l1e).

import type { VcpuAgent } from '#abi/agents.ts';
import type { PvOp } from '#abi/pv.ts';
import { reply, type Errno, type Reply } from '#abi/reply.ts';
import { unreachable } from '#lib/invariant.ts';
import type { Call } from '../execution.ts';
import type { Machine } from '../machine.ts';
import { putReference } from '../memory/frames.ts';
import { inTables, isCanonical } from '../paging/pages.ts';
import type { Step } from '../port.ts';
import { changeEntry } from './change.ts';
import { codeOfLevel, frameIn, indexIn, isPresent, isXenSlot } from './entry.ts';
import { getPage, isOwned, lockPage, unlockPage } from './frames.ts';
import { flushFor, type Whose } from './flush.ts';
import { keyOf, mayChange, ownerIn, paravirtualIn } from './owner.ts';

type Mapping = Extract<PvOp<'concrete'>, { kind: 'pv.updateVaMapping' }>;

/** Changes the entry of one page. */
export function* updateVaMapping(m: Machine, call: Call, op: Mapping): Step<Reply> {
  const agent = paravirtualIn(m, call);
  if (agent === undefined) return reply('ENOSYS');
  const owner = ownerIn(m, call, op.owner);
  if (owner === 'ESRCH') return reply(owner);
  if (!mayChange(call, owner)) return reply('EPERM');
  const errno = yield* change(m, agent, op);
  if (errno !== undefined) return reply(errno);
  if (op.flush !== 'nothing') {
    const what = op.flush === 'everything' ? 'everything' : { page: op.page };
    yield* flushFor(m, agent, { whose: whose(op), what });
  }
  return reply('ok');
}

function whose({ on, vcpus }: Mapping): Whose {
  switch (on) {
    case 'local':
      return 'own';
    case 'all':
      return 'all';
    case 'some':
      return { vcpus };
    default:
      return unreachable(on);
  }
}

/** The frame of the table that has the page's entry; -1: there is none. What is read is the caller's own, whatever has become of it. */
export function* tableFor(m: Machine, agent: VcpuAgent, page: number): Step<number> {
  const { levels } = m.geometry;
  let mfn = m.f.vcpuRoot.getWide(keyOf(m, agent));
  for (let level = levels; level > 1; level -= 1) {
    const index = indexIn(m, level, page);
    if (isXenSlot(m, level, index)) return -1;
    yield* m.port.point('load', 'table');
    if (!isOwned(m, mfn, agent.domain)) return -1;
    const lo = m.port.peek({ domain: agent.domain, purpose: 'guest' }, { mfn, index });
    const entry = { lo, hi: m.port.hi };
    if (!isPresent(entry)) return -1;
    mfn = frameIn(entry);
  }
  return mfn;
}

function* change(m: Machine, agent: VcpuAgent, op: Mapping): Step<Errno | undefined> {
  if (!isCanonical(m, op.page)) return 'EINVAL';
  const page = inTables(m, op.page);
  const mfn = yield* tableFor(m, agent, page);
  if (mfn < 0 || !(yield* getPage(m, mfn, agent.domain))) return 'EINVAL';
  const isLocked = yield* lockPage(m, mfn);
  const isTable = isLocked && m.f.frameType.get(mfn) === codeOfLevel(1);
  const entry = { ...op.value, index: indexIn(m, 1, page), keepsFlags: false };
  const changed = isTable ? yield* changeEntry(m, { mfn, level: 1, owner: agent.domain }, entry) : 'EINVAL';
  if (isLocked) yield* unlockPage(m, mfn);
  yield* putReference(m, mfn);
  return typeof changed === 'string' && changed !== 'restart' ? changed : undefined;
}
