// What a guest may have the hypervisor do for it unasked. A paravirtual guest knows all of these; others but one, which concerns
// nothing here. A first reader may skip it. Source: Xen common/domain.c (do_vm_assist), asm/domain.h (arch_vm_assist_valid_mask).

import { vmAssists } from '#abi/pv.ts';
import type { Cut } from '../cut.ts';
import { at, end, type OpOf, type Task, type Turn } from '../progress.ts';
import { isParavirtual, withDomain } from '../state.ts';

type Assist = (typeof vmAssists)[number];

const OF_ALL: readonly Assist[] = ['runstateUpdateFlag'];
const OF_PARAVIRTUAL: readonly Assist[] = vmAssists.filter((one) => one !== 'unknown');

/** The one micro-step of vm_assist. */
export function vmAssist(cut: Cut, task: Task<OpOf<'pv.vmAssist'>>): Turn {
  const { caller, op } = task;
  const known = isParavirtual(cut.state, caller) ? OF_PARAVIRTUAL : OF_ALL;
  if (!known.includes(op.assist)) return end(cut, 'EINVAL');
  if (op.command === 'unknown') return end(cut, 'ENOSYS');
  if (op.assist !== 'writablePagetables') return end(cut, 'ok');
  return end(at(cut, withDomain(cut.state, caller, { writesTables: op.command === 'enable' })), 'ok');
}
