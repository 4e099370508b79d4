// Direct paging: a paravirtual guest's tables are those that its processors walk, and it changes them by asking. This file routes by
// kind and may be skipped. Sources: Xen arch/x86/mm.c; see README.md.

import type { PvOp } from '#abi/pv.ts';
import { performing, type Handler, type Handlers, type Perform } from '../progress.ts';
import { vmAssist } from './assist.ts';
import { setContext } from './context.ts';
import { mmuext } from './extended.ts';
import { setGdt, updateDescriptor } from './gdt.ts';
import { loadSegment, setLdt } from './ldt.ts';
import { mmuUpdate, updateVaMapping } from './update.ts';

const handlers: Handlers<PvOp<'concrete'>> = {
  'pv.mmuUpdate': mmuUpdate,
  'pv.mmuext': mmuext,
  'pv.updateVaMapping': updateVaMapping,
  'pv.setContext': setContext,
  'pv.setGdt': setGdt,
  'pv.setLdt': setLdt,
  'pv.loadSegment': loadSegment,
  'pv.updateDescriptor': updateDescriptor,
  'pv.vmAssist': vmAssist,
};

/** How an operation of direct paging goes on. */
export const pvStep = (op: PvOp<'concrete'>): Perform => performing(handlers[op.kind] as Handler<typeof op>, op);
