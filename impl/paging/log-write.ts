// A processor's write to RAM whose writes are logged: it leaves its guest, the hypervisor notes the gfn and makes it writable, and
// the access is made again. A superpage is split for it; without a table for that the access is left to its processor,
// which will try again. All under the P2M lock, whose unlock has the processors forget what was there.
// A first reader may skip it. Source: Xen arch/x86/hvm/hvm.c (hvm_hap_nested_page_fault).

import { lockP2m, lookup, unlockP2m } from '../hap/table.ts';
import type { Machine } from '../machine.ts';
import { markGfn } from '../memory/dirty-log.ts';
import { setP2m } from '../memory/p2m.ts';
import type { Step } from '../port.ts';

/** Whether the write of `dom` to `gfn`, which the nested tables refuse, is one that is to be noted. */
export const isLogged = (m: Machine, dom: number, gfn: number): boolean => lookup(m, dom, gfn)?.type === 'ramLogDirty';

/** Notes the write; false: the gfn could not be made writable. */
export function* logWrite(m: Machine, dom: number, gfn: number): Step<boolean> {
  yield* lockP2m(m, dom);
  const found = lookup(m, dom, gfn);
  let isDone = true;
  if (found?.type === 'ramRw' || found?.type === 'ramLogDirty') yield* markGfn(m, dom, gfn);
  if (found?.type === 'ramLogDirty') isDone = yield* setP2m(m, dom, { gfn, order: 0, mfn: found.mfn, type: 'ramRw' });
  yield* unlockP2m(m, dom);
  if (isDone) m.port.choose({ kind: 'retried' });
  return isDone;
}
