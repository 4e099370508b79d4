// A processor met less than it needs, because a listener left no more of the gfn's rights. The hypervisor decides under the P2M lock: what
// gives way by itself does so; who listens is told, and the access waits; without a listener the restriction goes, or the domain.
// Where the type of memory is asked next, a write may be one that is to be noted (log-write.ts).
// A first reader may skip nothing. Sources: Xen arch/x86/mm/mem_access.c (p2m_mem_access_check), arch/x86/hvm/hvm.c
// (hvm_hap_nested_page_fault).

import { p2mAccessRights, type P2mAccess } from '#abi/hap.ts';
import { RIGHT, rightsOf } from '#abi/rights.ts';
import { hasAll } from '#lib/bits.ts';
import { lockP2m, lookup, unlockP2m, type Found } from '../hap/table.ts';
import type { Machine } from '../machine.ts';
import { crash } from '../memory/life.ts';
import { setP2m } from '../memory/p2m.ts';
import type { Step } from '../port.ts';
import { logWrite } from './log-write.ts';

/** A gfn that a vCPU wants to use, and the rights that it needs for that. */
export interface Use {
  readonly gfn: number;
  readonly need: number;
}

const leftBy = (access: P2mAccess): number => rightsOf(p2mAccessRights[access]);

const isKept = (found: Found | undefined, need: number): found is Found =>
  found !== undefined && found.type !== 'populateOnDemand' && !hasAll(leftBy(found.access), need);

/** Whether the use is kept from `dom` by what is left of the gfn's rights. */
export const isKeptFrom = (m: Machine, dom: number, { gfn, need }: Use): boolean => isKept(lookup(m, dom, gfn), need);

/** How an access that was kept from its domain goes on: it is made again, or it waits. */
type Heeded = 'retried' | 'waits';

/** Decides what becomes of it. */
export function* heed(m: Machine, dom: number, use: Use): Step<Heeded> {
  yield* lockP2m(m, dom);
  const heeded = yield* decide(m, dom, use);
  yield* unlockP2m(m, dom);
  if (heeded === 'retried') m.port.choose({ kind: 'retried' });
  return heeded === 'waits' ? 'waits' : 'retried';
}

/** The same with the lock held. `noted`: an access that has had its write noted, and is logged as made again by that. */
function* decide(m: Machine, dom: number, { gfn, need }: Use): Step<Heeded | 'noted'> {
  const found = lookup(m, dom, gfn);
  if (!isKept(found, need)) return 'retried';
  const { access } = found;
  const isWrite = hasAll(need, RIGHT.write);
  const isHeard = m.f.domListens.get(dom) !== 0;
  const stops = !isHeard && m.f.domAccessRequired.get(dom) !== 0;
  if (access === 'rx2rw' && isWrite) return (yield* leave(m, dom, { gfn, found, access: 'rw' })) ? 'retried' : 'waits';
  const gives = access === 'n2rwx' || (!isHeard && !stops);
  if (!gives && !stops) return 'waits';
  if (gives && !(yield* leave(m, dom, { gfn, found, access: 'rwx' })) && !stops) return 'waits';
  if (stops) crash(m, dom);
  if (!stops && !isHeard) return 'retried';
  const isRam = found.type === 'ramRw' || found.type === 'ramLogDirty';
  if (!isWrite || !isRam) return 'retried';
  return (yield* logWrite(m, dom, gfn)) ? 'noted' : 'waits';
}

/** Leaves so much of a gfn's rights; false: there is no table to split a superpage with. */
function* leave(
  m: Machine,
  dom: number,
  { gfn, found, access }: { readonly gfn: number; readonly found: Found; readonly access: P2mAccess },
): Step<boolean> {
  return yield* setP2m(m, dom, { gfn, order: 0, mfn: found.mfn, type: found.type, access });
}
