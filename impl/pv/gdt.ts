// The GDT of a paravirtual vCPU. Its frames are held and used as descriptors for as long as it is loaded, so that nobody writes them but the
// hypervisor, which writes what may stand there.
// A first reader may skip nothing. Source: Xen arch/x86/pv/descriptor-tables.c (pv_set_gdt, pv_destroy_gdt, do_update_descriptor).

import type { PvOp } from '#abi/pv.ts';
import { reply, type Reply } from '#abi/reply.ts';
import type { Call } from '../execution.ts';
import type { Machine } from '../machine.ts';
import { putReference } from '../memory/frames.ts';
import type { Step } from '../port.ts';
import { fitDescriptor, gdtEntriesMax } from './descriptors.ts';
import { exchangeGdt, put, take } from './descriptor-frames.ts';
import { DESCRIPTORS, WRITABLE } from './entry.ts';
import { flushFor } from './flush.ts';
import { getPage, tableOf } from './frames.ts';
import { keyOf, paravirtualIn } from './owner.ts';
import { putType } from './release.ts';
import { getType } from './types.ts';

type Op<K extends PvOp<'concrete'>['kind']> = Extract<PvOp<'concrete'>, { kind: K }>;

/** Loads another GDT: the new one is whole before the old one goes. */
export function* setGdt(m: Machine, call: Call, op: Op<'pv.setGdt'>): Step<Reply> {
  const agent = paravirtualIn(m, call);
  if (agent === undefined) return reply('ENOSYS');
  if (op.entries > gdtEntriesMax(m)) return reply('EINVAL');
  const count = Math.ceil(op.entries / m.geometry.wordsPerFrame);
  if (op.frames.length < count) return reply('EFAULT');
  const frames = op.frames.slice(0, count).map(({ frame }) => frame);
  for (const [at, mfn] of frames.entries()) {
    if (yield* take(m, mfn, agent.domain)) continue;
    for (let before = at - 1; before >= 0; before -= 1) yield* put(m, frames[before] ?? 0);
    return reply('EINVAL');
  }
  const key = keyOf(m, agent);
  yield* m.port.point('store', 'domain');
  const old = exchangeGdt(m, key, frames);
  m.f.vcpuGdtEntries.set(key, op.entries);
  for (const mfn of old) yield* put(m, mfn);
  yield* flushFor(m, agent, { whose: 'own', what: 'everything' });
  return reply('ok');
}

/** Writes one descriptor, to a frame of descriptors or to memory. */
export function* updateDescriptor(m: Machine, call: Call, op: Op<'pv.updateDescriptor'>): Step<Reply> {
  const agent = paravirtualIn(m, call);
  if (agent === undefined) return reply('ENOSYS');
  const { frame: mfn, offset, value } = op;
  const fit = fitDescriptor(m, value);
  if (offset !== 0 || fit === undefined || !(yield* getPage(m, mfn, agent.domain))) return reply('EINVAL');
  const isTable = m.f.frameType.get(mfn) === DESCRIPTORS;
  const unfit = yield* getType(m, mfn, isTable ? DESCRIPTORS : WRITABLE);
  if (unfit === undefined) {
    const at = { mfn, index: op.index % m.geometry.wordsPerFrame, lo: fit.lo, hi: fit.hi };
    if (isTable) yield* m.port.store(tableOf(agent.domain), 'table', at);
    else yield* m.port.store({ domain: agent.domain, purpose: 'guest' }, 'guest', at);
    yield* putType(m, mfn);
  }
  yield* putReference(m, mfn);
  return reply(unfit === undefined ? 'ok' : 'EINVAL');
}
