// Flushes that a paravirtual guest asks for itself. Whom they are for runs on processors or does not; those that do are made to forget
// together, and nobody is told.
// A first reader may skip nothing. Sources: Xen arch/x86/mm.c (do_mmuext_op, MMUEXT_TLB_FLUSH_LOCAL to MMUEXT_INVLPG_ALL;
// vcpumask_to_pcpumask), arch/x86/pv/emul-priv-op.c (invlpg); paging_invlpg in asm/paging.h.

import type { VcpuAgent } from '#abi/agents.ts';
import { pvPcids } from '#abi/pv.ts';
import { bit, hasAll } from '#lib/bits.ts';
import type { Machine } from '../machine.ts';
import { inTables, isCanonical } from '../paging/pages.ts';
import type { Step } from '../port.ts';
import { forgetAll, pcpusOf } from '../tlb/flush.ts';
import { invalidateAddress, invlpg, type Running } from '../tlb/linear-cache.ts';
import { indexIn, isXenSlot } from './entry.ts';
import { enterKernel } from './mode.ts';
import { keyOf } from './owner.ts';

/** Whose processors: the caller's, those of some vCPUs (a bit for each), of all. */
export type Whose = 'own' | 'all' | { readonly vcpus: number };

/** What they forget: everything, or what leads from a linear frame. */
export type What = 'everything' | { readonly page: number };

const isMeant = (whose: Whose, vcpu: number, own: number): boolean =>
  whose === 'all' || (whose === 'own' ? vcpu === own : hasAll(whose.vcpus, bit(vcpu)));

/** Whether nothing can be remembered of a linear frame: it is none. Of the hypervisor's part nobody else's processors are troubled. */
function isNothing(m: Machine, page: number, whose: Whose): boolean {
  if (!isCanonical(m, page)) return true;
  const { levels } = m.geometry;
  return whose !== 'own' && isXenSlot(m, levels, indexIn(m, levels, inTables(m, page)));
}

/** Processors of the caller's domain forget, as asked. */
export function* flushFor(
  m: Machine,
  { domain, vcpu: own }: VcpuAgent,
  { whose, what }: { readonly whose: Whose; readonly what: What },
): Step<void> {
  if (what !== 'everything' && isNothing(m, what.page, whose)) return;
  yield* m.port.point('flush', 'cache');
  m.port.choose({ kind: 'forgotten' });
  const first = domain * m.geometry.capacity.vcpusPerDomain;
  const keyOn = (pcpu: number): number => m.f.pcpuVcpu.get(pcpu) - 1;
  const pcpus = pcpusOf(m, domain).filter((pcpu) => isMeant(whose, keyOn(pcpu) - first, own));
  if (what === 'everything') yield* forgetAll(m, pcpus, false);
  else for (const pcpu of pcpus) forgetPage(m, { pcpu, key: keyOn(pcpu), root: 0 }, inTables(m, what.page));
}

/** A processor forgets a linear frame, of the guest's kernel and of its user. */
function forgetPage(m: Machine, of: Running, page: number): void {
  if (!m.pvPcids) invlpg(m, of, page);
  else for (const pcid of Object.values(pvPcids)) invalidateAddress(m, of.pcpu, { pcid, page });
}

/** INVLPG by the kernel of a paravirtual guest. */
export function* emulateInvlpg(m: Machine, agent: VcpuAgent, page: number): Step<void> {
  enterKernel(m, keyOf(m, agent));
  yield* flushFor(m, agent, { whose: 'own', what: { page } });
}
