// The GDT of a paravirtual vCPU: frames of descriptors that its processor uses, each held and typed; and changes of single descriptors.
// A first reader may skip nothing. Source: Xen arch/x86/pv/descriptor-tables.c (do_set_gdt, pv_set_gdt, pv_destroy_gdt,
// do_update_descriptor).

import type { Mfn } from '#abi/address.ts';
import type { VcpuAgent } from '#abi/agents.ts';
import { bit } from '#lib/bits.ts';
import type { Cut } from '../cut.ts';
import { contextOf } from '../paging/context.ts';
import { end, type OpOf, type Task, type Turn } from '../progress.ts';
import { inOne, paravirtualCaller } from './batch.ts';
import { putDescriptors } from './descriptor-frames.ts';
import { adjustedDescriptor, gdtLimit } from './descriptors.ts';
import { attempt, type Todo } from './work.ts';

/** Each frame is held as descriptors; one that cannot be lets go of those before it, the last first. */
const taking = (frames: readonly Mfn[], { domain: owner }: VcpuAgent): Todo =>
  frames.flatMap((mfn, at): Todo => {
    const before = putDescriptors(frames.slice(0, at).toReversed());
    return [
      attempt({ do: 'getPage', mfn, owner }, 'EINVAL', ...before),
      attempt({ do: 'getType', mfn, type: 'descriptors' }, 'EINVAL', { do: 'putPage', mfn }, ...before),
    ];
  });

/** One micro-step of set_gdt. */
export function setGdt(cut: Cut, task: Task<OpOf<'pv.setGdt'>>): Turn {
  const { op, work } = task;
  const vcpu = paravirtualCaller(cut, task);
  if (vcpu === undefined) return end(cut, 'ENOSYS');
  if (work.at !== 'begin') return inOne(cut, task, () => []);
  const { geometry } = cut.state;
  if (op.entries > gdtLimit(geometry)) return end(cut, 'EINVAL');
  const count = Math.ceil(op.entries / geometry.wordsPerFrame);
  if (count > op.frames.length) return end(cut, 'EFAULT');
  const frames = op.frames.slice(0, count).map(({ frame }) => frame);
  const { gdt: old } = contextOf(cut.state, vcpu);
  return inOne(cut, task, () => [
    ...taking(frames, vcpu),
    { do: 'setGdt', vcpu, gdt: { frames, entries: op.entries } },
    ...putDescriptors(old.frames),
    { do: 'forget', domain: vcpu.domain, vcpus: bit(vcpu.vcpu), page: undefined },
  ]);
}

/** One micro-step of update_descriptor. */
export function updateDescriptor(cut: Cut, task: Task<OpOf<'pv.updateDescriptor'>>): Turn {
  const { op, work, caller } = task;
  if (paravirtualCaller(cut, task) === undefined) return end(cut, 'ENOSYS');
  if (work.at !== 'begin') return inOne(cut, task, () => []);
  const { geometry } = cut.state;
  const word = adjustedDescriptor(geometry, op.value);
  if (op.offset !== 0 || word === undefined) return end(cut, 'EINVAL');
  return inOne(cut, task, () => [
    attempt({ do: 'getPage', mfn: op.frame, owner: caller }, 'EINVAL'),
    { do: 'describe', mfn: op.frame, index: op.index % geometry.wordsPerFrame, word, author: caller },
  ]);
}
