// The paging context of a vCPU: its registers by name, and what the rules of access rights make of them.
// A first reader may skip this file. Sources: Intel SDM vol. 3A, "Paging Modes and Control Bits", "Canonical Addressing".

import type { DomId, Gfn, Mfn, Word } from '#abi/address.ts';
import type { Agent, VcpuAgent } from '#abi/agents.ts';
import type { Geometry } from '#abi/geometry.ts';
import { controls, type AccessOp, type Control } from '#abi/paging.ts';
import { bit, hasAll, low32, pow2 } from '#lib/bits.ts';
import { vcpuKey, withParts, type Context, type State } from '../state.ts';
import type { Paging } from './mode.ts';
import type { Attempt } from './rights.ts';

/** How a vCPU begins. */
export const RESET: Context = {
  controls: 0,
  root: 0 as Gfn,
  pcid: 0,
  loaded: [],
  userRoot: 0 as Gfn,
  isUser: false,
  oldTable: 0 as Mfn,
  gdt: { frames: [], entries: 0 },
  ldt: { frames: [], entries: 0, base: 0 as Gfn },
};

type Vcpu = Pick<VcpuAgent, 'domain' | 'vcpu'>;

export const contextOf = (state: State, { domain, vcpu }: Vcpu): Context =>
  state.contexts.get(vcpuKey(state, domain, vcpu)) ?? RESET;

/** `state` with `change` in the context of a vCPU. */
export function withContext(state: State, vcpu: Vcpu, change: Partial<Context>): State {
  const old = contextOf(state, vcpu);
  const context: Context = {
    controls: change.controls ?? old.controls,
    root: change.root ?? old.root,
    pcid: change.pcid ?? old.pcid,
    loaded: change.loaded ?? old.loaded,
    userRoot: change.userRoot ?? old.userRoot,
    isUser: change.isUser ?? old.isUser,
    oldTable: change.oldTable ?? old.oldTable,
    gdt: change.gdt ?? old.gdt,
    ldt: change.ldt ?? old.ldt,
  };
  return withParts(state, { contexts: state.contexts.set(vcpuKey(state, vcpu.domain, vcpu.vcpu), context) });
}

/** The root that counts: of a paravirtual guest that of its mode. */
export const rootOf = ({ root, userRoot, isUser }: Context): Gfn => (isUser ? userRoot : root);

export const isOn = ({ controls: register }: Context, control: Control): boolean =>
  hasAll(register, bit(controls.indexOf(control)));

/** The context of an agent that names linear addresses; undefined: what it names is guest-physical. */
export function linearContext(state: State, agent: Agent): Context | undefined {
  // Without contexts nobody has paging on, and most runs are without.
  if (agent.kind !== 'vcpu' || state.contexts.size === 0) return undefined;
  const context = state.contexts.get(vcpuKey(state, agent.domain, agent.vcpu));
  return context !== undefined && isOn(context, 'paging') ? context : undefined;
}

/** Linear frames of long mode: those whose bits from the highest that is translated on are all the same. */
export function isCanonicalPage({ levels, bitsPerLevel }: Geometry, page: number): boolean {
  const half = pow2(levels * bitsPerLevel - 1);
  return page < half || page >= PAGES - half;
}

/** Linear frames of 64-bit addresses; the last is followed by the first. */
export const PAGES = pow2(52);

/** The address of a byte of a linear frame. */
export const linearAddress = ({ gfn, offset }: { readonly gfn: number; readonly offset: number }): Word => ({
  lo: low32((gfn % 0x10_0000) * 0x1000 + offset),
  hi: Math.floor(gfn / 0x10_0000),
});

/** A linear frame by a number that may lie before the first or behind the last: addresses wrap. Sums of two are not exact in a double, remainders are. */
export const wrappedPage = (page: number): number => ((page % PAGES) + PAGES) % PAGES;

/** A linear frame as tables translate it: the bits above are copies. */
export const pageBitsOf = ({ levels, bitsPerLevel }: Geometry, page: number): number =>
  page % pow2(levels * bitsPerLevel);

/** What determines access rights. Sizes of entries and tables are the geometry's and not looked up here. */
export const pagingOf = ({ geometry, vendor }: State, context: Context): Paging => ({
  mode: 'fourLevel',
  vendor,
  root: 0,
  pdptes: undefined,
  maxPhysAddr: geometry.maxPhysAddr,
  page1Gb: geometry.superpageLevels > 2,
  superpages: true,
  executeDisable: isOn(context, 'executeDisable'),
  writeProtect: isOn(context, 'writeProtect'),
  smep: isOn(context, 'smep'),
  smap: isOn(context, 'smap'),
  userKeys: undefined,
  supervisorKeys: undefined,
});

const kindOf: Readonly<Record<AccessOp<'concrete'>['kind'], Attempt['kind']>> = {
  'paging.read': 'read',
  'paging.write': 'write',
  'paging.compareExchange': 'readModifyWrite',
  'paging.fetch': 'fetch',
};

/** An access as the rules of access rights see it. */
export const attemptOf = ({ kind, as }: AccessOp<'concrete'>): Attempt => ({
  kind: kindOf[kind],
  privilege: as === 'user' ? 'user' : 'supervisor',
  ac: as === 'supervisorAc' ? 'set' : 'clear',
});

/** A vCPU as an agent. */
export const vcpuAgent = (domain: DomId, vcpu: VcpuAgent['vcpu']): VcpuAgent => ({ kind: 'vcpu', domain, vcpu });
