// The LDT of a paravirtual vCPU: memory of the guest's at linear addresses, each frame of which is held as descriptors from the first time
// that its processor reads one there, until the vCPU has another LDT or another root. Entries that lead there may change meanwhile.
// A first reader may skip nothing. Sources: Xen arch/x86/mm.c (MMUEXT_SET_LDT, new_guest_cr3), arch/x86/pv/mm.c
// (pv_map_ldt_shadow_page), arch/x86/pv/descriptor-tables.c (pv_destroy_ldt), arch/x86/traps.c (handle_ldt_mapping_fault).

import type { Gfn, Mfn } from '#abi/address.ts';
import type { VcpuAgent } from '#abi/agents.ts';
import type { Geometry } from '#abi/geometry.ts';
import { bit } from '#lib/bits.ts';
import type { Cut } from '../cut.ts';
import { contextOf, isCanonicalPage, linearAddress, PAGES } from '../paging/context.ts';
import { end, go, type OpOf, type Task, type Turn } from '../progress.ts';
import { wordAt } from '../words.ts';
import { inOne, paravirtualCaller, running } from './batch.ts';
import { isAccessible } from './buffers.ts';
import { inUse, replaceLdt } from './descriptor-frames.ts';
import { pvWork, type Todo } from './work.ts';

/** One micro-step of MMUEXT_SET_LDT. */
export function setLdt(cut: Cut, task: Task<OpOf<'pv.setLdt'>>): Turn {
  const { op, work } = task;
  const vcpu = paravirtualCaller(cut, task);
  if (vcpu === undefined) return end(cut, 'EINVAL');
  if (work.at !== 'begin') return inOne(cut, task, () => []);
  const { geometry } = cut.state;
  const { entries } = op;
  const buffer = { in: 'guest', gfn: op.page, offset: 0 } as const;
  const isThere = entries === 0 || isAccessible(geometry, { buffer, index: 0 });
  if (entries > geometry.capacity.ldtFrames * geometry.wordsPerFrame || !isThere) return end(cut, 'EINVAL');
  const { ldt } = contextOf(cut.state, vcpu);
  // Without descriptors it does not matter where they would be.
  const base = entries === 0 ? (0 as Gfn) : op.page;
  if (ldt.entries === entries && ldt.base === base) return end(cut, 'ok');
  const flush: Todo = [{ do: 'forget', domain: vcpu.domain, vcpus: bit(vcpu.vcpu), page: undefined }];
  return inOne(cut, task, () => [
    ...replaceLdt(cut.state, vcpu, { base, entries }),
    ...(inUse(ldt).length === 0 ? [] : flush),
  ]);
}

/** Which frame of an LDT a descriptor is in, and which word of that. */
const placeOf = ({ wordsPerFrame }: Geometry, index: number): { readonly at: number; readonly word: number } => ({
  at: Math.floor(index / wordsPerFrame),
  word: index % wordsPerFrame,
});

/** The processor has read the descriptor. */
function read(cut: Cut, vcpu: VcpuAgent, index: number): Turn {
  const { at, word } = placeOf(cut.state.geometry, index);
  const { lo, hi } = wordAt(cut.state, contextOf(cut.state, vcpu).ldt.frames[at] ?? (0 as Mfn), word);
  return end(cut, 'ok', { words: [{ lo, hi }] });
}

/** One micro-step of a segment's being loaded. */
export function loadSegment(cut: Cut, task: Task<OpOf<'pv.loadSegment'>>): Turn {
  const { op, work } = task;
  const vcpu = paravirtualCaller(cut, task);
  if (vcpu === undefined) return end(cut, 'generalProtection');
  const { geometry } = cut.state;
  const { ldt, root } = contextOf(cut.state, vcpu);
  const { at, word } = placeOf(geometry, op.index);
  const page = ((ldt.base + at) % PAGES) as Gfn;
  if (work.at === 'begin') {
    if (op.index >= ldt.entries) return end(cut, 'generalProtection');
    if ((ldt.frames[at] ?? 0) !== 0) return read(cut, vcpu, op.index);
    if (!isCanonicalPage(geometry, page)) return end(cut, 'generalProtection');
  }
  const ran = running(cut, task, () => [
    { do: 'seekLdt', vcpu, at, mfn: root as number as Mfn, level: geometry.levels },
  ]);
  if (ran.todo.length > 0) return go(ran.cut, task, { at: 'next', pv: pvWork(ran.todo) });
  if (ran.failed === undefined) return read(ran.cut, vcpu, op.index);
  return end(ran.cut, 'pageFault', { out: [0], words: [linearAddress({ gfn: page, offset: 8 * word })] });
}
