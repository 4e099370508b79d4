// Types of memory as a device model sets them, gfn by gfn, each under the P2M lock for itself; processors forget at each unlock.
// A preemption check comes after so many gfns. What an error leaves behind stays.
// RAM that is made nothing leaves its gfn and stays with its owner. (Xen's entry goes on naming the frame.)
// A first reader may skip `isOutside`. Sources: Xen arch/x86/hvm/dm.c (dm_op, set_mem_type), arch/x86/mm/p2m.c (p2m_change_type_one).

import { DOMID_CONTROL, type DomId } from '#abi/address.ts';
import type { P2mType } from '#abi/hap.ts';
import type { MemoryOp } from '#abi/memory.ts';
import { reply, type Errno, type Reply } from '#abi/reply.ts';
import type { Call } from '../execution.ts';
import { lockP2m, lookup, unlockP2m } from '../hap/table.ts';
import type { Machine } from '../machine.ts';
import type { Step } from '../port.ts';
import { markGfn } from './dirty-log.ts';
import { isRamType, setP2m } from './p2m.ts';
import { demand, isOnDemand } from './pod-demand.ts';
import { callerIn, exists, isParavirtual } from './target.ts';

type SetMemType = Extract<MemoryOp<'concrete'>, { kind: 'memory.setMemType' }>;

const p2mTypeOf = { ramRw: 'ramRw', ramRo: 'ramRo', mmioDm: 'none' } as const satisfies Record<string, P2mType>;

/** The domain that a device model serves, by literal id: the control domain's may serve all others. */
export function servedBy(m: Machine, call: Call, target: DomId): DomId | 'ESRCH' | 'EPERM' {
  if (!exists(m, target)) return 'ESRCH';
  const caller = callerIn(call);
  return caller === target || caller !== DOMID_CONTROL ? 'EPERM' : target;
}

/** Whether a range is empty or reaches beyond what was ever mapped. */
const isOutside = (m: Machine, dom: number, range: { readonly gfn: number; readonly count: number }): boolean =>
  range.count <= 0 || range.gfn + range.count - 1 > m.f.domMaxGfn.getWide(dom);

/** The whole range, up to its end, an error or a preemption. */
export function* setMemType(m: Machine, call: Call, op: SetMemType): Step<Reply> {
  const { gfn, count, start, type } = op;
  const target = servedBy(m, call, op.target);
  if (typeof target === 'string') return reply(target);
  if (isParavirtual(m, target)) return reply('EINVAL');
  if (isOutside(m, target, { gfn: gfn + start, count: count - start }) || type === 'unused') return reply('EINVAL');
  for (let index = start; index < count; index += 1) {
    const isDue = index > start && (index - start) % m.geometry.capacity.rangeCheck === 0;
    if (isDue && m.port.preempts(index)) return reply('preempted', { done: index });
    yield* lockP2m(m, target);
    if (isOnDemand(m, target, gfn + index)) yield* demand(m, target, gfn + index);
    const errno = yield* changeOne(m, call, { op, index, type: p2mTypeOf[type] });
    yield* unlockP2m(m, target);
    if (errno !== undefined) return reply(errno, { done: index });
  }
  return reply('ok', { done: count });
}

/** One gfn, the P2M lock held. RAM can become anything, nothing can stay nothing; what could not be populated stays as it is. */
function* changeOne(
  m: Machine,
  call: Call,
  { op, index, type }: { readonly op: SetMemType; readonly index: number; readonly type: P2mType },
): Step<Errno | undefined> {
  const target = servedBy(m, call, op.target);
  if (typeof target === 'string') return target;
  const gfn = op.gfn + index;
  const found = lookup(m, target, gfn);
  if (found === undefined) return type === 'none' ? undefined : 'EINVAL';
  if (!isRamType(found.type)) return 'EINVAL';
  const mfn = type === 'none' ? 0 : found.mfn;
  if (!(yield* setP2m(m, target, { gfn, order: 0, mfn, type, done: index }))) return 'ENOMEM';
  // Xen does not: then what is written there from now on goes unnoticed.
  if (type === 'ramRw') yield* markGfn(m, target, gfn);
  return undefined;
}
