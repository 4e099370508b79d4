// What a dying paravirtual guest gives up beside what others do: the roots of its vCPUs, and the pins of its pages. Tables go with
// the last that refers to them. A first reader may skip nothing.
// Sources: Xen arch/x86/domain.c (domain_relinquish_resources, relinquish_memory, vcpu_destroy_pagetables).

import type { Gfn, Mfn, VcpuId } from '#abi/address.ts';
import { cutAt, type Cut } from '../cut.ts';
import { contextOf, vcpuAgent, withContext } from '../paging/context.ts';
import { end, go, type Situation, type Turn } from '../progress.ts';
import { frameOf, type Domain, type State } from '../state.ts';
import { putDescriptors } from './descriptor-frames.ts';
import { putRoot } from './roots.ts';
import { prepare, runOne, type Ran } from './run.ts';
import { fail, halting, pvWork, type Item, type Todo } from './work.ts';

/** Nothing is left to do of a root or page: it counts for preemption. */
function goOn({ cut, todo, failed }: Ran, task: Situation, mfn = task.work.mfn): Turn {
  const { part } = task.work;
  // It is to stop within a table, which stays partial.
  if (failed !== undefined) return end(cut, 'preempted', { done: part });
  return go(cut, task, { at: 'next', mfn, pv: pvWork(todo), part: todo.length > 0 ? part : part + 1 });
}

/** One micro-step of giving up the root or page in hand; undefined: none is. */
export const relinquishing = (cut: Cut, task: Situation): Turn | undefined =>
  task.work.pv.todo.length === 0 ? undefined : goOn(runOne(cut, task.work.pv.todo), task);

/** Plans come before the first act. */
function begun(cut: Cut, todo: Todo): Ran {
  const ready = prepare(cut, todo);
  return runOne(ready.cut, ready.todo);
}

/** Gives up the next root, or what a call has left partial; undefined: there is none. A vCPU's kernel has its own first. */
export function giveRoot(cut: Cut, task: Situation, domain: Domain): Turn | undefined {
  if (domain.kind !== 'pv') return undefined;
  for (let vcpu = 0; vcpu < domain.vcpus; vcpu += 1) {
    const agent = vcpuAgent(domain.id, vcpu as VcpuId);
    const { root, userRoot, oldTable } = contextOf(cut.state, agent);
    const none = 0 as Gfn;
    const keep = (mfn: Mfn): Todo => [{ do: 'keepOld', vcpu: agent, mfn }, fail('restart')];
    if (oldTable !== 0) {
      const letGo: Todo = [
        halting({ do: 'putPartial', mfn: oldTable }, keep(oldTable)),
        { do: 'putPage', mfn: oldTable },
      ];
      const without = cutAt(cut, withContext(cut.state, agent, { oldTable: 0 as Mfn }));
      return goOn(begun(without, letGo), task);
    }
    if (root === 0 && userRoot === 0) continue;
    const state = withContext(cut.state, agent, root === 0 ? { userRoot: none } : { root: none });
    return goOn(begun(cutAt(cut, state), putRoot(root === 0 ? userRoot : root, keep)), task);
  }
  return giveDescriptors(cut, task, domain);
}

/** After all roots, what the next vCPU that has any uses of its LDT, and then its GDT. */
function giveDescriptors(cut: Cut, task: Situation, domain: Domain): Turn | undefined {
  for (let vcpu = 0; vcpu < domain.vcpus; vcpu += 1) {
    const agent = vcpuAgent(domain.id, vcpu as VcpuId);
    const { gdt, ldt } = contextOf(cut.state, agent);
    const frames = [...ldt.frames.filter((mfn) => mfn !== 0), ...gdt.frames];
    if (frames.length === 0) continue;
    const without = withContext(cut.state, agent, { gdt: { frames: [], entries: 0 }, ldt: { ...ldt, frames: [] } });
    return goOn(begun(cutAt(cut, without), putDescriptors(frames)), task);
  }
  return undefined;
}

/** Whether a frame is one that a dying domain still has a hold on. */
export const isHeld = (state: State, { id }: Domain, mfn: Mfn): boolean => {
  const { role, owner, allocated, pinned, partial } = frameOf(state, mfn);
  return role === 'ram' && owner === id && (allocated || pinned || partial !== undefined);
};

/** Gives up a page: its pin, or what keeps it as a table that is partial; then the page itself. */
export function givePvPage(cut: Cut, task: Situation, mfn: Mfn): Turn {
  const { allocated, pinned, partial } = frameOf(cut.state, mfn);
  const put: Item = { do: 'putPage', mfn };
  const unpinned: Todo = pinned ? [{ do: 'unpin', mfn }, halting({ do: 'putType', mfn }, [put]), put] : [];
  const own: Todo = allocated ? [{ do: 'dropAllocated', mfn }] : [];
  const whole: Todo = pinned || partial === undefined ? [] : [{ do: 'putPartial', mfn }];
  return goOn(runOne(cut, [...unpinned, ...whole, ...own]), task, mfn);
}
