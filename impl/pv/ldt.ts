// The LDT of a paravirtual vCPU. Its frames come into use one by one, when the processor faults on them: the entry that the guest has for them
// is looked up once, and what it leads to stays in use whatever becomes of that entry, until the LDT or the root changes.
// A first reader may begin at `loadSegment`. Sources: Xen arch/x86/mm.c (MMUEXT_SET_LDT), arch/x86/pv/mm.c (pv_map_ldt_shadow_page),
// arch/x86/pv/descriptor-tables.c (pv_destroy_ldt).

import type { VcpuAgent } from '#abi/agents.ts';
import type { PvOp } from '#abi/pv.ts';
import { reply, type Reply } from '#abi/reply.ts';
import type { Call } from '../execution.ts';
import type { Machine } from '../machine.ts';
import { addressOf, inTables, isCanonical, PAGES } from '../paging/pages.ts';
import type { Step } from '../port.ts';
import { isNameable } from './copy.ts';
import { frameIn, indexIn, isPresent } from './entry.ts';
import { flushFor } from './flush.ts';
import { isOwned, tableOf } from './frames.ts';
import { clearLdt, ldtSlot, put, take } from './descriptor-frames.ts';
import { tableFor } from './mapping.ts';
import { keyOf, paravirtualIn } from './owner.ts';

type Op<K extends PvOp<'concrete'>['kind']> = Extract<PvOp<'concrete'>, { kind: K }>;

/** The caller has its LDT elsewhere, or one of another length. */
export function* setLdt(m: Machine, call: Call, op: Op<'pv.setLdt'>): Step<Reply> {
  const agent = paravirtualIn(m, call);
  const { capacity, wordsPerFrame } = m.geometry;
  if (agent === undefined || op.entries > capacity.ldtFrames * wordsPerFrame) return reply('EINVAL');
  const from = { buffer: { in: 'guest', gfn: op.page, offset: 0 }, index: 0 } as const;
  if (op.entries > 0 && !isNameable(m, from)) return reply('EINVAL');
  const base = op.entries > 0 ? op.page : 0;
  const key = keyOf(m, agent);
  const { vcpuLdtBase, vcpuLdtEntries } = m.f;
  if (vcpuLdtEntries.get(key) === op.entries && vcpuLdtBase.getWide(key) === base) return reply('ok');
  yield* m.port.point('store', 'domain');
  vcpuLdtEntries.set(key, op.entries);
  vcpuLdtBase.setWide(key, base);
  const old = clearLdt(m, key);
  for (const mfn of old) yield* put(m, mfn);
  if (old.length > 0) yield* flushFor(m, agent, { whose: 'own', what: 'everything' });
  return reply('ok');
}

/** A processor loads a segment by a descriptor of its LDT. */
export function* loadSegment(m: Machine, call: Call, { index }: Op<'pv.loadSegment'>): Step<Reply> {
  const agent = paravirtualIn(m, call);
  if (agent === undefined) return reply('generalProtection');
  const key = keyOf(m, agent);
  if (index >= m.f.vcpuLdtEntries.get(key)) return reply('generalProtection');
  const at = Math.floor(index / m.geometry.wordsPerFrame);
  if (m.f.vcpuLdt.get(ldtSlot(m, key, at)) === 0) {
    const page = (m.f.vcpuLdtBase.getWide(key) + at) % PAGES;
    if (!isCanonical(m, page)) return reply('generalProtection');
    if (!(yield* use(m, agent, { at, page })))
      return reply('pageFault', { out: [0], words: [addressOf(page, 8 * (index % m.geometry.wordsPerFrame))] });
  }
  const mfn = m.f.vcpuLdt.get(ldtSlot(m, key, at));
  const lo = m.port.peek(tableOf(agent.domain), { mfn, index: index % m.geometry.wordsPerFrame });
  return reply('ok', { words: [{ lo, hi: m.port.hi }] });
}

/** A frame of the LDT comes into use: what the guest's kernel has mapped there; false: that is no memory of descriptors. */
function* use(m: Machine, agent: VcpuAgent, of: { readonly at: number; readonly page: number }): Step<boolean> {
  const page = inTables(m, of.page);
  const table = yield* tableFor(m, agent, page);
  if (table < 0) return false;
  yield* m.port.point('load', 'table');
  if (!isOwned(m, table, agent.domain)) return false;
  const lo = m.port.peek({ domain: agent.domain, purpose: 'guest' }, { mfn: table, index: indexIn(m, 1, page) });
  const entry = { lo, hi: m.port.hi };
  const mfn = frameIn(entry);
  if (!isPresent(entry) || !(yield* take(m, mfn, agent.domain))) return false;
  yield* m.port.point('store', 'domain');
  m.f.vcpuLdt.set(ldtSlot(m, keyOf(m, agent), of.at), mfn);
  return true;
}
