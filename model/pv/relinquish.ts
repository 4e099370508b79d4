// What a dying paravirtual guest gives up beside what others do: the roots of its vCPUs, and the pins of its pages. Tables go with
// the last that refers to them. A first reader may skip nothing.
// Sources: Xen arch/x86/domain.c (domain_relinquish_resources, relinquish_memory, vcpu_destroy_pagetables).

import type { Gfn, Mfn, VcpuId } from '#abi/address.ts';
import { cutAt, type Cut } from '../cut.ts';
import { contextOf, vcpuAgent, withContext } from '../paging/context.ts';
import { go, type Situation, type Turn } from '../progress.ts';
import { frameOf, type Domain, type State } from '../state.ts';
import { putRoot } from './roots.ts';
import { runOne, type Ran } from './run.ts';
import type { Todo } from './work.ts';

/** Nothing is left to do of a root or page: it counts for preemption. */
function goOn({ cut, todo }: Ran, task: Situation, mfn = task.work.mfn): Turn {
  const { part } = task.work;
  return go(cut, task, { at: 'next', mfn, pv: { todo }, part: todo.length > 0 ? part : part + 1 });
}

/** One micro-step of giving up the root or page in hand; undefined: none is. */
export const relinquishing = (cut: Cut, task: Situation): Turn | undefined =>
  task.work.pv.todo.length === 0 ? undefined : goOn(runOne(cut, task.work.pv.todo), task);

/** Gives up the next root; undefined: there is none. A vCPU's kernel has its own first. */
export function giveRoot(cut: Cut, task: Situation, domain: Domain): Turn | undefined {
  if (domain.kind !== 'pv') return undefined;
  for (let vcpu = 0; vcpu < domain.vcpus; vcpu += 1) {
    const agent = vcpuAgent(domain.id, vcpu as VcpuId);
    const { root, userRoot } = contextOf(cut.state, agent);
    const none = 0 as Gfn;
    if (root === 0 && userRoot === 0) continue;
    const state = withContext(cut.state, agent, root === 0 ? { userRoot: none } : { root: none });
    return goOn(runOne(cutAt(cut, state), putRoot(root === 0 ? userRoot : root)), task);
  }
  return undefined;
}

/** Whether a frame is one that a dying domain still has a hold on. */
export const isHeld = (state: State, { id }: Domain, mfn: Mfn): boolean => {
  const { role, owner, allocated, pinned } = frameOf(state, mfn);
  return role === 'ram' && owner === id && (allocated || pinned);
};

/** Gives up a page: its pin, then the page itself. */
export function givePvPage(cut: Cut, task: Situation, mfn: Mfn): Turn {
  const unpinned: Todo = frameOf(cut.state, mfn).pinned
    ? [
        { do: 'unpin', mfn },
        { do: 'putType', mfn },
        { do: 'putPage', mfn },
      ]
    : [];
  return goOn(runOne(cut, [...unpinned, { do: 'dropAllocated', mfn }]), task, mfn);
}
