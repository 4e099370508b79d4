// Roots of a paravirtual guest's vCPUs: one for its kernel, one for its user, each held as a page and as a table. And the two modes,
// of which the processor knows nothing: both run in ring 3, and to change between them is to load another root, which
// forgets what is not global, or with PCIDs nothing.
// A first reader may skip `beginContext`. Sources: Xen arch/x86/mm.c (new_guest_cr3, MMUEXT_NEW_USER_BASEPTR),
// arch/x86/domain.c (arch_set_info_guest, vcpu_destroy_pagetables), arch/x86/pv/domain.c (toggle_guest_mode), pv/iret.c.

import type { DomId, Gfn, Mfn } from '#abi/address.ts';
import type { VcpuAgent } from '#abi/agents.ts';
import { controls, type Control } from '#abi/paging.ts';
import { pvPcids } from '#abi/pv.ts';
import { bit } from '#lib/bits.ts';
import { contextOf, withContext } from '../paging/context.ts';
import { isParavirtual, withDomain, type State } from '../state.ts';
import { invalidateAllButGlobals } from '../tlb/loaded.ts';
import type { Effect, Performers } from './effect.ts';
import { forget } from './flush.ts';
import { fail, halting, type Todo } from './work.ts';

/** A root is let go of, if there is one. `parks`: what is done when the operation stops in the course of that. */
export const putRoot = (root: Gfn, parks: (mfn: Mfn) => Todo = (mfn) => [fail('restart', mfn)]): Todo => {
  const mfn = root as number as Mfn;
  return root === 0 ? [] : [halting({ do: 'putType', mfn }, parks(mfn)), { do: 'putPage', mfn }];
};

/** Registers of a paravirtual guest's processor that have a bit of their own here. With PCIDs no page is global. */
const controlsOf = ({ policies }: State): number => {
  const on: readonly Control[] = [
    'paging',
    'writeProtect',
    'executeDisable',
    policies.pvPcids ? 'pcids' : 'globalPages',
  ];
  return on.reduce((sum, control) => sum + bit(controls.indexOf(control)), 0);
};

type RootActs = 'setRoot' | 'beginContext' | 'resume' | 'keepOld';

export const roots: Performers<RootActs> = {
  setRoot: (state, { vcpu, which, mfn }): Effect => {
    const { root, userRoot } = contextOf(state, vcpu);
    const next = mfn as number as Gfn;
    if (which === 'user') return { state: withContext(state, vcpu, { userRoot: next }), first: putRoot(userRoot) };
    const loaded = withContext(state, vcpu, { root: next });
    const flush = { domain: vcpu.domain, vcpus: bit(vcpu.vcpu), page: undefined };
    return { state: forget(loaded, flush), first: putRoot(root) };
  },

  // Whoever is being torn down has given up its roots already.
  beginContext: (state, { vcpu, mfn }): Effect => {
    const root = mfn as number as Gfn;
    if (state.domains.get(vcpu.domain)?.state !== 'running') return { state, failed: 'EINVAL' };
    return { state: withContext(state, vcpu, { root, controls: controlsOf(state), isUser: false }) };
  },

  keepOld: (state, { vcpu, mfn }) => ({ state: withContext(state, vcpu, { oldTable: mfn }) }),

  resume: (state, { domain }) => ({ state: hold(state, domain, -1) }),
};

/** The hypervisor itself pauses a domain, or lets it go on. */
export function hold(state: State, id: DomId, by: 1 | -1): State {
  const held = state.domains.get(id)?.held ?? 0;
  return withDomain(state, id, { held: held + by });
}

/** A vCPU comes to run as its guest's kernel or user; undefined: it has no root for that. Others have no such modes. */
export function enterMode(state: State, vcpu: VcpuAgent, isUser: boolean): State | undefined {
  if (!isParavirtual(state, vcpu.domain)) return state;
  const context = contextOf(state, vcpu);
  if (context.isUser === isUser) return state;
  if (isUser && context.userRoot === 0) return undefined;
  if (state.policies.pvPcids) return withContext(state, vcpu, { isUser, pcid: isUser ? pvPcids.user : pvPcids.kernel });
  const { loaded } = invalidateAllButGlobals(context);
  return withContext(state, vcpu, { isUser, loaded });
}
