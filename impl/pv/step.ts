// Direct paging: a paravirtual guest's processors walk its own tables as they stand, and the guest asks for every change of them.
// This file routes by kind. A first reader may begin with types.ts. Sources: Xen arch/x86/mm.c; docs/facts/xen-direct-paging.md.

import type { PvOp } from '#abi/pv.ts';
import type { Reply } from '#abi/reply.ts';
import { unreachable } from '#lib/invariant.ts';
import type { Call } from '../execution.ts';
import type { Machine } from '../machine.ts';
import type { Step } from '../port.ts';
import { vmAssist } from './assist.ts';
import { setContext } from './context.ts';
import { mmuext } from './extended.ts';
import { setGdt, updateDescriptor } from './gdt.ts';
import { loadSegment, setLdt } from './ldt.ts';
import { updateVaMapping } from './mapping.ts';
import { mmuUpdate } from './update.ts';

/** The body of an operation. */
export function* pvStep(m: Machine, call: Call, op: PvOp<'concrete'>): Step<Reply> {
  switch (op.kind) {
    case 'pv.mmuUpdate':
      return yield* mmuUpdate(m, call, op);
    case 'pv.mmuext':
      return yield* mmuext(m, call, op);
    case 'pv.updateVaMapping':
      return yield* updateVaMapping(m, call, op);
    case 'pv.setContext':
      return yield* setContext(m, call, op);
    case 'pv.setGdt':
      return yield* setGdt(m, call, op);
    case 'pv.setLdt':
      return yield* setLdt(m, call, op);
    case 'pv.loadSegment':
      return yield* loadSegment(m, call, op);
    case 'pv.updateDescriptor':
      return yield* updateDescriptor(m, call, op);
    case 'pv.vmAssist':
      return vmAssist(m, call, op);
    default:
      return unreachable(op);
  }
}
