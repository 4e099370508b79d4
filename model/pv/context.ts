// A vCPU of a paravirtual guest is given what it begins with: a root, as the control domain says. The guest is paused meanwhile.
// A first reader may skip nothing. Sources: Xen common/domctl.c (XEN_DOMCTL_setvcpucontext), arch/x86/domain.c
// (arch_set_info_guest).

import { tableType } from '#abi/pv.ts';
import { wait, type Cut } from '../cut.ts';
import { controlled } from '../memory/life.ts';
import { contextOf, vcpuAgent } from '../paging/context.ts';
import { at, end, type OpOf, type Task, type Turn } from '../progress.ts';
import { withDomain, type State } from '../state.ts';
import { inOne } from './batch.ts';
import { hold } from './roots.ts';
import { attempt, putUnparked, type Item, type Todo } from './work.ts';

/** vCPU 0 brings what its domain is to be assisted with. */
const assisting = (state: State, { op: { target, vcpu, by } }: Task<OpOf<'pv.setContext'>>): State =>
  vcpu === 0 ? withDomain(state, target, { writesTables: by === 'writer' }) : state;

/** One micro-step of giving a vCPU its first root. */
export function setContext(cut: Cut, task: Task<OpOf<'pv.setContext'>>): Turn {
  const { op, work } = task;
  const { frame: mfn } = op;
  if (work.at !== 'begin') return inOne(cut, task, () => []);
  const domain = controlled(cut, task);
  if (typeof domain === 'string') return end(cut, domain);
  if (domain.kind !== 'pv' || domain.state !== 'running' || op.vcpu >= domain.vcpus) return end(cut, 'EINVAL');
  if (domain.calls > 0) return wait();
  const vcpu = vcpuAgent(domain.id, op.vcpu);
  const { root } = contextOf(cut.state, vcpu);
  if (root !== 0) return end(cut, root === (mfn as number) ? 'ok' : 'EOPNOTSUPP');
  const giving: Todo = [
    attempt({ do: 'getPage', mfn, owner: domain.id }, 'EINVAL'),
    attempt({ do: 'getType', mfn, type: tableType(cut.state.geometry.levels) }, undefined, putUnparked(mfn)),
    attempt({ do: 'beginContext', vcpu, mfn }, 'EINVAL', { do: 'putType', mfn }, { do: 'putPage', mfn }),
  ];
  const held = at(cut, hold(assisting(cut.state, task), domain.id, 1));
  const resume: Item = { do: 'resume', domain: domain.id };
  return inOne(held, task, () => [attempt(giving, undefined, resume), resume]);
}
